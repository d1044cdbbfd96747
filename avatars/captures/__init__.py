"""Recorded people: one reader per on-disk format, one `Capture` type out."""
