"""Finished avatars against captures: pictures of every frame, and how alike they are to the recorded ones."""
