"""Avatar models and everything they are made of: templates, captures, Gaussians, rendering, lighting, training.

Imports torch and `shared`; knows nothing of servers or of Blender.
"""
