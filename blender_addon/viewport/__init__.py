"""Avatars in Blender's 3D views: asked for without waiting, drawn with the scene's depth over every shading mode.

`overlay` is what Blender calls, `frames` the network thread, `contents` what there is to show, `plan` when to ask for
it; `painter` and `shaders` draw.
"""
