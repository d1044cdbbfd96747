"""Blender as a farm runs it: asked once what a shot holds, and then once a task, with a backend of the task's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from backend.farm.job import FarmJob, check_pinned
from backend.launcher import running_server
from backend.library import Library
from shared.errors import BadConfig, EnvironmentFailed

COMMAND = "effigy_render"  # of the add-on
STOP_S = 20.0
NOT_OF_BLENDER = ("PYTHONHOME", "PYTHONPATH")  # they would lead its Python to our libraries


class Told(BaseException):
    """A signal asked us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within it SIGTERM is an exception, so that what was started is stopped."""

    def told(number: int, frame: FrameType | None) -> None:
        raise Told(number)

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def planned(blender: str, shot: Path, options: list[str]) -> dict[str, Any]:
    """What the shot holds, as the add-on tells it. Raises EnvironmentFailed, BadConfig."""
    with tempfile.TemporaryDirectory(prefix="effigy-plan-") as folder:
        plan = Path(folder) / "plan.json"
        command = [blender, "-b", str(shot), "--command", COMMAND, "--plan", str(plan), *options]
        done = _ran(command, environment={}, quiet=True)
        if done != 0 or not plan.is_file():
            raise BadConfig(
                "Blender could not tell what the shot holds",
                found=f"exit status {done} of {blender} (its words are above)",
                do="Install this release's add-on in that Blender (python install.py addon --blender PATH)",
            )
        found: dict[str, Any] = json.loads(plan.read_text(encoding="utf-8"))
        return found


def run_task(job: FarmJob, folder: Path, task: int) -> int:
    """Render what is missing of a task's frames; Blender's exit status, or 128 + a signal. Raises EffigyError."""
    frames = job.chunk(task)
    library = Library(folder / "library")
    for avatar_id, digest in job.avatars.items():
        check_pinned(library, avatar_id, digest)
    command = [job.blender, "-b", job.shot, "--command", COMMAND, "--missing", "--output", job.output]
    command += ["--frames", ",".join(str(frame) for frame in frames), "--scene", job.scene]
    for avatar_id, digest in job.avatars.items():
        command += ["--pin", f"{avatar_id}={digest}"]
    try:
        with ending_on_signals(), tempfile.TemporaryDirectory(prefix="effigy-task-") as home:
            os.symlink(library.folder.absolute(), Path(home) / "library", target_is_directory=True)
            with running_server(home=Path(home), device=job.device) as server:
                status = _ran(command, {"EFFIGY_ADDRESS": server.address, "EFFIGY_KEY": server.key})
    except Told as told:
        return 128 + told.number
    return status if status >= 0 else 128 - status


def _ran(command: list[str], environment: Mapping[str, str], *, quiet: bool = False) -> int:
    """Run Blender and wait, stopping it where we are stopped; its exit status. Raises EnvironmentFailed."""
    around = {name: value for name, value in os.environ.items() if name not in NOT_OF_BLENDER}
    try:
        process = subprocess.Popen(
            command,
            env={**around, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
        )
    except OSError as error:
        raise EnvironmentFailed(
            "Blender cannot be started", found=f"{command[0]}: {error.strerror}", do="Name it with --blender PATH"
        ) from error
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
