"""The tracker printed in docs/online.md is run as it stands, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from avatars.online.push import PushSource
from tests.tiny import front_camera

PAGE = Path(__file__).resolve().parents[3] / "docs" / "online.md"


def test_the_tracker_of_the_page_is_understood(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) <= 25
    (tmp_path / "tracker.py").write_text(program, encoding="utf-8")
    source = PushSource("tcp://127.0.0.1:0")
    try:
        tracker = subprocess.Popen([sys.executable, str(tmp_path / "tracker.py"), source.address], cwd=tmp_path)
        frames = []
        until = time.monotonic() + 150
        while not source.ended() and time.monotonic() < until:
            frame = source.next(10.0)
            if frame is not None:
                frames.append(frame)
        assert tracker.wait(60) == 0
    finally:
        source.close()
    assert source.dropped == {}, source.last_problem
    assert [frame.number for frame in frames] == list(range(25))
    assert frames[0].rgba.shape == (256, 256, 4)
    assert frames[0].pose.expression.max() == 0.5
    looks = frames[0].camera.world_from_camera[:3, 2]
    assert np.allclose(looks, front_camera(64).world_from_camera[:3, 2]), "the camera looks at the face"
