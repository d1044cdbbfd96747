"""Motions in real windows: progress, Esc, undo, sliders' buttons, on the old and the new kind of actions."""

from __future__ import annotations

from pathlib import Path

from tests.windows.conftest import Open

SCRIPTS = Path(__file__).parent / "scripts"


def test_motions_are_stopped_keyed_and_undone(open_blender: Open, backend: str) -> None:
    found = open_blender().run(SCRIPTS / "animate.py", address=backend)
    assert found["after_esc"] == 0
    assert found["actions_after_esc"] == 0
    assert found["keys"] == 6000
    assert found["after_undo"] == 0
    assert found["jaw_or_face_moves"] > 10
