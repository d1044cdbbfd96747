"""Relightable talking heads: an RGBAvatar head with materials in place of colours, lit by any environment."""
