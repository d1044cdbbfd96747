"""Lighting whole pictures on CUDA in one kernel; `shading.shade` is the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.lighting.brdf import DIELECTRIC_F0, GRAZING, SMOOTHEST, split_sum_table
from avatars.lighting.prefilter import FilteredLight
from avatars.rendering.cameras import CameraBatch


def shade_rows(
    features: Tensor,
    alpha: Tensor,
    cameras: CameraBatch,
    light: FilteredLight,
    *,
    surface: int,
    normal: int,
    turn: Tensor | None = None,
) -> Tensor:
    """Diffuse and specular linear radiance times cover [B, H, W, 6] of blended features [B, H, W, C], alpha [B, H, W].

    surface, normal: the channels at which `lit_pixels`' surface and the normal (3) begin; one lamp's visibility follows
    the surface for each of the light's lobes. turn: [3, 3], world directions @ turn are those the light is given in.
    """
    from avatars.lighting.cuda_shade_kernels import PIXELS_A_BLOCK, WARPS
    from avatars.lighting.cuda_shade_kernels import shade_rows as kernel

    frames, height, width = features.shape[:3]
    if features.stride(3) != 1 or features.stride(1) != width * features.stride(2):
        features = features.contiguous()
    alpha = alpha.contiguous()
    out = features.new_empty(frames, height, width, 6)
    lamps, lights = 0, features
    if light.lobes is not None and len(light.lobes.directions):
        lamps, lobes = len(light.lobes.directions), light.lobes
        lights = torch.cat([lobes.directions, lobes.irradiance, lobes.half_angle_rad[:, None]], -1).float().contiguous()
    if turn is None:
        turn = torch.eye(3, device=features.device)
    pixels = height * width
    kernel[(-(-pixels // PIXELS_A_BLOCK), frames)](
        features, alpha, cameras.K.contiguous(), cameras.camera_from_world.contiguous(), turn.float().contiguous(),
        light.specular.contiguous(), light.diffuse.contiguous(), split_sum_table(features.device), lights,
        float(light.rotation_rad), float(light.strength), out, features.stride(2), features.stride(0), alpha.stride(0),
        pixels, width, ORTHOGRAPHIC=cameras.orthographic, LAMPS=lamps, SURFACE=surface, NORMAL=normal,
        HEIGHT=light.specular.shape[1], DIFFUSE_HEIGHT=light.diffuse.shape[0],
        SIDE=split_sum_table(features.device).shape[0], GRAZING=GRAZING, SMOOTHEST=SMOOTHEST, F0=DIELECTRIC_F0,
        BLOCK=PIXELS_A_BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return out
