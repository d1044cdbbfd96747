"""Numbers for every frame of a capture: how alike an avatar's picture is to the recorded one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.evaluation.frames import capture_shots, check_same_rig, over, render_shots
from avatars.training.evaluation import BEST_PSNR_DB, METRICS, MS_SSIM_SIDE_PX, as_uint8
from avatars.training.ssim import check_images
from shared.errors import BadConfig

Metric = Callable[[Tensor, Tensor], Tensor]
Values = NDArray[np.float64]
BACKGROUNDS = {"black": 0.0, "white": 1.0}


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of each pair, [B]."""
    check_images(images, targets)
    return (images - targets).abs().mean(dim=(1, 2, 3))


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of each pair, [B]."""
    check_images(images, targets)
    return (images - targets).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Viewing:
    """How frames are compared. size_px: longer side; background: a key of BACKGROUNDS, behind both pictures.

    clamp: cut the avatar's values to 0..1 first, as a screen does; RGBAvatar's own script does not.
    """

    size_px: int
    background: str = "white"
    clamp: bool = True
    batch: int = 4


@dataclass(frozen=True, eq=False)
class Measured:
    """One number per image and metric. images: indices into the capture's; values: metric -> [M]."""

    images: tuple[int, ...]
    values: Mapping[str, Values]
    viewing: Viewing

    def means(self, rows: NDArray[np.intp] | None = None) -> dict[str, float]:
        """Mean of every metric over `rows` (all if left out); not a number where there are none."""
        chosen = np.arange(len(self.images)) if rows is None else rows
        return {
            name: float(values[chosen].mean()) if len(chosen) else float("nan") for name, values in self.values.items()
        }


def metric_table(size: tuple[int, int], lpips: Metric | None) -> dict[str, Metric]:
    """L1, L2 and the metrics of training reports that pictures of this size allow, and LPIPS where it is given."""
    table: dict[str, Metric] = {"l1": l1, "l2": l2, **METRICS}
    if min(size) < MS_SSIM_SIDE_PX:
        table.pop("ms_ssim", None)
    if lpips is not None:
        table["lpips"] = lpips
    return table


def measure_avatar(
    avatar: Avatar,
    capture: Capture,
    images: Sequence[int],
    viewing: Viewing,
    *,
    device: str,
    lpips: Metric | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Every metric for every one of `images`. tell: called with how many are done. Raises BadCapture, BadConfig."""
    check_viewing(viewing)
    check_same_rig(avatar, capture)
    size = capture.train_size(viewing.size_px)
    table = metric_table(size, lpips)
    found: dict[str, list[float]] = {name: [] for name in table}
    done = 0
    for model, truth in compared(avatar, capture, images, viewing, device):
        for name, metric in table.items():
            found[name] += metric(model, truth).clamp_max(BEST_PSNR_DB).double().cpu().tolist()
        done += len(model)
        tell(done)
    return Measured(tuple(images), {name: np.array(values, np.float64) for name, values in found.items()}, viewing)


def compared(
    avatar: Avatar, capture: Capture, images: Sequence[int], viewing: Viewing, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of batches (avatar, recorded), each [B, H, W, 3] over the background on the device."""
    size, level = capture.train_size(viewing.size_px), BACKGROUNDS[viewing.background]
    shots = capture_shots(capture, images, viewing.size_px)
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:

        def begun(start: int) -> list[Future[NDArray[np.uint8]]]:
            return [pool.submit(capture.rgba, index, size) for index in images[start : start + viewing.batch]]

        ahead = begun(0)
        for start, drawn in zip(
            range(0, len(images), viewing.batch),
            render_shots(avatar, capture.motion, shots, device, viewing.batch),
            strict=True,
        ):
            now, ahead = ahead, begun(start + viewing.batch)
            recorded = np.stack([picture.result() for picture in now])
            truth = over(torch.from_numpy(recorded).to(device).float() / 255, level)
            model = over(drawn, level)
            yield (model.clamp(0, 1) if viewing.clamp else model), truth


def pair(
    avatar: Avatar, capture: Capture, index: int, viewing: Viewing, device: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The recorded picture and the avatar's of image `index`, [H, W, 3] uint8 each."""
    ((model, truth),) = compared(avatar, capture, [index], viewing, device)
    return as_uint8(truth[0]), as_uint8(model[0])


def check_viewing(viewing: Viewing) -> None:
    """Raises BadConfig for what no picture can be made with."""
    if viewing.background not in BACKGROUNDS:
        raise BadConfig("unknown background", found=viewing.background, expected=" or ".join(BACKGROUNDS))
    for name, value, least in (("size", viewing.size_px, 8), ("batch", viewing.batch, 1)):
        if value < least:
            raise BadConfig(f"the {name} is too small", found=str(value), expected=f"at least {least}")
