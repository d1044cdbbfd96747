"""Training an avatar from a capture: the loop, its configuration, losses, metrics and report."""
