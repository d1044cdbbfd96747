"""Inverses of very many affine transforms, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-4
"""Determinant below which a transform cannot be taken back."""


def inverse_applied(rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Places [P, 3] taken back through affine transforms rows [P, 12], and the inverse linear parts [P, 3, 3].

    A flat transform is taken back by its transpose.
    """
    linear, shift = rows.view(-1, 3, 4)[..., :3], rows.view(-1, 3, 4)[..., 3]
    a, b, c = linear.unbind(1)
    columns = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -1)
    determinant = (a * columns[..., 0]).sum(-1)[:, None, None]
    flat = determinant.abs() <= FLAT
    back = torch.where(
        flat, linear.transpose(1, 2), columns / torch.where(flat, torch.ones_like(determinant), determinant)
    )
    return (back * (places - shift)[:, None]).sum(-1), back


def inverse_affine(transforms: Tensor) -> Tensor:
    """Inverse [..., 3, 4] of affine transforms [..., 3, 4]; one that cannot be inverted gives its transpose instead."""
    flat = transforms.reshape(-1, 12)
    shift, back = inverse_applied(flat, flat.new_zeros(len(flat), 3))
    return torch.cat((back, shift[..., None]), -1).view(transforms.shape)
