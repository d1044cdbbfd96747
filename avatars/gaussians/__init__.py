"""Sets of Gaussians: storage, binding to a template, files, and the posed sets that renderers take."""
