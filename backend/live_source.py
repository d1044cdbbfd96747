"""A live training's frames from a tracker of our own: a child process that pushes to a socket of this one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO

from avatars.online.frames import Subject, TrackedFrame
from avatars.online.push import PushSource
from shared.errors import WorkerFailed

END_S = 5.0


class TrackerSource:
    """Follows a camera (its number) or a video file by `effigy live` and hands over what that pushes. A `FrameSource`.

    name: whom it shows. Raises WorkerFailed from `next` where the tracker ends without having been able to begin.
    """

    def __init__(self, location: str, name: str) -> None:
        self._pushed = PushSource("tcp://127.0.0.1:0")
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        words = ["live", location, "--to", self._pushed.address, "--subject", name, "--parent-pid", str(os.getpid())]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "backend", *words],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C is for the training, which ends this process in order
        )
        self._gone = False

    @property
    def subject(self) -> Subject | None:
        """Whom the tracker named."""
        return self._pushed.subject

    @property
    def dropped(self) -> Mapping[str, int]:
        """As in PushSource."""
        return self._pushed.dropped

    @property
    def expected(self) -> int:
        """Nobody knows."""
        return 0

    def next(self, timeout_s: float) -> TrackedFrame | None:
        """As in PushSource."""
        frame = self._pushed.next(timeout_s)
        if frame is None and not self._gone and self._process.poll() is not None:
            self._gone = True
            if self._process.returncode:
                raise WorkerFailed("The tracker ended", found=self._last_words())
        return frame

    def ended(self) -> bool:
        """Whether no more frames will come."""
        return self._gone or self._pushed.ended()

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix("effigy: ")[:400] if lines else f"exit status {self._process.returncode}"

    def close(self) -> None:
        """End the tracker; may be called twice."""
        if self._said.closed:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
        self._pushed.close()
