"""Signed-distance bodies: a person's surface in volumes, as a mesh and as Gaussians on its faces (HF-Avatar)."""
