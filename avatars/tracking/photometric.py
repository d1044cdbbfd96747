"""Colours that a moving surface keeps: what they say of where it is. Pure functions over points, plain numpy.

A point of the skin has one colour in the whole clip; each picture lights it by a gain that is linear in the point's
normal (the first four spherical harmonics). The colour is the robust mean over pictures; what a picture differs from
it, along the picture's own gradient, says how far the point is off (Lucas and Kanade 1981, forwards additive).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
MIXED_ROUNDS, LIT_ROUNDS = 4, 3
HELD = 0.01
"""How strongly a picture's gains are held to 1 and 0, as a share of their own equations."""


@dataclass(frozen=True, eq=False)
class Texture:
    """colours: [P, C] of the points; spread: [P, C], how far pictures scatter around them."""

    colours: Floats
    spread: Floats

    def expected(self, values: Floats, normals: Floats, weight: Floats, far: float) -> Floats:
        """[P, C] colours as a picture with values [P, C] is lit; see `mean_texture`."""
        gains = np.ones_like(values)
        for _ in range(LIT_ROUNDS):
            robust = weight[:, None] / (1 + ((values - gains * self.colours) / np.float32(far)) ** 2)
            gains = lit(self.colours, values, normals, robust)
        return gains * self.colours


def sampled(picture: Floats, pixels: Array) -> tuple[Floats, Floats]:
    """Values [N, C] of a picture [H, W, C] at pixels [N, 2] (centres at +0.5) and their derivatives [N, C, 2] per px.

    Bilinear; beyond the edge the last pixels count. Needs at least 2 x 2 px.
    """
    height, width = picture.shape[:2]
    x = np.clip(pixels[:, 0] - 0.5, 0, width - 1)
    y = np.clip(pixels[:, 1] - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), width - 2), np.minimum(y.astype(np.int64), height - 2)
    across, down = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    one, two = picture[top, left], picture[top, left + 1]
    three, four = picture[top + 1, left], picture[top + 1, left + 1]
    upper, lower = one + (two - one) * across, three + (four - three) * across
    gradient = np.stack([(two - one) * (1 - down) + (four - three) * down, lower - upper], -1)
    return upper + (lower - upper) * down, gradient


def lit(colours: Floats, values: Floats, normals: Floats, weight: Floats) -> Floats:
    """[P, C] gains, linear in the normals [P, 3], with colours * gains nearest to values [P, C] by weights [P, C]."""
    basis = np.concatenate((np.ones((len(normals), 1), np.float32), normals), 1)
    scaled = basis * (weight * colours**2).T[..., None]
    matrix = scaled.transpose(0, 2, 1) @ basis
    right = np.einsum("pk,pc->ck", basis, weight * colours * values)
    size = HELD * np.trace(matrix, axis1=1, axis2=2) / 4 + 1e-9
    matrix += size[:, None, None] * np.eye(4, dtype=np.float32)
    right[:, 0] += size
    found: Floats = (basis @ np.linalg.solve(matrix, right[..., None])[..., 0].T).astype(np.float32)
    return found


def mean_texture(values: Floats, normals: Floats, weight: Floats, far: float) -> Texture:
    """Colours of points from their values [F, P, C] in F pictures with normals [F, P, 3] and weights [F, P], 0 unseen.

    far: a difference that counts half. Points that are never seen get colour 0 and a spread of 1.
    """
    gains = np.ones_like(values)
    each = np.repeat(weight[..., None], values.shape[2], axis=2)
    robust = each
    for _ in range(MIXED_ROUNDS):
        colours = (robust * gains * values).sum(0) / np.maximum((robust * gains**2).sum(0), 1e-6)
        for row in range(len(values)):
            gains[row] = lit(colours, values[row], normals[row], robust[row])
        error = values - gains * colours
        robust = each / (1 + (error / np.float32(far)) ** 2)
    total = each.sum(0)
    spread = np.sqrt((each * np.minimum(error**2, 0.04)).sum(0) / np.maximum(total, 1e-6))
    return Texture(colours, np.where(total > 1e-6, spread, 1.0).astype(np.float32))


def colour_equations(derivative: Array, gradient: Floats, error: Floats, weight: Floats) -> tuple[Array, Array]:
    """J^T W J [U, U] and J^T W e [U] of colours whose points move by derivative [N, 2, U] px.

    gradient: [N, C, 2] of the picture; error: [N, C] what the colour should be less what it is; weight: [N, C].
    """
    slope = gradient.astype(np.float64)
    scaled = slope * weight[..., None]
    inner = scaled.transpose(0, 2, 1) @ slope + 1e-9 * np.eye(2)
    root = np.linalg.cholesky(inner).transpose(0, 2, 1)
    rows = (root @ derivative).reshape(-1, derivative.shape[2]).astype(np.float32)
    pull = (scaled * error[..., None]).sum(1)
    return (rows.T @ rows).astype(np.float64), np.tensordot(derivative, pull, ((0, 1), (0, 1)))
