"""Colours that change with the direction they are seen from: real spherical harmonics up to degree 3.

Basis and signs are 3D Gaussian splatting's (Kerbl et al. 2023): real orthonormal harmonics with the Condon-Shortley
phase, ordered by degree l and then m = -l … l. A colour is 0.5 + Σ c_k Y_k(d), cut at 0, with d the unit direction from
the camera to the Gaussian.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import EffigyError

MAX_DEGREE = 3
SH0 = 0.5 / math.sqrt(math.pi)


def coefficients_of(degree: int) -> int:
    """How many coefficients a colour channel has: (degree + 1)². Raises EffigyError beyond degree 3."""
    if not 0 <= degree <= MAX_DEGREE:
        raise EffigyError("unknown degree of spherical harmonics", found=str(degree), expected=f"0 to {MAX_DEGREE}")
    return (degree + 1) ** 2


def degree_of(coefficients: int) -> int:
    """The degree that has so many coefficients. Raises EffigyError."""
    degree = math.isqrt(max(coefficients, 1)) - 1
    if coefficients != coefficients_of(degree):
        raise EffigyError("no degree has so many coefficients", found=str(coefficients), expected="1, 4, 9 or 16")
    return degree


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Y_k [..., (degree + 1)²] at unit directions [..., 3]."""
    coefficients_of(degree)
    x, y, z = directions.unbind(-1)
    found = [torch.full_like(x, SH0)]
    if degree >= 1:
        c = math.sqrt(3 / (4 * math.pi))
        found += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = math.sqrt(15 / (4 * math.pi))
        top = math.sqrt(5 / (16 * math.pi))
        found += [c * x * y, -c * y * z, top * (2 * z * z - x * x - y * y), -c * x * z, c / 2 * (x * x - y * y)]
    if degree >= 3:
        a, b = math.sqrt(35 / (32 * math.pi)), math.sqrt(105 / (4 * math.pi))
        c, d = math.sqrt(21 / (32 * math.pi)), math.sqrt(7 / (16 * math.pi))
        found += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * (4 * z * z - x * x - y * y),
            d * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c * x * (4 * z * z - x * x - y * y),
            b / 2 * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(found, -1)


def sh_colours(coefficients: Tensor, directions: Tensor) -> Tensor:
    """Colours [..., 3] >= 0 of coefficients [..., (degree + 1)², 3] seen along `directions` [..., 3], of any length.

    A direction of length zero (the camera is in the Gaussian) counts as +z.
    """
    length = directions.norm(dim=-1, keepdim=True)
    ahead = torch.zeros_like(directions)
    ahead[..., 2] = 1
    unit = torch.where(length > 1e-12, directions / length.clamp_min(1e-12), ahead)
    basis = sh_basis(unit, degree_of(coefficients.shape[-2]))
    return ((basis[..., None] * coefficients).sum(-2) + 0.5).clamp_min(0)


def rotated_sh(coefficients: NDArray[np.float32], rotation: NDArray[np.floating]) -> NDArray[np.float32]:
    """Coefficients [N, C, 3] of the same colours after everything was turned by `rotation` [3, 3].

    Harmonics of one degree turn among themselves, so the matrix follows exactly from enough directions.
    """
    degree = degree_of(coefficients.shape[1])
    directions = _directions()
    turned = sh_basis(torch.from_numpy(directions @ np.asarray(rotation, np.float64)), degree).numpy()
    still = sh_basis(torch.from_numpy(directions), degree).numpy()
    matrix = np.linalg.lstsq(still, turned, rcond=None)[0]
    return np.einsum("kc,ncx->nkx", matrix, coefficients.astype(np.float64)).astype(np.float32)


@lru_cache(maxsize=1)
def _directions() -> NDArray[np.float64]:
    """64 directions spread over the sphere."""
    step = np.arange(64) + 0.5
    height, turn = 1 - step / 32, step * math.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - height * height)
    return np.stack((ring * np.cos(turn), ring * np.sin(turn), height), 1)
