"""GaussianAvatars: Gaussians rigged to FLAME's triangles (Qian et al., CVPR 2024), read from its files and posed."""
