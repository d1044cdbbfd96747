"""The installed zip in real Blenders without a window: what a farm runs, its files and exit statuses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tests.windows.conftest import Open

SHOT = Path(__file__).parent / "scripts" / "shot.py"


def test_frames_missing_frames_composite_and_failures(open_blender: Open, backend: str) -> None:
    blender = open_blender()
    (blender.folder / "shot.py").write_text(SHOT.read_text(encoding="utf-8"), encoding="utf-8")
    status, text = blender.background("--python-exit-code", "3", "--python", "/mnt/shot.py", address=backend)
    assert status == 0, text
    assert blender.version == "4.3" or "POINT CLOUD 3 ['position', 'radiance:base', 'radiance:sh_0'" in text

    shot = ("/mnt/shot.blend", "--command", "effigy_render")
    status, text = blender.background(*shot, "--frames", "1-2", "--missing", address=backend)
    assert status == 0, text
    folder = blender.folder / "frames"
    assert sorted(path.name for path in folder.iterdir()) == ["0001.png", "0002.png"]
    status, text = blender.background(*shot, "--check", address=backend)
    assert status == 1
    assert "Frames missing: 3." in text
    before = (folder / "0001.png").stat().st_mtime_ns
    status, text = blender.background(*shot, "--missing", address=backend)
    assert status == 0, text
    assert (folder / "0001.png").stat().st_mtime_ns == before
    assert np.asarray(Image.open(folder / "0003.png"))[24, 24].any()

    # EEVEE's first frame takes software GL half a minute, minutes on busy cores
    for name in ("composite", *["composite_eevee"] * bool(os.environ.get("EFFIGY_EEVEE"))):
        status, text = blender.background(f"/mnt/{name}.blend", "-a", address=backend, timeout_s=600)
        assert status == 0, text
        picture = np.asarray(Image.open(blender.folder / name / "0001.png"))[..., :3].astype(int)
        assert picture[24, 24].tolist() == [0, 255, 0], f"{name}: the plate hides the face"
        assert (picture[14:18, 22:26].max(-1) > 40).all(), f"{name}: and the face the empty World"
        assert (picture[14:18, 22:26, 0] > picture[14:18, 22:26, 1] * 0.8).all(), f"{name}: which is not green"

    (folder / "0002.png").unlink()
    blender.environment["EFFIGY_RETRY_S"] = "0.2"
    for words in (("/mnt/shot.blend", "-E", "EFFIGY", "-a"), ("/mnt/composite.blend", "-a"), (*shot, "--missing")):
        (blender.folder / "composite" / "0001.png").unlink(missing_ok=True)
        status, text = blender.background(*words, address="tcp://127.0.0.1:9")
        assert status == 1, text
        assert "No backend answers" in text
        assert "Frames missing: " in text
    assert not (folder / "0002.png").exists()
    assert list((blender.folder / "composite").iterdir()) == []
