"""What is rendered while the model learns: two copies of it, of which one is whole at any time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from avatars.online.running_range import own_range
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.model import RANGES, RgbHead


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A version of the avatar while it is held: nobody writes to it. version: 0 before anything was learned."""

    avatar: RgbHeadAvatar
    version: int
    images: int


class SnapshotBuffer:
    """Double buffer: `publish` writes the copy that nobody reads and swaps; `read` holds the newest whole one.

    A reader never waits. A publish finds its copy taken only by a reader that began before the last swap and still
    renders: it is then left out (and counted), and the next one tries again.
    """

    def __init__(self, model: RgbHead) -> None:
        everything = torch.ones(len(model), dtype=torch.bool, device=model.positions.device)
        self._models = [own_range(model.kept(everything)) for _ in range(2)]
        self._avatars = [RgbHeadAvatar(copy, record=False) for copy in self._models]
        self._about = [(0, 0), (0, 0)]
        self._readers = [0, 0]
        self._front = 0
        self._lock = threading.Lock()
        self.skipped = 0
        for place in range(2):
            self._copy(model, place)

    @property
    def version(self) -> int:
        """Of the newest whole copy."""
        with self._lock:
            return self._about[self._front][0]

    def publish(self, model: RgbHead, images: int) -> bool:
        """Make the model as it is now the newest version. Called by the thread that changes the model only."""
        with self._lock:
            back = 1 - self._front
            if self._readers[back]:
                self.skipped += 1
                return False
        # Nobody enters the back copy: readers take the front.
        self._copy(model, back)
        with self._lock:
            self._about[back] = (self._about[self._front][0] + 1, images)
            self._front = back
        return True

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Hold the newest version."""
        with self._lock:
            place = self._front
            self._readers[place] += 1
        try:
            yield Snapshot(self._avatars[place], *self._about[place])
        finally:
            with self._lock:
                self._readers[place] -= 1

    def _copy(self, model: RgbHead, place: int) -> None:
        target = self._models[place]
        with torch.no_grad():
            for mine, theirs in zip(target.parameters(), model.parameters(), strict=True):
                mine.copy_(theirs)
            target.seen.copy_(model.seen)
            for name in RANGES:  # in place, as all the rest: recorded CUDA graphs read tensors where they lie
                getattr(target.driving_range, name).copy_(getattr(model.driving_range, name))
        target.rest_pose = self._avatars[place].rest_pose = model.rest_pose
        if model.positions.is_cuda:
            # Readers may use streams of their own; a swap must not overtake the copy.
            torch.cuda.current_stream(model.positions.device).synchronize()


def copied(snapshot: Snapshot) -> RgbHead:
    """A copy of a snapshot's model that outlives it."""
    model = snapshot.avatar.model
    return own_range(model.kept(torch.ones(len(model), dtype=torch.bool, device=model.positions.device)))
