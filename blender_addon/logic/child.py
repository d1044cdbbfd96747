"""Start a backend as a child process and stop it again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .._shared import errors
from .settings import Settings, is_local

STOP_TIMEOUT_S = 10.0
LOG_LETTERS = 48 * 1024


class BackendProcess:
    """A backend this Blender started. Its output goes to a log file, because Blender often has no terminal."""

    def __init__(self, settings: Settings, log_path: Path) -> None:
        """Start it. Raises EnvironmentFailed with what to do where that cannot work."""
        if not is_local(settings.address):
            raise errors.EnvironmentFailed(
                "The backend's address is on another machine", found=settings.address, do="Start the backend there"
            )
        if not settings.python:
            raise errors.EnvironmentFailed(
                "The add-on does not know the backend's Python",
                do="Choose it in Preferences > Add-ons > Effigy (python install.py backend prints its path), or start "
                "the backend yourself",
            )
        self.address, self.log_path, self.keep_training = settings.address, log_path, settings.keep_training
        # Once this Blender is gone the backend ends by itself; where trainings go on, it finishes them first.
        command = [settings.python, "-m", "backend", "serve", "--address", settings.address]
        command += ["--parent-pid", str(os.getpid()), *([] if settings.keep_training else ["--even-training"])]
        environment = dict(os.environ)
        # Blender's own variables would send the other Python to Blender's libraries.
        for name in ("PYTHONHOME", "PYTHONPATH"):
            environment.pop(name, None)
        if settings.key:
            environment["EFFIGY_KEY"] = settings.key
        if settings.data_folder:
            environment["EFFIGY_HOME"] = settings.data_folder
        try:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Its own group: Ctrl-C in Blender's terminal must not tear a training apart.
                    start_new_session=os.name != "nt",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            raise errors.EnvironmentFailed(
                "The backend could not be started",
                found=f"{settings.python}: {error.strerror or error}",
                do="Choose the backend's Python in Preferences > Add-ons > Effigy",
            ) from error

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise EnvironmentFailed with the log's last line where the process ended by itself."""
        status = self._process.poll()
        if status is not None:
            raise errors.EnvironmentFailed(
                "The backend stopped right after it was started",
                found=self.last_line().removeprefix("effigy: ") or f"exit status {status}",
                do=f"Read its log, {self.log_path}",
            )

    def last_line(self) -> str:
        """The last line of the log that says something."""
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def whole_log(self) -> str:
        """What it wrote, at most the last LOG_LETTERS of it."""
        try:
            return self.log_path.read_text(encoding="utf-8", errors="replace")[-LOG_LETTERS:]
        except OSError as error:
            return f"{self.log_path} cannot be read: {error.strerror}"

    def stop(self) -> None:
        """Ask it to end, and end it by force where it does not within STOP_TIMEOUT_S."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
