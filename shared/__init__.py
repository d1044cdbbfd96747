"""What Blender and the backend both speak: rigs, poses, cameras, light, messages and their transport.

Imports numpy, pyzmq and the standard library only, because it runs inside Blender's Python as well as beside torch.
"""

__version__ = "0.1.0"
