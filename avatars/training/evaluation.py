"""Held-out pictures against the model: numbers for each picture, curves over training, pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.training.data import Batch, Pictures
from avatars.training.flip import flip
from avatars.training.metrics import ms_ssim, psnr
from avatars.training.ssim import ssim
from avatars.training.trainer import Trainer

METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr_db": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "flip": flip,
}
"""Name -> function of two batches [B, H, W, 3] in 0..1, one number for each picture."""
MS_SSIM_SIDE_PX = 176
"""MS-SSIM needs five scales under its window; smaller pictures are measured without it."""
BEST_PSNR_DB = 100.0
EVALUATION_BATCH = 4


def metric_names(pictures: Pictures) -> tuple[str, ...]:
    """The metrics that pictures of this size can be measured by."""
    small = min(pictures.rgba.shape[1:3]) < MS_SSIM_SIDE_PX
    return tuple(name for name in METRICS if not (small and name == "ms_ssim"))


def over_white(trainer: Trainer, pictures: Pictures, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The model and the truth over white, both [B, H, W, 3] in 0..1."""
    batch = white_batch(pictures, rows)
    drawn = trainer.render(batch)
    model = drawn.features + (1 - drawn.alpha[..., None])
    return model.clamp(0, 1), batch.target()


def white_batch(pictures: Pictures, rows: Sequence[int]) -> Batch:
    """Some pictures with white behind them."""
    return pictures.batch(torch.tensor(list(rows)), torch.ones(len(rows), 3))


def measure(
    trainer: Trainer, pictures: Pictures, rows: Sequence[int], names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Metrics over the whole image on white at the pictures' size, one number for each of `rows`.

    Some pictures at once, fewer where the device has no memory for so many.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    done, together = 0, EVALUATION_BATCH
    while done < len(rows):
        try:
            values = _measured(trainer, pictures, rows[done : done + together], names)
        except torch.OutOfMemoryError:  # what it holds is let go with its traceback, at the end of this block
            if together == 1:
                raise
            values = {}
        if not values:
            together //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        for name in names:
            found[name] += values[name]
        done += together
    return {name: np.array(values) for name, values in found.items()}


def _measured(
    trainer: Trainer, pictures: Pictures, rows: Sequence[int], names: Sequence[str]
) -> dict[str, list[float]]:
    model, truth = over_white(trainer, pictures, rows)
    return {name: METRICS[name](model, truth).clamp_max(BEST_PSNR_DB).double().cpu().tolist() for name in names}


def picture(trainer: Trainer, pictures: Pictures, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The model and the truth over white of one picture, [H, W, 3] uint8."""
    model, truth = over_white(trainer, pictures, [row])
    return as_uint8(model[0]), as_uint8(truth[0])


def as_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Values in 0..1 as rounded bytes."""
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def curve_subset(count: int, most: int) -> tuple[int, ...]:
    """Up to `most` rows spread evenly over `count`, always the same ones."""
    return tuple(int(row) for row in np.unique(np.linspace(0, count - 1, min(count, max(most, 1))).round()))


@dataclass
class Curves:
    """Losses and held-out PSNR over images. Losses are thinned so that the list stays short however long the run is."""

    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    psnr: list[tuple[int, float, float]] = field(default_factory=list)
    next_at: float = 0.0
    stride: int = 1
    skipped: int = 0

    def add_loss(self, images: int, terms: Mapping[str, float]) -> None:
        """Note the running means of the loss terms."""
        self.skipped += 1
        if self.skipped >= self.stride:
            self.skipped = 0
            self.losses.append((images, dict(terms)))
            if len(self.losses) > 1000:
                self.losses, self.stride = self.losses[::2], self.stride * 2

    def due(self, at: float, every: float) -> bool:
        """Whether a new point of the PSNR curve is due at `at` images; asking moves on to the next."""
        if at < self.next_at:
            return False
        self.next_at = at + every
        return True

    def add_psnr(self, images: int, seconds: float, psnr_db: float) -> None:
        """Note the held-out PSNR."""
        self.psnr.append((images, seconds, psnr_db))

    def as_json(self) -> dict[str, Any]:
        """JSON form, read back by `from_json`."""
        return {"losses": self.losses, "psnr": self.psnr, "next_at": self.next_at, "stride": self.stride}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Curves:
        """Inverse of `as_json`."""
        losses = [(int(images), dict(terms)) for images, terms in value["losses"]]
        points = [(int(images), float(seconds), float(db)) for images, seconds, db in value["psnr"]]
        return Curves(losses, points, float(value["next_at"]), int(value["stride"]))
