"""Which button mends an error, where there is one. One table: a piece of the sentence -> label and operator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """label: on the button; operator: its Blender name."""

    label: str
    operator: str


_START = Remedy("Start a Backend", "effigy.start_backend")
_KEY = Remedy("Type the Key", "effigy.preferences")
REMEDIES: tuple[tuple[str, Remedy], ...] = (
    ("is in use", Remedy("Start at a Free Port", "effigy.start_at_free_port")),
    ("Blender may not go online", Remedy("Open Network Preferences", "effigy.network_preferences")),
    ("key is missing or wrong", _KEY),
    ("does not know the backend's Python", Remedy("Choose It", "effigy.preferences")),
    ("No backend answers at", _START),
    ("stopped or lost the connection", _START),
    ("Link the avatar again", Remedy("Use the Backend's Version", "effigy.relink")),
)


def remedy_for(sentence: str) -> Remedy | None:
    """The remedy of an error by its sentence; None where there is nothing to press."""
    return next((remedy for piece, remedy in REMEDIES if piece in sentence), None)
