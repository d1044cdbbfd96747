"""The range of θ while nobody knows yet what θ will do.

The network sees (clip(θ) - mean) / spread. Offline those numbers come from all frames; here from those that arrived, so
they change while the network learns. Mean and spread are an affine map before a linear layer: whenever they change,
that layer is changed by the inverse, so the network computes what it computed before. The limits of the clip only ever
widen: what lay inside keeps its meaning, what lay outside was held at the limit and is now let through.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatars.rgb_head.driving import LEAST_SPREAD, DrivingLayout, DrivingRange, measure_range, with_modes
from avatars.rgb_head.model import RgbHead
from avatars.training.optimiser import Optimiser

KEPT_ROWS = 4096


class RunningRange:
    """A uniform sample of the θ that came, of at most 4,096 rows, with the root's place in each."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._lock = threading.Lock()
        self.count = 0

    def add(self, theta: Tensor, translation: NDArray[np.float32]) -> None:
        """Take the θ [D] and the root's translation [3] m of one more frame."""
        row = theta.detach().cpu(), torch.from_numpy(np.array(translation, np.float32))
        with self._lock:
            self.count += 1
            if len(self._rows) < KEPT_ROWS:
                self._rows.append(row)
                return
            place = int(self._random.integers(self.count))
            if place < KEPT_ROWS:
                self._rows[place] = row

    def measured(self) -> DrivingRange:
        """Mean, sigma and percentiles of what was kept."""
        return measure_range(self._table()[0])

    def with_modes(self, found: DrivingRange, layout: DrivingLayout) -> DrivingRange:
        """`found` with the modes of what was kept, for reenactment."""
        theta, places = self._table()
        return with_modes(found, theta, layout, places)

    def _table(self) -> tuple[Tensor, Tensor]:
        with self._lock:
            return torch.stack([row[0] for row in self._rows]), torch.stack([row[1] for row in self._rows])


def spread_of(sigma: Tensor) -> Tensor:
    """What the network divides by."""
    return sigma.clamp_min(LEAST_SPREAD)


def own_range(model: RgbHead) -> RgbHead:
    """The same model with a range of its own: copies of a head share theirs, and this one will change."""
    now = model.driving_range
    model.driving_range = DrivingRange(now.mean.clone(), now.sigma.clone(), now.low.clone(), now.high.clone())
    return model


def begin_range(model: RgbHead, found: DrivingRange) -> None:
    """Set the range of a model that has learned nothing."""
    _write(model, found.to(str(model.positions.device)))


def widen_limits(model: RgbHead, found: DrivingRange) -> None:
    """Let the clip reach as far as `found`; inside the old limits nothing changes."""
    now, new = model.driving_range, found.to(str(model.positions.device))
    _write(model, DrivingRange(now.mean, now.sigma, torch.minimum(now.low, new.low), torch.maximum(now.high, new.high)))


def renormalise(model: RgbHead, found: DrivingRange, optimiser: Optimiser | None = None) -> None:
    """Take over mean and sigma of `found`; the network computes what it did, and its optimiser's moments follow."""
    now, new = model.driving_range, found.to(str(model.positions.device))
    old_spread, new_spread = spread_of(now.sigma), spread_of(new.sigma)
    first = next(layer for layer in model.network if isinstance(layer, nn.Linear))
    ratio = new_spread / old_spread
    with torch.no_grad():
        first.bias.add_(first.weight @ ((new.mean - now.mean) / old_spread))
        first.weight.mul_(ratio)
        moments = optimiser.adam.state.get(first.weight, {}) if optimiser is not None else {}
        if "exp_avg" in moments:  # a gradient by the scaled weight is the old one divided by the scale
            moments["exp_avg"] /= ratio
            moments["exp_avg_sq"] /= ratio.square()
    _write(model, DrivingRange(new.mean, new.sigma, now.low, now.high))


def _write(model: RgbHead, values: DrivingRange) -> None:
    """In place, so that whoever captured the tensors (a CUDA graph) sees the new values."""
    now = model.driving_range
    with torch.no_grad():
        for name in ("mean", "sigma", "low", "high"):
            getattr(now, name).copy_(getattr(values, name).clone())
