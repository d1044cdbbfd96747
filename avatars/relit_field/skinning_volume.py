"""Skinning weights everywhere in the canonical box: those of the nearest vertices, smoothed (method page C.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from avatars.relit_field.blend_volume import BlendVolume
from avatars.relit_field.settings import ArticulationSettings

SHALLOW = 4
"""A body is that much thinner in depth (y) than wide or high, and so is the volume."""


@dataclass(frozen=True, eq=False)
class SkinningVolume:
    """weights: [1, J, Z, Y, X] over the box low..high ([3] m each), trilinear between voxels, rows summing to 1."""

    weights: Tensor
    low: Tensor
    high: Tensor

    def at(self, places: Tensor) -> Tensor:
        """Weights [P, J] at canonical places [P, 3] m; outside the box the nearest place in it counts."""
        unit = 2 * (places - self.low) / (self.high - self.low) - 1
        found = grid_sample(
            self.weights, unit[None, :, None, None], mode="bilinear", padding_mode="border", align_corners=True
        )
        return found[0, :, :, 0, 0].T

    def posed(self, transforms: Tensor) -> BlendVolume:
        """Blended transforms everywhere, of posed-from-canonical transforms [J, 3, 4]."""
        depth, height, width = self.weights.shape[2:]
        rows = self.weights[0].flatten(1).T @ transforms.flatten(1)
        extent = self.high - self.low
        per_m = (torch.tensor((width, height, depth), device=extent.device) - 1) / extent
        return BlendVolume(rows.contiguous(), (width, height, depth), self.low, per_m)


def skinning_volume(
    vertices: NDArray[np.float64],
    weights: NDArray[np.float32],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    settings: ArticulationSettings,
    device: torch.device,
) -> SkinningVolume:
    """The volume of a canonical template: vertices [V, 3] m, weights [V, J], box corners [3] m."""
    from scipy.spatial import cKDTree

    side = settings.volume
    shape = np.array((side, max(2, side // SHALLOW), side))  # x, y, z
    axes = [np.linspace(low[axis], high[axis], shape[axis]) for axis in range(3)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    places = np.stack((x, y, z), -1).reshape(-1, 3)
    count = min(settings.neighbours, len(vertices))
    distance, index = cKDTree(vertices).query(places, k=count, workers=-1)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    share = 1 / np.maximum(distance, 1e-6)
    share = torch.from_numpy(share / share.sum(1, keepdims=True)).float().to(device)
    nearest, weight = torch.from_numpy(index).to(device), torch.from_numpy(weights).to(device)
    mixed = torch.zeros(len(places), weights.shape[1], device=device)
    for column in range(count):
        mixed += share[:, column, None] * weight[nearest[:, column]]
    volume = mixed.T.reshape(1, -1, *shape[::-1].tolist()).contiguous()
    for _ in range(settings.smoothings):
        wide = pad(volume, (1,) * 6, mode="replicate")
        inner = slice(1, -1)
        mean = wide[..., 2:, inner, inner] + wide[..., :-2, inner, inner] + wide[..., inner, 2:, inner]
        mean = (mean + wide[..., inner, :-2, inner] + wide[..., inner, inner, 2:] + wide[..., inner, inner, :-2]) / 6
        volume = torch.lerp(mean, volume, settings.smoothing)
    volume /= volume.sum(1, keepdim=True).clamp_min(1e-12)
    return SkinningVolume(volume, torch.from_numpy(low).float().to(device), torch.from_numpy(high).float().to(device))
