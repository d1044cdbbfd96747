"""Sharp Gaussians (see PosedGaussians.sharp) as ordinary ones that look the same to some cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.reference import project


def made_ordinary(gaussians: PosedGaussians, cameras: CameraBatch) -> PosedGaussians:
    """Those that are not sharp and look the same through B cameras; differentiable."""
    if not gaussians.sharp:
        return gaussians
    rows = []
    for frame in range(max(gaussians.frames, cameras.frames)):
        own, camera = min(frame, gaussians.frames - 1), min(frame, cameras.frames - 1)
        lens, pose = (part[camera].to(gaussians.means) for part in (cameras.K, cameras.camera_from_world))
        shape = (gaussians.means[own], gaussians.quats[own], gaussians.scales[own])
        rows.append(gaussians.opacities[own] * project(*shape, lens, pose, cameras).sharp)
    opacities = torch.stack(rows)
    parts = {
        name: value.expand(len(opacities), *value.shape[1:])
        for name in ("means", "quats", "scales", "colours", "normals")
        if (value := getattr(gaussians, name)) is not None
    }
    return replace(gaussians, **parts, opacities=opacities, sharp=False)


def alike(sets: Sequence[PosedGaussians], cameras: CameraBatch) -> list[PosedGaussians]:
    """Sets that can be put together: all sharp, or none."""
    if len({gaussians.sharp for gaussians in sets}) < 2:
        return list(sets)
    return [made_ordinary(gaussians, cameras) for gaussians in sets]
