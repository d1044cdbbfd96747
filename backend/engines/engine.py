"""The one interface behind which workers run; the server knows nothing else of them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from backend.workers import Worker


class Engine(Protocol):
    """Starts the workers of one server.

    Whatever computes, the server's side of it is a `Worker`: a process of this host that is tied to the server's life,
    says Hello at the server's private address and speaks the messages of the wire. server: that address.
    """

    trainings: int
    """How many trainings and edits may run at once. How many pictures, the renderer says in its Welcome."""

    def renderer(self, server: str) -> Worker:
        """What answers for pictures and avatars; after its end another one is asked for."""

    def trainer(self, name: str, log_path: Path, server: str) -> Worker:
        """What carries one training or edit through, from its newest checkpoint where there is one."""

    def assistant(self, module: str, name: str, log_path: Path, server: str) -> Worker:
        """Live trainings and errands: they read this host's files and cameras, so they always run on it."""

    def close(self) -> None:
        """Let go of what the engine itself holds; the workers are ended by whoever asked for them."""
