"""The server's end of a worker process: starting it, knowing that it is well, and stopping it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import backend
from shared.errors import WorkerFailed

LOG_TAIL_LINES = 8
LOG_KEPT_BYTES = 4 * 1024**2


class Worker:
    """One child process `python -m module --name … arguments`. identity: its ROUTER identity once it came.

    server: where it is to say Hello; empty where that is not known yet: it loads what it needs and waits to be told
    (`tell_server`). Its output goes to log_path. It is tied to this process by its standard input (see worker_link).
    environment: variables for it, before ours.
    """

    def __init__(
        self,
        module: str,
        name: str,
        server: str,
        arguments: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name, self.log_path = name, log_path
        self.secret = secrets.token_hex(16)
        self.identity = b""
        self.started_s = time.monotonic()
        if log_path.exists() and log_path.stat().st_size > LOG_KEPT_BYTES:
            log_path.replace(log_path.with_suffix(".old.log"))
        root = str(Path(backend.__file__).resolve().parent.parent)
        variables = {
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part),
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
            # torch's idle OpenMP threads must sleep, not spin: they would take the core from the rasteriser's threads.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        }
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--name", name, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
            )
        if server:
            self.tell_server(server)

    def tell_server(self, server: str) -> None:
        """Hand over the secret and the server's private address."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone already: ended() tells why
            self.process.stdin.write(f"{self.secret} {server}\n".encode())
            self.process.stdin.flush()

    def ended(self) -> int | None:
        """The exit status once the process has ended (negative: the signal that killed it), else None."""
        return self.process.poll()

    def failure(self, doing: str) -> WorkerFailed:
        """The error to answer with after it ended on its own."""
        return WorkerFailed(
            f"The worker process stopped while {doing}",
            found=_reason(self.process.poll()),
            do=f"The backend starts it again; {self.last_words()}",
        )

    def last_words(self) -> str:
        """The end of what this process wrote, in one line, or where to look."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, log.tell() - 4096))
                lines = log.read().decode("utf-8", "replace").replace("\0", "").split("\n")
        except OSError:
            lines = []
        tail = " | ".join(line.strip() for line in [line for line in lines if line.strip()][-LOG_TAIL_LINES:])
        return f"its last words were: {tail[-600:]}" if tail else f"its log {self.log_path} is empty"

    def stop(self, wait_s: float = 1.0) -> None:
        """End it: standard input first, which it obeys at once unless a long kernel runs, then by force."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _reason(status: int | None) -> str:
    if status is None:
        return "no answer"
    if status < 0:
        hint = ", perhaps for lack of memory" if status == -9 else ""
        return f"killed by signal {-status}{hint}"
    return f"exit status {status}"
