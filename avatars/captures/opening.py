"""Open a capture by name or folder."""

from __future__ import annotations

from pathlib import Path

from avatars.captures.capture import Capture
from avatars.captures.effigy_format import read_effigy_capture
from shared.errors import BadCapture, nearest

DATA = Path(__file__).parent / "data"
EMBEDDED = {"demo_head": "A synthetic talking head, many views, exact cameras and masks (ships with Effigy)"}


def embedded_captures() -> dict[str, str]:
    """Captures that ship with the project: name -> one-line description."""
    return {name: text for name, text in EMBEDDED.items() if (DATA / name).is_dir()}


def open_capture(name_or_folder: str | Path) -> Capture:
    """A capture that ships with the project, by name, or any other by its folder. Raises BadCapture."""
    text = str(name_or_folder)
    embedded = embedded_captures()
    if text in embedded:
        return read_effigy_capture(DATA / text)
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        raise BadCapture(
            f"there is no capture {text!r}{nearest(text, embedded)}",
            expected="a folder, or one of: " + (", ".join(embedded) or "(none embedded)"),
        )
    return read_effigy_capture(folder)
