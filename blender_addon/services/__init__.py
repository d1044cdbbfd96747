"""Between Blender's data and `shared` types: rigs, poses, cameras, worlds, the connection."""
