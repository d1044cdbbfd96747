"""Live training on a CUDA device: it learns, and what is rendered meanwhile from another thread is whole."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from avatars.captures.opening import open_capture
from avatars.online.config import load_online_config
from avatars.online.replay import CaptureReplay
from avatars.online.session import Session, draw
from tests.tiny import tiny_capture

pytestmark = pytest.mark.cuda
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("frame", ["orthonormal", "uv"])
def test_it_learns_and_is_rendered_from_another_thread(tmp_path: Path, frame: str) -> None:
    capture = open_capture(tiny_capture(tmp_path / "tiny", size=48, frames=8, cameras=2, gaussians=600))
    changes = {"post_process_images": "2000", "training.model.frame": frame, "snapshot_every": "1"}
    config = load_online_config("online_tiny", changes)
    session = Session(CaptureReplay(capture, fps=50.0, longest_px=40), config, "cuda")
    errors: list[float] = []
    problems: list[str] = []

    def look() -> None:
        while not session.over() and time.monotonic() < until:
            learner = session.learner
            newest = learner.newest() if learner is not None else None
            if learner is None or newest is None:
                time.sleep(0.005)
                continue
            with learner.read() as snapshot:
                before = snapshot.avatar.model.positions.clone()
                drawn = draw(snapshot.avatar, newest)
                truth = newest.rgba.float() / 255
                errors.append(float((drawn.features[0] - truth[..., :3]).abs().mean()))
                if not torch.equal(before, snapshot.avatar.model.positions):
                    problems.append(f"version {snapshot.version} changed while it was held")

    until = time.monotonic() + 60
    viewer = threading.Thread(target=look, daemon=True)
    session.start()
    viewer.start()
    while not session.over() and time.monotonic() < until:
        time.sleep(0.01)
    viewer.join(10)
    assert session.failure is None, session.failure
    assert session.over(), session.status
    session.close()
    assert problems == []
    assert len(errors) > 10
    assert sum(errors[-5:]) < 0.6 * sum(errors[:5])
