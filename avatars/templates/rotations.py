"""Rotations in torch: axis-angle to matrices, 6D coding, safe unit quaternions.

Every function takes any leading dimensions and has finite gradients everywhere, at zero rotation too.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matrices_from_axis_angle(rotations: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3] rad (Rodrigues' formula, series near zero)."""
    squared = (rotations * rotations).sum(-1)
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)[..., None, None]
    cosine = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(angle)) / safe)[..., None, None]
    x, y, z = rotations.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*rotations.shape, 3)
    return torch.eye(3, dtype=rotations.dtype, device=rotations.device) + sine * cross + cosine * (cross @ cross)


def six_numbers(matrices: Tensor) -> Tensor:
    """6D coding [..., 6] of rotation matrices [..., 3, 3]: the first two rows, row-major (as in RGBAvatar's data)."""
    return matrices[..., :2, :].reshape(*matrices.shape[:-2], 6)


def unit_quaternions(quaternions: Tensor, floor: float = 1e-8) -> Tensor:
    """Quaternions [..., 4] of unit length; a zero quaternion becomes the identity instead of a NaN."""
    length = quaternions.norm(dim=-1, keepdim=True)
    identity = torch.zeros_like(quaternions)
    identity[..., 0] = 1
    return torch.where(length > floor, quaternions / length.clamp_min(floor), identity)
