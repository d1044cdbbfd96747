"""A windowed Blender with the built extension installed, driven by a script, beside a running backend.

WindowedBlender("4.3", folder).run("script.py", address="tcp://127.0.0.1:…")  -> what the script put in its results
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blender_addon import build
from tests.windows import debian

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
QUIT_AFTER_S = 60.0


class SessionFailed(Exception):
    """A session's error with the end of its log."""


@dataclass
class WindowedBlender:
    """One user's Blender: settings, add-on and outputs live in `folder`, the program in the shared chroot.

    own_processes: a /proc of its own, as in a container, so that the backend's shared memory cannot be opened.
    gpu_backend: 'opengl' (llvmpipe) or, from 5.2, 'vulkan' (lavapipe).
    """

    version: str
    folder: Path
    size: tuple[int, int] = (1280, 800)
    own_processes: bool = False
    gpu_backend: str = "opengl"
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = debian.chroot(self.version)
        for name in ("home", "user", "out"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def install(self, archive: Path) -> str:
        """Install and enable the extension's zip as a user would; what Blender said."""
        shutil.copy(archive, self.folder / "effigy.zip")
        command = ["blender", "--command", "extension", "install-file", "-r", "user_default", "-e", "/mnt/effigy.zip"]
        status, text = self._execute(command, 120.0)
        if status != 0 or "rror" in text:
            raise SessionFailed(f"Blender {self.version} did not install the extension:\n{text}")
        return text

    def run(
        self, script: Path, *arguments: str, then: Sequence[Path] = (), address: str = "", timeout_s: float = 300.0
    ) -> dict[str, Any]:
        """Run a script's main(w) in a fresh window; its results. Pictures are in `folder`/out. Raises SessionFailed.

        then: more scripts of the same folder for the same window; the results of each then stand under its name.
        """
        shutil.rmtree(self.folder / "inside", ignore_errors=True)
        shutil.copytree(INSIDE, self.folder / "inside", ignore=shutil.ignore_patterns("__pycache__"))
        for source in sorted(script.parent.glob("*.py")):
            shutil.copy(source, self.folder / "inside" / source.name)  # a script may import its neighbours
        result = self.folder / "out" / "result.json"
        result.unlink(missing_ok=True)
        self.environment["EFFIGY_ADDRESS"] = address
        width, height = self.size
        scripts = ",".join(f"/mnt/inside/{each.name}" for each in (script, *then))
        command = ["python3", "/mnt/inside/in_window.py", f"{width}x{height}", "blender"]
        command += ["--gpu-backend", self.gpu_backend]
        command += ["--window-geometry", "0", "0", str(width), str(height), "--enable-event-simulate"]
        command += ["--python", "/mnt/inside/start.py", "--", scripts, str(timeout_s), *arguments]
        status, text = self._execute(command, timeout_s + QUIT_AFTER_S)
        (self.folder / "out" / "log.txt").write_text(text, encoding="utf-8")
        if not result.is_file():
            raise SessionFailed(f"Blender {self.version} ended with status {status} before its script did:\n{text}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if found.pop("error"):
            raise SessionFailed(f"the script failed in Blender {self.version}:\n{text}")
        if status != 0:
            raise SessionFailed(f"Blender {self.version} ended with status {status} after its script:\n{text}")
        return found | {"log": text}

    def background(self, *words: str, address: str = "", timeout_s: float = 300.0) -> tuple[int, str]:
        """Run `blender -b WORDS`, as on a farm; its status and output. `folder` is /mnt inside."""
        self.environment["EFFIGY_ADDRESS"] = address
        return self._execute(["blender", "-b", *words], timeout_s)

    def _execute(self, command: Sequence[str], timeout_s: float) -> tuple[int, str]:
        variables = [f"{name}={value}" for name, value in self.environment.items() if value]
        whole = ["BLENDER_USER_RESOURCES=/mnt/user", "EFFIGY_WINDOWED=1", *variables, *command]
        line = debian.inside(self.root, self.folder.absolute(), whole, own_processes=self.own_processes)
        with (self.folder / "log.txt").open("w+b") as log:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                status = -signal.SIGKILL
            finally:
                _kill_group(process)
            log.seek(0)
            return status, log.read().decode("utf-8", "replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever of a session is left: the screen too, not Blender alone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def build_extension(folder: Path) -> Path:
    """The zip as users get it, from this working tree. Raises build.BuildError."""
    return build.build(folder, [build.current_platform()], ROOT / "build" / "wheels")


@contextmanager
def running_backend(home: Path, *, address: str = "tcp://127.0.0.1:0", timeout_s: float = 180.0) -> Iterator[str]:
    """A backend of this environment on the data folder `home`, on the CPU; yields its address."""
    process, found = start_backend(home, address=address, timeout_s=timeout_s)
    try:
        yield found
    finally:
        stop_backend(process)


def start_backend(
    home: Path, *, address: str = "tcp://127.0.0.1:0", timeout_s: float = 180.0
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a backend and wait until it listens; the process and its address."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "backend", "serve", "--address", address, "--home", str(home), "--device", "cpu"]
    command += ["--parent-pid", str(os.getpid()), "--even-training"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=environment
        )
    assert process.stdout is not None
    begin = time.monotonic()
    line = process.stdout.readline()
    if not line or time.monotonic() - begin > timeout_s:
        stop_backend(process)
        raise SessionFailed(f"the backend did not start: {(home / 'server.log').read_text(encoding='utf-8')[-2000:]}")
    return process, str(json.loads(line)["address"])


def stop_backend(process: subprocess.Popen[bytes]) -> None:
    """End a backend, at once if it does not go by itself."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
