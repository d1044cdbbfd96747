"""Recorded people: one reader per on-disk format, one `Capture` type out."""

from avatars.captures.opening import embedded_captures, open_capture

__all__ = ["embedded_captures", "open_capture"]
