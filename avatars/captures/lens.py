"""Pictures of a lens that bends straight lines, drawn as a pinhole camera with the same K would have seen them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def distorted(points: NDArray[np.float64], coefficients: ArrayLike) -> NDArray[np.float64]:
    """Where the lens shows normalised image points [..., 2] (OpenCV's model of five coefficients)."""
    k1, k2, p1, p2, k3 = (float(one) for one in np.asarray(coefficients, np.float64).reshape(-1)[:5])
    x, y = points[..., 0], points[..., 1]
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
    return np.stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        ),
        -1,
    )


def undistorted(image: NDArray[np.uint8], K: NDArray[np.float64], coefficients: tuple[float, ...]) -> NDArray[np.uint8]:
    """`image` [H, W, C] as a pinhole camera with K [3, 3] px sees it; 0 where the lens saw nothing.

    Bilinear, as OpenCV's `undistort` with the same new camera matrix (which counts pixel centres from 0).
    """
    grid = _grid(image.shape[1], image.shape[0], tuple(K.ravel().tolist()), coefficients)
    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    moved = torch.nn.functional.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return moved[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@lru_cache(maxsize=16)
def _grid(width: int, height: int, numbers: tuple[float, ...], coefficients: tuple[float, ...]) -> Tensor:
    """[1, H, W, 2] places to read, -1..1; 24 MB for three megapixels, kept for the cameras used last."""
    K = np.array(numbers).reshape(3, 3)
    x, y = np.meshgrid((np.arange(width) - K[0, 2]) / K[0, 0], (np.arange(height) - K[1, 2]) / K[1, 1])
    seen = distorted(np.stack((x, y), -1), coefficients) * (K[0, 0], K[1, 1]) + K[:2, 2]
    scaled = 2 * seen / (max(width - 1, 1), max(height - 1, 1)) - 1
    return torch.from_numpy(scaled.astype(np.float32))[None]
