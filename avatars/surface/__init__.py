"""The surface of a person as a triangle mesh: extraction from distances, measures, and what Blender gets of it."""
