"""Fréchet inception distance (Heusel et al. 2017) on a weight file the user has; none ships with Effigy.

The network is Inception v3 (Szegedy et al. 2016) as the distance has always been measured with: padding counts in no
mean, and the last block takes a maximum. The file is pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`; it is looked
for in the folder of a setting and in torch's hub cache, and read with weights_only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from avatars.training.lpips import read_weights
from shared.errors import BadConfig

log = logging.getLogger("effigy.training")
NAMES = ("pt_inception-2015-12-05-6726825d.pth",)
SIDE_PX, FEATURES = 299, 2048
BATCH_NORM_EPSILON = 1e-3
Layer = tuple[int, int, tuple[int, int], int]
"""Inputs, outputs, kernel (height, width), stride; padded to keep the size where the stride is 1."""


def _layer(inputs: int, outputs: int, height: int = 1, width: int = 0, stride: int = 1) -> Layer:
    return inputs, outputs, (height, width or height), stride


def _block_a(inputs: int, pooled: int) -> dict[str, Layer]:
    return {
        "branch1x1": _layer(inputs, 64),
        "branch5x5_1": _layer(inputs, 48),
        "branch5x5_2": _layer(48, 64, 5),
        "branch3x3dbl_1": _layer(inputs, 64),
        "branch3x3dbl_2": _layer(64, 96, 3),
        "branch3x3dbl_3": _layer(96, 96, 3),
        "branch_pool": _layer(inputs, pooled),
    }


def _block_c(inner: int) -> dict[str, Layer]:
    return {
        "branch1x1": _layer(768, 192),
        "branch7x7_1": _layer(768, inner),
        "branch7x7_2": _layer(inner, inner, 1, 7),
        "branch7x7_3": _layer(inner, 192, 7, 1),
        "branch7x7dbl_1": _layer(768, inner),
        "branch7x7dbl_2": _layer(inner, inner, 7, 1),
        "branch7x7dbl_3": _layer(inner, inner, 1, 7),
        "branch7x7dbl_4": _layer(inner, inner, 7, 1),
        "branch7x7dbl_5": _layer(inner, 192, 1, 7),
        "branch_pool": _layer(768, 192),
    }


def _block_e(inputs: int) -> dict[str, Layer]:
    return {
        "branch1x1": _layer(inputs, 320),
        "branch3x3_1": _layer(inputs, 384),
        "branch3x3_2a": _layer(384, 384, 1, 3),
        "branch3x3_2b": _layer(384, 384, 3, 1),
        "branch3x3dbl_1": _layer(inputs, 448),
        "branch3x3dbl_2": _layer(448, 384, 3),
        "branch3x3dbl_3a": _layer(384, 384, 1, 3),
        "branch3x3dbl_3b": _layer(384, 384, 3, 1),
        "branch_pool": _layer(inputs, 192),
    }


BLOCKS: dict[str, dict[str, Layer]] = {
    "Mixed_5b": _block_a(192, 32),
    "Mixed_5c": _block_a(256, 64),
    "Mixed_5d": _block_a(288, 64),
    "Mixed_6a": {
        "branch3x3": _layer(288, 384, 3, stride=2),
        "branch3x3dbl_1": _layer(288, 64),
        "branch3x3dbl_2": _layer(64, 96, 3),
        "branch3x3dbl_3": _layer(96, 96, 3, stride=2),
    },
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": {
        "branch3x3_1": _layer(768, 192),
        "branch3x3_2": _layer(192, 320, 3, stride=2),
        "branch7x7x3_1": _layer(768, 192),
        "branch7x7x3_2": _layer(192, 192, 1, 7),
        "branch7x7x3_3": _layer(192, 192, 7, 1),
        "branch7x7x3_4": _layer(192, 192, 3, stride=2),
    },
    "Mixed_7b": _block_e(1280),
    "Mixed_7c": _block_e(2048),
}
STEM: dict[str, Layer] = {
    "Conv2d_1a_3x3": _layer(3, 32, 3, stride=2),
    "Conv2d_2a_3x3": _layer(32, 32, 3),
    "Conv2d_2b_3x3": _layer(32, 64, 3),
    "Conv2d_3b_1x1": _layer(64, 80),
    "Conv2d_4a_3x3": _layer(80, 192, 3),
}
UNPADDED = ("Conv2d_2a_3x3", "Conv2d_4a_3x3")


class Inception(nn.Module):
    """Features of pictures, without trainable parameters. weights: pytorch-fid's names. Raises BadConfig."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers = dict(STEM) | {f"{block}.{name}": one for block, inner in BLOCKS.items() for name, one in inner.items()}
        self.layers = layers
        for name, (inputs, outputs, kernel, _) in layers.items():
            # A normalisation that no longer learns is a factor and an addend: folded into the convolution.
            kept = _tensor(weights, f"{name}.conv.weight", (outputs, inputs, *kernel))
            scale, shift, mean, variance = (
                _tensor(weights, f"{name}.bn.{part}", (outputs,))
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = scale / (variance + BATCH_NORM_EPSILON).sqrt()
            self.register_buffer(_key(name), kept * factor[:, None, None, None])
            self.register_buffer(f"{_key(name)}_bias", shift - mean * factor)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 2048] of images [B, H, W, 3] in 0..1, display-encoded, brought to 299 px."""
        x = interpolate(images.permute(0, 3, 1, 2), (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self._convolved(name, x)
        x = max_pool2d(x, 3, 2)
        for name in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
            x = self._convolved(name, x)
        x = max_pool2d(x, 3, 2)
        for block in BLOCKS:
            x = self._mixed(block, x)
        return x.mean((2, 3))

    def _convolved(self, name: str, x: Tensor) -> Tensor:
        _, _, kernel, stride = self.layers[name]
        free = stride > 1 or name in UNPADDED
        padding = (0, 0) if free else (kernel[0] // 2, kernel[1] // 2)
        weight, bias = self.get_buffer(_key(name)), self.get_buffer(f"{_key(name)}_bias")
        return relu(nn.functional.conv2d(x, weight, bias, stride, padding))

    def _mixed(self, block: str, x: Tensor) -> Tensor:
        """Every branch of a block, in the order of its table: numbered layers follow each other, lettered ones fork."""
        found: list[Tensor] = []
        before: Tensor = x
        for name in BLOCKS[block]:
            stem, _, number = name.rpartition("_")
            if name == "branch_pool":
                found.append(self._convolved(f"{block}.{name}", _pooled(block, x)))
                continue
            begins = not stem or number == "1"
            fork = number[-1:] in ("a", "b") and bool(stem)
            y = self._convolved(f"{block}.{name}", x if begins else before)
            if fork:
                found.append(y)
                continue
            before = y
            if _ends(block, name):
                found.append(y)
        if "branch_pool" not in BLOCKS[block]:
            found.append(max_pool2d(x, 3, 2))
        return torch.cat(found, 1)


def _ends(block: str, name: str) -> bool:
    """Whether no later layer of the block carries this branch on."""
    stem, _, number = name.rpartition("_")
    if not stem:
        return True
    following = int(number) + 1
    return not any(other.startswith(f"{stem}_{following}") for other in BLOCKS[block])


def _pooled(block: str, x: Tensor) -> Tensor:
    if block == "Mixed_7c":
        return max_pool2d(x, 3, 1, 1)
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _key(name: str) -> str:
    return name.replace(".", "_")


def _tensor(values: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    value = values.get(name)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        found = "nothing" if value is None else str(list(getattr(value, "shape", ())))
        raise BadConfig(f"the Inception weights lack {name}", found=found, expected=str(list(shape)))
    return value.detach().to(torch.float32)


@cache
def find_inception(folder: str, device: torch.device | str) -> Inception | None:
    """The network on `device`, or None where its file is absent, which is logged once. Raises BadConfig."""
    places = [Path(folder).expanduser()] if folder else []
    places.append(Path(torch.hub.get_dir()) / "checkpoints")
    path = next((place / name for place in places for name in NAMES if (place / name).is_file()), None)
    if path is None:
        log.warning("FID is left out: there is no %s", NAMES[0])
        return None
    return Inception(read_weights(path)).to(device).eval()


def frechet_distance(features: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Between Gaussians fitted to features [M, D] and [N, D], at least two rows each."""
    first, second = (np.asarray(rows, np.float64) for rows in (features, others))
    spread, other_spread = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second))
    sizes, ways = np.linalg.eigh(spread)
    root = (ways * np.sqrt(sizes.clip(0))) @ ways.T
    # The product of two covariances has the eigenvalues of this symmetric matrix.
    shared = np.sqrt(np.linalg.eigvalsh(root @ other_spread @ root).clip(0)).sum()
    away = first.mean(0) - second.mean(0)
    return float(away @ away + np.trace(spread) + np.trace(other_spread) - 2 * shared)
