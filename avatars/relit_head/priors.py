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
HAIR = ("skin/hair", "skin/scalp", "haircap")
"""Patches that are hair begin with one of these."""
DIM = 0.5
"""Of the mean light: what shows less as a white surface is dim, its albedo held to that of its kind."""
USUAL = 0.5
METALLIC = 0.02
NEIGHBOURS = 4


def usual_roughness(binding: UvBinding) -> Tensor:
    """[N] on the binding's device."""
    table = [ROUGHNESS.get(name, ROUGHNESS.get(name.partition("/")[0], USUAL)) for name in binding.group_names]
    return torch.tensor(table, device=binding.group.device)[binding.group]


def is_hair(binding: UvBinding) -> Tensor:
    """[N] bool on the binding's device."""
    table = [name.startswith(HAIR) for name in binding.group_names]
    return torch.tensor(table, device=binding.group.device)[binding.group]


def kinds(binding: UvBinding) -> Tensor:
    """[N] int64: surfaces that look alike have one number. Patches of skin are one, but for lips and hair."""
    plain = [
        "skin" if name.startswith("skin/") and name != "skin/lips" and not name.startswith(HAIR) else name
        for name in binding.group_names
    ]
    order = {name: number for number, name in enumerate(dict.fromkeys(plain))}
    return torch.tensor([order[name] for name in plain], device=binding.group.device)[binding.group]


def held_where_dim(albedo: Tensor, kind: Tensor, lit: Tensor) -> Tensor:
    """Mean L1 distance of albedo [N, 3] from the mean of its kind [N], only where little light falls.

    lit: [N] what a white surface shows there, of the mean light. The mean is that of lit surfaces and has no gradient;
    a kind that is dim everywhere is left alone.
    """
    lit = lit.clamp(0, 1)
    share = (lit / DIM - 1).clamp(min=0)[:, None]
    count = int(kind.max()) + 1 if len(kind) else 0
    zero = albedo.new_zeros(count, 4)
    total = zero.index_add(0, kind, torch.cat([albedo.detach() * share, share], -1))
    known = total[:, 3] > 1
    mean = total[:, :3] / total[:, 3:].clamp(min=1)
    weight = (1 - lit / DIM).clamp(min=0) * known[kind]
    return (weight * (albedo - mean[kind]).abs().mean(-1)).mean()


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
