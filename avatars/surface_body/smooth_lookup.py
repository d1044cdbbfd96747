"""Looking up tables between their nodes in plain torch, so that values and slopes can be differentiated any number of
times by places and tables alike (torch's own `grid_sample` only once)."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.surface_body.trilinear import CORNERS, Lattice

FLAT_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


def bilinear(table: Tensor, at: Tensor, *, slopes: bool = False) -> tuple[Tensor, Tensor]:
    """Values [P, C] of a plane [H, W, C] at places [P, 2] (along W, along H; -1 and 1 are the outer nodes), and slopes
    [P, 2, C] per unit of `at` (empty without).

    Beyond the plane everything is zero, within the last cell's width it falls to it, as in torch's `grid_sample` with
    zeros and aligned corners. Differentiable in both arguments, slopes too.
    """
    height, width, channels = table.shape
    per_unit = at.new_tensor(((width - 1) / 2, (height - 1) / 2))
    scaled = (at + 1) * per_unit
    cell = scaled.detach().floor()
    x, y = (scaled - cell).unsqueeze(-1).unbind(1)
    cell, most = cell.long(), torch.tensor((width - 1, height - 1), device=at.device)
    rows = table.reshape(-1, channels)
    nodes = []
    for ends in FLAT_CORNERS:
        corner = cell + torch.tensor(ends, device=at.device)
        real = ((corner >= 0) & (corner <= most)).all(-1, keepdim=True)
        corner = torch.minimum(corner.clamp_min(0), most)
        nodes.append(rows.index_select(0, corner[:, 1] * width + corner[:, 0]) * real)
    near, right, far, far_right = nodes
    low, high = right - near, far_right - far
    first, second = near + x * low, far + x * high
    up = second - first
    value = first + y * up
    if not slopes:
        return value, table.new_zeros(len(at), 0, channels)
    return value, torch.stack(((low + y * (high - low)) * per_unit[0], up * per_unit[1]), 1)


def trilinear_smooth(table: Tensor, lattice: Lattice, places: Tensor) -> tuple[Tensor, Tensor]:
    """Values [P] of a table [N, 1] on a lattice at places [P, 3] m and their gradient [P, 3].

    What `trilinear` gives, differentiable in the places again and again. Beyond the lattice the nearest place on it
    counts, and the gradient is zero along the axes that lead there.
    """
    first, _, moves = lattice.cells(places.detach())
    held = lattice.held(places)
    scaled = (held - lattice.low) * lattice.per_m
    share = scaled - scaled.detach().floor().minimum(
        (torch.tensor(lattice.shape, device=places.device) - 2).to(places.dtype)
    )
    value, gradient = places.new_zeros(len(places)), [places.new_zeros(len(places))] * 3
    for step, ends in zip(lattice.steps(), CORNERS, strict=True):
        node = table[:, 0].index_select(0, first + step)
        along = [share[:, axis] if end else 1 - share[:, axis] for axis, end in enumerate(ends)]
        value = value + along[0] * along[1] * along[2] * node
        for axis in range(3):
            one, two = (other for other in range(3) if other != axis)
            gradient[axis] = gradient[axis] + (node if ends[axis] else -node) * along[one] * along[two]
    return value, torch.stack(gradient, -1) * lattice.per_m * moves
