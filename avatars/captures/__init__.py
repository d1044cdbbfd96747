"""Recorded people: one reader per on-disk format, one `Capture` type out (`opening.open_capture`).

Imports none of them by itself: the render worker needs one small part of this room, and soon.
"""
