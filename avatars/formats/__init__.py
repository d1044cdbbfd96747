"""Files other projects read and write: RGBAvatar's and GaussianAvatars' avatars, and plain Gaussian splats."""
