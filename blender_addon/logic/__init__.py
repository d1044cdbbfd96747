"""Plain Python and numpy: no bpy, so every rule here is tested without Blender."""
