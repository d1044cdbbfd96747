"""Which images come next: seeded shuffles without repetition, exactly resumable."""

from __future__ import annotations

import torch
from torch import Tensor


def seeds(count: int, generator: torch.Generator) -> list[int]:
    """So many seeds of other generators: what each picture of a step draws depends on none of the others'."""
    return torch.randint(2**31 - 1, (count,), generator=generator, device=generator.device).tolist()  # type: ignore[no-any-return]


class Sampler:
    """Draws batches of indices below `count`; every index comes once before any comes again.

    The same generator makes the backgrounds, so its state and the rest of the shuffle are all that resuming needs.
    together: with `groups` [count], so many indices of one group follow each other; a group that does not divide by it
    repeats some of its own.
    """

    def __init__(self, count: int, seed: int, groups: Tensor | None = None, together: int = 1) -> None:
        self.count, self.groups, self.together = count, groups, together
        self.generator = torch.Generator().manual_seed(seed)
        self.waiting = torch.empty(0, dtype=torch.int64)

    def batch(self, size: int) -> Tensor:
        """The next `size` indices [size] int64, no two alike where count allows."""
        drawn: list[Tensor] = []
        missing = size
        while missing:
            if not len(self.waiting):
                shuffled = self._shuffled()
                if self.groups is not None and self.together > 1:
                    self.waiting = shuffled
                    continue
                taken = torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.int64)
                repeated = torch.isin(shuffled, taken)
                self.waiting = torch.cat((shuffled[~repeated], shuffled[repeated]))
            part = self.waiting[:missing]
            self.waiting = self.waiting[missing:]
            drawn.append(part)
            missing -= len(part)
        return torch.cat(drawn)

    def _shuffled(self) -> Tensor:
        """All indices in a random order, in runs of one group where that is wanted."""
        order = torch.randperm(self.count, generator=self.generator)
        if self.groups is None or self.together == 1:
            return order
        runs = []
        by_group = order[torch.argsort(self.groups[order], stable=True)]
        for members in torch.split(by_group, torch.unique(self.groups, return_counts=True)[1].tolist()):
            missing = -len(members) % self.together
            runs.append(members.repeat(-(-(len(members) + missing) // len(members)))[: len(members) + missing])
        chunks = torch.cat(runs).view(-1, self.together)
        return chunks[torch.randperm(len(chunks), generator=self.generator)].flatten()

    def backgrounds(self, size: int, kind: str) -> Tensor:
        """[size, 3] colours in 0..1: 'random' uniform, 'white' or 'black'."""
        if kind == "random":
            return torch.rand(size, 3, generator=self.generator)
        return torch.full((size, 3), 1.0 if kind == "white" else 0.0)

    def state(self) -> dict[str, Tensor]:
        """Everything that decides what comes next."""
        return {"generator": self.generator.get_state(), "waiting": self.waiting.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.generator.set_state(state["generator"].clone())
        self.waiting = state["waiting"].clone()
