"""The captures that ship with the project. Imports no reader, so that listing them costs nothing."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
EMBEDDED = {
    "demo_head": "A synthetic talking head, many views, exact cameras and masks (ships with Effigy)",
    "demo_body": "A synthetic man in 40 poses, ten cameras around him, folds that follow the pose (ships with Effigy)",
    "demo_relight": "The same man turning: held-out poses in three lights, true materials (ships with Effigy)",
    "talking_head": "A harder one: 24 s before one fixed camera, wide expressions and head turns (ships with Effigy)",
}


def embedded_captures() -> dict[str, str]:
    """Captures that ship with the project: name -> one-line description."""
    return {name: text for name, text in EMBEDDED.items() if (DATA / name).is_dir()}
