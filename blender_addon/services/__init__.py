"""Between Blender's data and `shared` types: building rigs, reading poses, cameras and worlds, keeping the connection."""
