"""Text editing that holds in motion (GaussianAvatar-Editor): prompts become new versions of avatars."""
