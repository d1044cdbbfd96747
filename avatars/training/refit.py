"""Held-out frames of a tracked capture: the track's error fitted to their pictures, with the avatar frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from avatars.training.data import Batch, Pictures
from avatars.training.evaluation import white_batch
from avatars.training.refine import TrackRefinement
from avatars.training.schedule import log_linear

AT_ONCE = 8
FIRST_RATE, LAST_RATE = 0.2, 0.01
"""Adam's rates, in tracker errors a step."""


@runtime_checkable
class Refining(Protocol):
    """A trainer that can refine its capture's track; refinement is None where it does not."""

    @property
    def refinement(self) -> TrackRefinement | None:
        """What it has learned of the errors."""

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """As of any trainer."""

    def retable(self) -> None:
        """Pose every frame anew with what has been refined so far."""


def refinement_of(trainer: object) -> TrackRefinement | None:
    """What a trainer has learned of its track's errors; None where it refines nothing."""
    return trainer.refinement if isinstance(trainer, Refining) else None


def fit_frames(
    trainer: Refining, pictures: Pictures, at: float, steps: int, tell: Callable[[int], None] = lambda done: None
) -> None:
    """Fit the changes of the frames of `pictures` by the photometric loss and the track's own terms at position `at`.

    Frames that were not trained on begin with what their neighbours were changed by. Nothing else changes: neither the
    avatar nor the lens nor other frames. tell: called with the pictures done.
    """
    track = trainer.refinement
    if track is None or steps < 1:
        return
    for rows in torch.arange(len(pictures)).split(AT_ONCE):
        batch = white_batch(pictures, rows.tolist())
        frames = batch.frames.unique()
        track.spread_out(frames)
        first = torch.zeros_like(track.changes[frames])
        second = torch.zeros_like(first)
        for step in range(1, steps + 1):
            total = torch.stack(list(trainer.losses(batch, at).values())).sum()
            (gradient,) = torch.autograd.grad(total, [track.changes])
            rate = log_linear(FIRST_RATE, LAST_RATE, step / steps)
            with torch.no_grad():
                slope = gradient[frames]
                first = 0.9 * first + 0.1 * slope
                second = 0.99 * second + 0.01 * slope.square()
                upward = (second / (1 - 0.99**step)).sqrt() + 1e-12
                track.changes[frames] -= rate * (first / (1 - 0.9**step)) / upward
        tell(int(rows[-1]) + 1)
    trainer.retable()
