"""Pictures written beside the drawing: all of them, in order, and what fails is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.cli import main
from backend.picture_writer import WAITING_EACH, PictureWriter
from tests.tiny import tiny_avatar


def written(number: int, wait_s: float = 0.0) -> Callable[[], np.ndarray]:
    def write() -> np.ndarray:
        time.sleep(wait_s)
        return np.full((1, 1, 4), number, np.uint8)

    return write


@pytest.mark.parametrize("writers", [0, 1, 3])
def test_all_come_out_in_order(writers: int) -> None:
    found: list[int] = []
    with PictureWriter(writers, lambda picture: found.append(int(picture[0, 0, 0]))) as writer:
        for number in range(12):
            writer.add(written(number, 0.01 * (number % 3 == 0)))
    assert found == list(range(12))


def test_the_drawing_waits_when_writers_are_behind() -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        begun.set()
        gate.wait(60)
        return np.zeros((1, 1, 4), np.uint8)

    def draw() -> None:
        with PictureWriter(1) as writer:
            for _ in range(WAITING_EACH + 1):
                writer.add(slow)

    drawing = threading.Thread(target=draw)
    drawing.start()
    assert begun.wait(60)
    drawing.join(0.1)
    assert drawing.is_alive()
    gate.set()
    drawing.join(60)
    assert not drawing.is_alive()


def test_what_fails_is_raised_and_the_rest_is_left_out() -> None:
    def fails() -> np.ndarray:
        raise OSError(28, "No space left on device")

    done: list[int] = []

    def draw() -> None:
        with PictureWriter(1, lambda picture: done.append(1)) as writer:
            for write in (written(0), fails, *(written(number, 0.001) for number in range(50))):
                writer.add(write)

    with pytest.raises(OSError, match="No space"):
        draw()
    assert len(done) < 50


def test_frames_are_the_same_bytes_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    tiny_avatar(tmp_path / "home" / "library", gaussians=200)
    words = ["render", "tiny", "--home", str(tmp_path / "home"), "--device", "cpu", "--size", "24", "24"]
    for writers in ("0", "3"):
        place = ["--frames", "5", "--orbit", "60", "--writers", writers, "--output", str(tmp_path / writers)]
        assert main([*words, *place]) == 0
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert names == [*(f"frame_{number:04d}.png" for number in range(1, 6)), "still.png"]
    assert sorted(path.name for path in (tmp_path / "3").iterdir()) == names
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    assert main([*words, "--writers", "-1", "--output", str(tmp_path / "none")]) == 2
