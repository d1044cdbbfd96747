"""The face detector as Effigy uses it: a child process in the tracker's environment, asked over its pipes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import WorkerFailed

PROCESS = Path(__file__).with_name("detector_process.py")
LANDMARKS, HAND_LANDMARKS, BODY_LANDMARKS = 478, 21, 33


@dataclass(frozen=True, eq=False)
class FoundBody:
    """points: [33, 4] x, y px (centres at +0.5), depth, visibility in 0..1. world: [33, 3] m around the
    hips, in the camera's axes. hands: "left" and "right" where found -> ([21, 3] x, y px, depth; [21, 3] m).
    second: how tall another person in the picture is beside this one, 0 without."""

    points: NDArray[np.float32]
    world: NDArray[np.float32]
    hands: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    second: float = 0.0


class Detector:
    """Landmarks and masks of one picture after the other. A context manager; leaving it ends the process.

    python: an interpreter that has mediapipe (`tracker_environment`). Raises WorkerFailed when the process breaks.
    """

    def __init__(self, python: Path) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        # A PYTHONPATH of ours would put packages made for another numpy before the environment's.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            self._process = subprocess.Popen(
                [os.fspath(python), "-I", os.fspath(PROCESS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the one who asks, who ends this process in order
            )
        except OSError as error:
            self._said.close()
            raise WorkerFailed("The face detector does not start", found=f"{python}: {error.strerror}") from error
        self.version = str(self._line().get("ready", ""))

    def faces(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[faces, 478, 3] of an RGB picture [H, W, 3], the largest first: x, y in px (centres at +0.5) and depth."""
        count = int(self._ask("face", picture)["faces"])
        return self._floats(count, LANDMARKS, 3)

    def hands(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[hands, 21, 3] of an RGB picture [H, W, 3], at most two: x, y in px and depth."""
        count = int(self._ask("hands", picture)["hands"])
        return self._floats(count, HAND_LANDMARKS, 3)

    def body(self, picture: NDArray[np.uint8]) -> FoundBody | None:
        """The person in an RGB picture [H, W, 3], None without one."""
        head = self._ask("body", picture)
        if not int(head["bodies"]):
            return None
        points, world = self._floats(BODY_LANDMARKS, 4), self._floats(BODY_LANDMARKS, 3)
        hands = {
            str(side): (self._floats(HAND_LANDMARKS, 3), self._floats(HAND_LANDMARKS, 3)) for side in head["hands"]
        }
        return FoundBody(points, world, hands, float(head["second"]))

    def mask(self, picture: NDArray[np.uint8], *, whole_body: bool = False) -> NDArray[np.uint8]:
        """[H, W], 255 where the person is, of an RGB picture [H, W, 3]; head and shoulders, or the whole body."""
        self._ask("body mask" if whole_body else "mask", picture)
        height, width = picture.shape[:2]
        return np.frombuffer(self._read(height * width), np.uint8).reshape(height, width)

    def _floats(self, *shape: int) -> NDArray[np.float32]:
        return np.frombuffer(self._read(int(np.prod(shape)) * 4), np.float32).reshape(shape)

    def _ask(self, want: str, picture: NDArray[np.uint8]) -> dict[str, Any]:
        head = json.dumps({"want": want, "width": picture.shape[1], "height": picture.shape[0]}).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(head + b"\n" + np.ascontiguousarray(picture, np.uint8).tobytes())
            self._process.stdin.flush()
        except OSError as error:
            raise self._broken() from error
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._broken()
        found: dict[str, Any] = json.loads(line)
        return found

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        content = self._process.stdout.read(size)
        if len(content) != size:
            raise self._broken()
        return content

    def _broken(self) -> WorkerFailed:
        self.close()
        return WorkerFailed(
            "The face detector's process ended",
            found=self._last_words,
            do="Run `python install.py tracker` again; if it stays, the picture before this one may be the reason",
        )

    def close(self) -> None:
        """End the process."""
        if self._said.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().splitlines()
        self._last_words = words[-1][:200] if words else f"exit status {self._process.returncode}"
        self._said.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
