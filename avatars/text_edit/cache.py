"""The edited pictures of a run, keyed by camera and instant, and which of them is edited next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Key = tuple[int, int]
"""Camera and instant."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One edited picture. row: of the run's pictures; picture: [H, W, 3] uint8; made: the step it was edited at."""

    row: int
    picture: Tensor
    made: int


class EditCache:
    """At most `most` edited pictures; the oldest are edited anew once there is no room for others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.entries: dict[Key, Entry] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def full(self) -> bool:
        """Whether there is no room for other views."""
        return len(self.entries) >= self.most

    def put(self, key: Key, row: int, picture: Tensor, step: int) -> None:
        """Keep an edited picture [H, W, 3] in 0..1; the oldest makes room where there is none."""
        if key not in self.entries and self.full:
            del self.entries[min(self.entries, key=lambda one: (self.entries[one].made, one))]
        stored = (picture.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
        self.entries[key] = Entry(row, stored, step)

    def picture(self, key: Key) -> Tensor:
        """The edited picture [H, W, 3] float32 in 0..1. KeyError where there is none."""
        return self.entries[key].picture.float() / 255

    def oldest(self, count: int) -> list[Key]:
        """The keys edited longest ago."""
        return sorted(self.entries, key=lambda one: (self.entries[one].made, one))[:count]

    def draw(self, count: int, generator: torch.Generator) -> list[Key]:
        """Random keys, none twice where there are enough. Raises IndexError where there is none at all."""
        keys = sorted(self.entries)
        if not keys:
            raise IndexError("no picture has been edited yet")
        order = torch.randperm(len(keys), generator=generator).tolist()
        return [keys[order[index % len(order)]] for index in range(count)]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        if not self.entries:
            return {}
        keys = sorted(self.entries)
        numbers = [[*key, self.entries[key].row, self.entries[key].made] for key in keys]
        return {
            "cache.numbers": torch.tensor(numbers, dtype=torch.int64),
            "cache.pictures": torch.stack([self.entries[key].picture for key in keys]),
        }

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Inverse of `state`."""
        self.entries.clear()
        if "cache.numbers" not in state:
            return
        for numbers, picture in zip(state["cache.numbers"].tolist(), state["cache.pictures"], strict=True):
            camera, frame, row, made = numbers
            self.entries[camera, frame] = Entry(row, picture.to(device), made)
