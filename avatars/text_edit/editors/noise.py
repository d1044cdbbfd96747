"""Noise in space: the same value at the same place of the person, from every view and at every time.

Random numbers on a lattice that repeats after `PERIOD` units, blended by torch's own sampler, which is quick anywhere.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

PERIOD = 48


@lru_cache(maxsize=64)
def _lattice(seed: int, channels: int) -> Tensor:
    """Random numbers in 0..1, [channels, PERIOD, PERIOD, PERIOD] by z, y, x; equal for equal seeds on any machine."""
    generator = torch.Generator().manual_seed(seed * 1000003 + channels)
    return torch.rand(channels, PERIOD, PERIOD, PERIOD, generator=generator)


@lru_cache(maxsize=64)
def _wrapped(seed: int) -> Tensor:
    """The same with the first planes again behind the last, [1, 1, PERIOD + 1, ...]."""
    volume = _lattice(seed, 1)
    for axis in (1, 2, 3):
        volume = torch.cat((volume, volume.narrow(axis, 0, 1)), axis)
    return volume[None]


def value_noise(points: Tensor, seed: int = 0) -> Tensor:
    """Smooth noise in 0..1 at points [..., 3], one feature per unit of length; [...]."""
    inside = torch.remainder(points, PERIOD)
    cell = torch.floor(inside)
    share = inside - cell
    share = share**3 * (share * (share * 6 - 15) + 10)
    grid = (cell + share) * (2 / PERIOD) - 1
    volume = _wrapped(seed).to(points)
    sampled = grid_sample(volume, grid.reshape(1, 1, 1, -1, 3), mode="bilinear", align_corners=True)
    return sampled.reshape(points.shape[:-1])


def cloud(points: Tensor, octaves: int = 4, seed: int = 0) -> Tensor:
    """Noise of several sizes in about 0..1 (each octave half as large and half as strong), at points [..., 3]."""
    total, most, strength = torch.zeros_like(points[..., 0]), 0.0, 1.0
    for octave in range(octaves):
        # Each octave is turned and shifted, or all of them would be still on the planes between cells.
        turned = points @ _turn(octave, points) * 2.0**octave + 17.3 * octave
        total = total + strength * value_noise(turned, seed + octave)
        most, strength = most + strength, strength / 2
    return total / most


def ridges(points: Tensor, octaves: int = 4, seed: int = 0) -> Tensor:
    """Thin bright lines in 0..1 as veins and cracks have, at points [..., 3]."""
    return 1 - (2 * cloud(points, octaves, seed) - 1).abs()


def warped(points: Tensor, scale: float, octaves: int, strength: float, seed: int) -> Tensor:
    """Points [..., 3] shifted by clouds of `scale`, up to about half of `strength` each way."""
    shifts = [cloud(points * scale + 7.7 * axis, octaves, seed) - 0.5 for axis in range(3)]
    return points + strength * torch.stack(shifts, -1)


def cells(points: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """For points [..., 3] among scattered seeds, one per unit cube: distances to the nearest two, and a number of it.

    [...] each; the number in 0..1 is the same all over the cell (Worley 1996).
    """
    table = _lattice(seed, 4).to(points).flatten(1).T.contiguous()  # [PERIOD³, 4]
    flat = points.reshape(-1, 3)
    base = torch.floor(flat).long()
    first = torch.full_like(flat[:, 0], 9.0)
    second, own = first.clone(), torch.zeros_like(first)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dz in (-1, 0, 1):
                at = base + torch.tensor([dx, dy, dz], device=points.device)
                x, y, z = torch.remainder(at, PERIOD).unbind(-1)
                entry = table[(z * PERIOD + y) * PERIOD + x]
                distance = (at + entry[:, :3] - flat).norm(dim=-1)
                nearer = distance < first
                second = torch.where(nearer, first, torch.minimum(second, distance))
                own = torch.where(nearer, entry[:, 3], own)
                first = torch.where(nearer, distance, first)
    shape = points.shape[:-1]
    return first.reshape(shape), second.reshape(shape), own.reshape(shape)


def _turn(octave: int, like: Tensor) -> Tensor:
    angle = torch.tensor(0.7 * octave)
    c, s = float(angle.cos()), float(angle.sin())
    about_z = like.new_tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return about_z @ like.new_tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
