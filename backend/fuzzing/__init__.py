"""Fuzzing of everything that reads bytes from strangers: `python -m backend fuzz`, and the same table in the tests."""
