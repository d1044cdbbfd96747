"""Every panel is drawn in real windows without an error, with an avatar selected and the engine chosen."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.windows.conftest import Open

SCRIPTS = Path(__file__).parent / "scripts"
EXPECTED = ("backend", "library", "train", "animate", "edit", "relight", "camera", "render")


def test_every_panel_draws(open_blender: Open, backend: str) -> None:
    blender = open_blender()
    found = blender.run(SCRIPTS / "panels.py", "tiny", address=backend, timeout_s=200)
    names = [name for name, _ in found["panels"]]
    assert set(names) >= {f"EFFIGY_PT_{name}" for name in EXPECTED}
    assert not [problem for _, problem in found["panels"] if problem]
    assert found["faults"] == []
    for name in names:
        picture = blender.folder / "out" / f"panel_{name.removeprefix('EFFIGY_PT_')}.png"
        with Image.open(picture) as image:
            assert image.size == blender.size
