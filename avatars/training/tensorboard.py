"""A run's losses, previews and held-out curve as TensorBoard event files; the package tensorboard is optional."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from avatars.training.progress import Progress
from shared.errors import EnvironmentFailed

FOLDER = "tensorboard"


def check_tensorboard() -> None:
    """Raises EnvironmentFailed with the command that helps, where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise EnvironmentFailed(
            "TensorBoard's package is not installed, so its log cannot be written",
            do="Install it (pip install 'effigy[log]'), or train without --log",
        )


class TensorBoardLog:
    """Event files in a folder. Steps count images. Raises EnvironmentFailed where the package is missing.

    Scalars: one for each loss term under the term's name (l1, ssim, lpips, alpha, ..., total), images_per_s, and
    held_out/psnr_db. Images: preview, the model beside the ground truth.
    """

    def __init__(self, folder: Path) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), flush_secs=5)

    def note(self, told: Progress) -> None:
        """Write what an event says."""
        for name, value in told.losses.items():
            self._writer.add_scalar(name, value, told.step)
        if told.images_per_s > 0:
            self._writer.add_scalar("images_per_s", told.images_per_s, told.step)
        if told.preview is not None:
            self._writer.add_image("preview", told.preview, told.step, dataformats="HWC")

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the held-out curve and the means of the report, and close the files."""
        last = int(metrics.get("images", 0))
        for point in metrics.get("curve", ()):
            self._writer.add_scalar("held_out/psnr_db", point["psnr_db"], point["images"])
        for name in ("psnr_db", "ssim", "ms_ssim", "flip", "lpips"):
            if name in metrics:
                self._writer.add_scalar(f"report/{name}", metrics[name], last)
        self._writer.close()


def teeing(on_event: Callable[[Progress], None], log: TensorBoardLog) -> Callable[[Progress], None]:
    """`on_event` and the log, both told of every event."""

    def both(told: Progress) -> None:
        log.note(told)
        on_event(told)

    return both
