"""FLAME's axes (y up, facing +z) into ours (z up, facing -y), and rotations between their codings.

A vector (x, y, z) of FLAME becomes (x, -z, y) here; a rotation R becomes A R Aᵀ, so an axis-angle vector changes like
any other vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MODEL_FROM_FLAME = np.array(((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)))


def to_model(vectors: ArrayLike) -> Floats:
    """Points, offsets or axis-angle vectors [..., 3] of FLAME's axes in ours."""
    return np.asarray(vectors, np.float64) @ MODEL_FROM_FLAME.T


def to_flame(vectors: ArrayLike) -> Floats:
    """Inverse of `to_model`."""
    return np.asarray(vectors, np.float64) @ MODEL_FROM_FLAME


def rotations_to_model(matrices: ArrayLike) -> Floats:
    """Rotation matrices [..., 3, 3] between FLAME's axes as the same turns in ours."""
    return MODEL_FROM_FLAME @ np.asarray(matrices, np.float64) @ MODEL_FROM_FLAME.T


def rigid(rotation: ArrayLike, translation: ArrayLike) -> Floats:
    """[..., 4, 4] of a rotation [..., 3, 3] and a translation [..., 3]."""
    turn, shift = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    found = np.zeros((*np.broadcast_shapes(turn.shape[:-2], shift.shape[:-1]), 4, 4))
    found[..., :3, :3], found[..., :3, 3], found[..., 3, 3] = turn, shift, 1.0
    return found


MODEL_FROM_FLAME_4 = rigid(MODEL_FROM_FLAME, np.zeros(3))


def matrices_from_six(six: ArrayLike) -> Floats:
    """Rotation matrices [..., 3, 3] of 6D codings [..., 6]: Gram-Schmidt, the vectors are rows (method page 9.1).

    A coding whose vectors are zero or parallel has no rotation and gives values that are not finite.
    """
    values = np.asarray(six, np.float64)
    first, second = values[..., :3], values[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        first = first / np.linalg.norm(first, axis=-1, keepdims=True)
        second = second - (first * second).sum(-1, keepdims=True) * first
        second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack((first, second, np.cross(first, second)), -2)
