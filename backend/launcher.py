"""Start a server as a child process, wait until it answers, stop it. Used by the demo, the command line and the tests.

The add-on does the same with the documented command line (see backend.cli), because it may not import this room.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backend
from backend.home import open_home
from shared.client import BackendClient
from shared.errors import EnvironmentFailed
from shared.keys import Login

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
FREE_PORT = "tcp://127.0.0.1:0"


@dataclass(frozen=True)
class RunningServer:
    """A server that answered Hello. `log_path`: what it wrote."""

    address: str
    key: str = field(repr=False)
    process: subprocess.Popen[bytes]
    log_path: Path
    login: Login | None = None

    def client(self, name: str = "client", instance: str = "") -> BackendClient:
        """A client of it, not connected yet."""
        return BackendClient(self.address, key=self.key, name=name, login=self.login, instance=instance)

    def stop(self) -> None:
        """Ask it to end (a training job writes a last checkpoint), and end it by force where it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_server(
    *,
    home: Path | None = None,
    address: str = FREE_PORT,
    device: str = "auto",
    key: str | None = None,
    login: Login | None = None,
    options: Sequence[str] = (),
) -> RunningServer:
    """Start `python -m backend serve` and return when it answers. key: None makes one up; '' asks for none. login: of a
    client that the home's keys know; with it the server encrypts. options: further ones of `serve`.

    It ends with this process, however that ends. Raises EnvironmentFailed with the server's own words when it does not
    come up.
    """
    data = open_home(home)
    secret = secrets.token_hex(16) if key is None else key
    log_path = data.logs / "server.out.log"
    root = str(Path(backend.__file__).resolve().parent.parent)
    environment = {
        **os.environ,
        "EFFIGY_KEY": secret,
        "PYTHONPATH": os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part),
    }
    command = [sys.executable, "-m", "backend", "serve", "--address", address, "--home", str(data.root)]
    command += ["--device", device, "--parent-pid", str(os.getpid()), "--even-training"]
    command += ["--encrypt"] if login is not None else []
    command += options
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=os.name != "nt",  # Ctrl-C is for us; we stop it in order
        )
    server = RunningServer("", secret, process, log_path, login)
    try:
        ready = _first_line(process)
        if ready is None:
            raise EnvironmentFailed("The backend did not start", found=_last_line(log_path), do=f"See {log_path}")
        server = RunningServer(str(ready["address"]), secret, process, log_path, login)
        with server.client("launcher") as client:
            client.connect(START_TIMEOUT_S)
    except BaseException:
        server.stop()
        raise
    return server


@contextlib.contextmanager
def running_server(
    *,
    home: Path | None = None,
    address: str = FREE_PORT,
    device: str = "auto",
    key: str | None = None,
    login: Login | None = None,
    options: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """`start_server` for a with-block: stopped at its end. Raises EnvironmentFailed."""
    server = start_server(home=home, address=address, device=device, key=key, login=login, options=options)
    try:
        yield server
    finally:
        server.stop()


def _first_line(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The ready line, or None where the process ended or stayed silent. Read in a thread: pipes have no timeout."""
    assert process.stdout is not None
    line: list[bytes] = []
    reader = threading.Thread(target=lambda: line.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(START_TIMEOUT_S)
    try:
        ready = json.loads(line[0])
        return ready if ready.get("ready") is True else None
    except (IndexError, ValueError, AttributeError):
        return None


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("effigy: ")[:600] if lines else "no word from it"
