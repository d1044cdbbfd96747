"""RGBAvatar (CVPR 2025): UV-bound Gaussians with K reduced blendshapes, weighted by a small network."""
