"""The stages of a signed-distance body: what the trainer asks of each, and which comes when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from avatars.rendering.rasterise import Rasterised
from avatars.surface_body.settings import StageShares
from avatars.training.data import Batch
from avatars.training.trainer import RatedParameter


class Stage(Protocol):
    """One stage. share: 0..1 of it that has passed. Its parameters are allocated at the start of the run."""

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Its tensors, with rates in images of the whole run."""

    def begin(self) -> None:
        """Take what the stage before has made; called once, when the stage's time comes."""

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Named terms, already weighted."""

    def after_step(self, batch: Batch, share: float) -> None:
        """What it does between steps."""

    def render(self, batch: Batch) -> Rasterised:
        """The person as this stage has them, premultiplied, without background or gradients."""

    def state(self) -> Mapping[str, Tensor]:
        """What beside the parameters a resume needs."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""


def stage_at(shares: StageShares, share: float) -> tuple[int, float]:
    """Which stage (0 volumes, 1 mesh, 2 Gaussians) a share of the schedule is in, and how far into it, 0..1."""
    borders = (0.0, shares.volume, shares.volume + shares.mesh, 1.0)
    for number in range(3):
        begun, ended = borders[number], borders[number + 1]
        if ended > begun + 1e-9 and (share < ended or ended >= 1 - 1e-9):
            return number, min(max((share - begun) / (ended - begun), 0.0), 1.0)
    return 0, 1.0
