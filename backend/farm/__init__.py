"""What a render farm runs: tasks of a shot, the film of their frames, and whether machines render alike."""
