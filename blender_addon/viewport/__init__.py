"""Avatars in Blender's 3D views: asked for without waiting, drawn with the scene's depth over every shading mode.

`overlay` is what Blender calls; `frames` is the network thread; `painter` and `shaders` draw; `views` decides what to ask.
"""
