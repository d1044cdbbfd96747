"""What is usual of the surfaces of a head, and which Gaussians are neighbours on them."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.gaussians.binding import UvBinding

ROUGHNESS = {
    "skin": 0.5,
    "skin/lips": 0.4,
    "skin/scalp": 0.6,
    "skin/hair1": 0.5,
    "skin/hair2": 0.5,
    "skin/hair3": 0.5,
    "eye_l": 0.12,
    "eye_r": 0.12,
    "teeth": 0.25,
    "tongue": 0.35,
    "lashes": 0.6,
    "tights": 0.8,
}
"""Patch, or its face group, -> roughness it starts with and is held near; 0.5 for any other."""
USUAL = 0.5
METALLIC = 0.02
NEIGHBOURS = 4


def usual_roughness(binding: UvBinding) -> Tensor:
    """[N] on the binding's device."""
    table = [ROUGHNESS.get(name, ROUGHNESS.get(name.partition("/")[0], USUAL)) for name in binding.group_names]
    return torch.tensor(table, device=binding.group.device)[binding.group]


def neighbours(binding: UvBinding, points: Tensor) -> Tensor:
    """[N, K] the nearest others of the same patch for each point [N, 3] m; itself where its patch has no others."""
    found = torch.arange(len(points))[:, None].repeat(1, NEIGHBOURS)
    places, group = points.detach().cpu().numpy(), binding.group.cpu()
    for patch in range(len(binding.group_names)):
        rows = torch.nonzero(group == patch)[:, 0]
        if len(rows) <= NEIGHBOURS:
            continue
        near = cKDTree(places[rows.numpy()]).query(places[rows.numpy()], k=NEIGHBOURS + 1)[1][:, 1:]
        found[rows] = rows[torch.from_numpy(near)]
    return found.to(points.device)
