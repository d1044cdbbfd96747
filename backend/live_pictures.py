"""Pictures to be followed live: a video at its own speed, or a camera of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadCapture, WorkerFailed

CAMERA_PROCESS = Path(__file__).with_name("camera_process.py")
WIDTH_PX, HEIGHT_PX = 640, 480
"""What a camera is asked for; larger pictures cost time that the face does not need."""


class LivePictures(Protocol):
    """size_px: width, height. fps: how many are expected. dropped: pictures nobody had time for."""

    size_px: tuple[int, int]
    fps: float
    dropped: int

    def next(self) -> tuple[float, NDArray[np.uint8]] | None:
        """(time in s, RGB [H, W, 3]) of the newest picture once there is one, None after the last."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


class VideoAtItsSpeed:
    """A video file as if it were filmed now: pictures that are late are left out. Raises BadCapture.

    paced: False gives every picture at once, to measure how many can be followed.
    """

    def __init__(self, path: Path, *, paced: bool = True) -> None:
        from avatars.captures.video_pictures import VideoPictures

        self._video = VideoPictures(path, "rgb24")
        self.size_px, self.fps, self.dropped = self._video.size, self._video.fps, 0
        if self.fps <= 0:
            self._video.close()
            raise BadCapture(f"{path.name} does not say how many pictures a second it has")
        self._paced, self._number, self._began_s = paced, 0, -1.0

    def next(self) -> tuple[float, NDArray[np.uint8]] | None:
        """As in LivePictures."""
        while (picture := self._video.next()) is not None:
            time_s = self._number / self.fps
            self._number += 1
            if not self._paced:
                return time_s, picture
            if self._began_s < 0:
                self._began_s = time.monotonic()
            wait_s = self._began_s + time_s - time.monotonic()
            if wait_s < -1.5 / self.fps:
                self.dropped += 1
                continue
            time.sleep(max(0.0, wait_s))
            return time_s, picture
        return None

    def close(self) -> None:
        """End ffmpeg."""
        self._video.close()


class Camera:
    """A camera by its number, read by OpenCV in a process of the tracker's environment (python). Raises BadCapture
    where it cannot be opened, WorkerFailed where it goes away."""

    def __init__(self, index: int, python: Path) -> None:
        self.index = index
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        self._process = subprocess.Popen(
            [os.fspath(python), "-I", os.fspath(CAMERA_PROCESS), str(index), str(WIDTH_PX), str(HEIGHT_PX)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )
        head = self._line()
        if "problem" in head:
            self.close()
            raise BadCapture(
                f"Camera {index} cannot be opened",
                found=str(head["problem"]),
                do="Look whether it is plugged in and no other program uses it; the first camera is 0",
            )
        self.size_px, self.fps = (int(head["width"]), int(head["height"])), float(head["fps"]) or 30.0
        self.dropped, self._newest = 0, 0

    def next(self) -> tuple[float, NDArray[np.uint8]] | None:
        """As in LivePictures. Raises WorkerFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"next\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error
        head = self._line()
        if "number" not in head:
            raise self._gone()
        width, height = self.size_px
        content = self._process.stdout.read(width * height * 3)
        if len(content) != width * height * 3:
            raise self._gone()
        self.dropped += int(head["number"]) - self._newest - 1
        self._newest = int(head["number"])
        return float(head["time_s"]), np.frombuffer(content, np.uint8).reshape(height, width, 3)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._gone()
        found: dict[str, Any] = json.loads(line)
        return found

    def _gone(self) -> WorkerFailed:
        self.close()
        return WorkerFailed(f"Camera {self.index} gives no more pictures", do="Look whether it is still plugged in")

    def close(self) -> None:
        """End its process."""
        if self._said.closed:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._said.close()


def check_live(source: str) -> None:
    """Raises BadCapture for what is neither a camera's number nor a video file."""
    if not source.strip().isdecimal() and not Path(source).expanduser().is_file():
        raise BadCapture(f"there is no video {source!r}", expected="a camera's number (0 is the first) or a video file")


def open_live(source: str, python: Path) -> LivePictures:
    """A camera's number, or a video file. Raises BadCapture, WorkerFailed."""
    check_live(source)
    if source.strip().isdecimal():
        return Camera(int(source), python)
    return VideoAtItsSpeed(Path(source).expanduser())
