"""Real spherical harmonics of bands 0 to 4 (25 functions), orthonormal, in the order l, then m = -l .. l."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

BANDS = 5
COUNT = BANDS * BANDS
COSINE = (math.pi, 2 * math.pi / 3, math.pi / 4, 0.0, -math.pi / 24)
"""What the clamped cosine multiplies each band by (Ramamoorthi and Hanrahan 2001)."""


def band_of() -> tuple[int, ...]:
    """The band of each of the 25 functions."""
    return tuple(band for band in range(BANDS) for _ in range(2 * band + 1))


def basis5(directions: Tensor) -> Tensor:
    """The 25 functions [..., 25] at unit directions [..., 3]."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    pi = math.pi
    c1, c2 = math.sqrt(3 / (4 * pi)), math.sqrt(15 / (4 * pi))
    found = [
        torch.full_like(x, 0.5 / math.sqrt(pi)),
        c1 * y,
        c1 * z,
        c1 * x,
        c2 * x * y,
        c2 * y * z,
        math.sqrt(5 / (16 * pi)) * (3 * zz - 1),
        c2 * x * z,
        c2 / 2 * (xx - yy),
        math.sqrt(35 / (32 * pi)) * y * (3 * xx - yy),
        math.sqrt(105 / (4 * pi)) * x * y * z,
        math.sqrt(21 / (32 * pi)) * y * (5 * zz - 1),
        math.sqrt(7 / (16 * pi)) * z * (5 * zz - 3),
        math.sqrt(21 / (32 * pi)) * x * (5 * zz - 1),
        math.sqrt(105 / (16 * pi)) * z * (xx - yy),
        math.sqrt(35 / (32 * pi)) * x * (xx - 3 * yy),
        math.sqrt(315 / (16 * pi)) * x * y * (xx - yy),
        math.sqrt(315 / (32 * pi)) * y * z * (3 * xx - yy),
        math.sqrt(45 / (16 * pi)) * x * y * (7 * zz - 1),
        math.sqrt(45 / (32 * pi)) * y * z * (7 * zz - 3),
        math.sqrt(9 / (256 * pi)) * (35 * zz * zz - 30 * zz + 3),
        math.sqrt(45 / (32 * pi)) * x * z * (7 * zz - 3),
        math.sqrt(45 / (64 * pi)) * (xx - yy) * (7 * zz - 1),
        math.sqrt(315 / (32 * pi)) * x * z * (xx - 3 * yy),
        math.sqrt(315 / (256 * pi)) * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]
    return torch.stack(found, dim=-1)


SPREAD = 48
"""Directions that a turned function is worked out at: nearly twice as many as there are functions."""


@lru_cache(maxsize=4)
def _spread(device: torch.device) -> tuple[Tensor, Tensor]:
    """Even directions [SPREAD, 3], and what takes values there to coefficients, [SPREAD, 25]; float32."""
    index = torch.arange(SPREAD, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * index / SPREAD, index * (math.pi * (1 + math.sqrt(5)))
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=-1)
    back = torch.linalg.pinv(basis5(directions)).T
    return directions.float().to(device), back.float().to(device)


def turned(coefficients: Tensor, world_from_local: Tensor) -> Tensor:
    """Functions [N, 25] of world directions as functions of local ones: rotations [N, 3, 3] take those to the world.

    Exact up to rounding: the bands turn among themselves, so a fit to values at enough directions finds them.
    """
    directions, back = _spread(coefficients.device)
    found = []
    for part, turns in zip(coefficients.split(4096), world_from_local.split(4096), strict=True):
        values = (basis5(directions @ turns.transpose(1, 2)) * part[:, None]).sum(-1)  # [n, SPREAD]
        found.append(values @ back)
    return torch.cat(found) if found else coefficients
