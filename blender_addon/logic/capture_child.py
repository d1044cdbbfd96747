"""Synthesise a capture in a Blender process of its own, so that the artist's window stays alive meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .._shared import errors

PROGRESS_LINE = re.compile(r"^(\d+)/(\d+) \d+ s: (.*)$")
START = """
import importlib, os, sys
import bpy
package, root = {package!r}, {root!r}
if not package.startswith("bl_ext."):  # run from source; Blender finds its installed extensions by itself
    sys.path.insert(0, root)
status = importlib.import_module(package + ".synthesise.cli").main(sys.argv[sys.argv.index("--") + 1 :])
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""


@dataclass(frozen=True)
class CaptureState:
    """How far a synthesis is. status: 'running', 'done', 'failed' or 'cancelled'; message: one sentence."""

    status: str
    done: int = 0
    total: int = 0
    message: str = ""


class CaptureChild:
    """A running synthesis. `state` is read from any thread; `cancel` ends it and keeps the pictures made so far."""

    def __init__(self, blender: Sequence[str], package: str, folder: Path, options: Sequence[str]) -> None:
        """blender: command that runs the Python text that follows it. package: the add-on's. options: of its `cli`."""
        self.folder = folder
        self.state = CaptureState("running", message="starting Blender")
        root = str(Path(__file__).resolve().parents[2])
        command = [*blender, START.format(package=package, root=root), "--", "--output", str(folder), *options]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=os.name != "nt",
            )
        except OSError as error:
            raise errors.EnvironmentFailed("A second Blender could not be started", found=str(error)) from error
        self._cancelled = False
        self._thread = threading.Thread(target=self._read, name="effigy-capture", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.state.status == "running"

    def cancel(self) -> None:
        """End the process; returns when it is gone."""
        self._cancelled = True
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until it ended; for scripts without a window."""
        self._thread.join(timeout_s)

    def _read(self) -> None:
        assert self._process.stdout is not None
        last = ""
        with self._process.stdout as lines:
            for line in lines:
                match = PROGRESS_LINE.match(line.strip())
                if match:
                    self.state = CaptureState("running", int(match[1]), int(match[2]), match[3])
                elif line.strip():
                    last = line.strip()
        status = self._process.wait()
        if self._cancelled:
            self.state = replace(self.state, status="cancelled", message="Stopped; the same settings go on from here")
        elif status == 0:
            self.state = replace(self.state, status="done", done=self.state.total, message="The capture is complete")
        else:
            # The command line ends with 1 after it told why; anything else is Blender itself going down.
            crash = f"The second Blender ended with status {status}; the last it said: {last or 'nothing'}"
            self.state = replace(self.state, status="failed", message=last if status == 1 and last else crash)
