"""Whose a job is when client processes are killed and the server starts again. Real processes, a clock of our own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.home import open_home
from backend.jobs import JobRecord
from backend.leases import LEASE_S
from backend.server import Server, ServerSettings
from shared.client import BackendClient
from shared.errors import Held
from shared.messages import ChangeJob, ListJobs
from tests.threads import background

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """
import sys
from shared.client import BackendClient
from shared.errors import EffigyError
from shared.messages import ChangeJob
with BackendClient(sys.argv[1], name=sys.argv[2]) as client:
    for line in sys.stdin:
        try:
            client.request(ChangeJob("j1", line.strip()), timeout_s=30)
            print("done", flush=True)
        except EffigyError as error:
            print(error.code, flush=True)
"""


class Person:
    """A client process that asks what it is told to."""

    def __init__(self, address: str, name: str) -> None:
        words = [sys.executable, "-c", CLIENT, address, name]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def asks(self, action: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(action + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def killed(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def serving(home: Path, address: str, now_s: list[float]) -> Iterator[Server]:
    """A server whose leases go by our clock, and which begins no job."""
    server = Server(ServerSettings(open_home(home), address, device="cpu"))
    server.door.leases._clock = lambda: now_s[0]
    for token in server.door.leases._seen:
        server.door.leases._seen[token] = now_s[0]
    server.desk.tick = server.jobs.tick = lambda: None  # type: ignore[method-assign]
    with background(server.run):
        yield server


def owner(client: BackendClient) -> str:
    (job,) = client.request(ListJobs()).jobs
    return job.owner.partition(" (")[0]


def test_killed_clients_leave_their_job_and_a_restarted_server_knows_its_owner(tmp_path: Path) -> None:
    now_s = [1000.0]
    with serving(tmp_path, "tcp://127.0.0.1:0", now_s) as server:
        server.jobs.journal.put(JobRecord("j1", "k", "Anna", "demo_head", "tiny", state="paused"))
        anna, ben = Person(server.address, "anna"), Person(server.address, "ben")
        with BackendClient(server.address, name="test") as client:
            assert anna.asks("take") == "done"
            assert ben.asks("pause") == "held"
            assert owner(client) == "anna"
            anna.killed()
            now_s[0] += LEASE_S - 1
            assert ben.asks("pause") == "held"
            now_s[0] += 1.1
            assert owner(client) == ""
            assert ben.asks("pause") == "done"  # who changes it, holds it
            assert owner(client) == "ben"
    with serving(tmp_path, server.address, now_s), BackendClient(server.address, name="test") as client:
        assert owner(client) == "ben"
        with pytest.raises(Held):
            client.request(ChangeJob("j1", "cancel"))
        assert ben.asks("pause") == "done"  # the same process, greeted anew
        now_s[0] += LEASE_S - 1
        assert owner(client) == "ben"
        ben.killed()
        now_s[0] += 1.1
        assert client.request(ChangeJob("j1", "cancel")).state == "cancelled"
