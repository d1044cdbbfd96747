"""Running numbers of a training: means of its losses, and its pace."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from shared.errors import EffigyError


def diverged(images: int, found: str) -> EffigyError:
    """The end of a training that has lost its way."""
    do = "Resume from the last checkpoint with smaller learning rates"
    return EffigyError(f"training diverged at {images} images", found=found, do=do)


class RunningTerms:
    """Running means of loss terms (each new value counts 5 %), kept where the terms are until somebody reads them."""

    def __init__(self, means: Mapping[str, float] | None = None) -> None:
        self.names = tuple(means or ())
        self.means = torch.tensor(list((means or {}).values()))

    def add(self, names: tuple[str, ...], values: Tensor) -> None:
        """Take one step's terms [n]; one that is new starts with its value, one that is gone is forgotten."""
        values = values.detach()
        if names != self.names:
            before = dict(zip(self.names, self.means, strict=True))
            kept = [before.get(name, value).to(value) for name, value in zip(names, values, strict=True)]
            self.names, self.means = names, torch.stack(kept)
        self.means = torch.lerp(self.means.to(values), values, 0.05)

    def read(self) -> dict[str, float]:
        """The means as numbers."""
        return dict(zip(self.names, self.means.tolist(), strict=True))


class Pace:
    """Images a second over the last few seconds."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []
        self.total = 0

    def count(self, images: int) -> None:
        """Note that `images` more are done."""
        self.total += images
        self.marks.append((time.monotonic(), self.total))
        if len(self.marks) > 200:
            del self.marks[:100]

    def images_per_s(self) -> float:
        """0 until two steps are done."""
        if len(self.marks) < 2:
            return 0.0
        (first, before), (last, after) = self.marks[0], self.marks[-1]
        return (after - before) / max(last - first, 1e-9)
