"""gsplat's 2D Gaussian splatting behind our own call: CUDA only, optional (Apache-2.0).

Features and depth travel in one buffer padded with zeros to a width that gsplat compiles, because its own padding is
uninitialised memory. gsplat knows pinhole cameras only: parallel rays are those of a camera very far away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.gsplat_backend import views_of, why_unavailable
from shared.errors import EnvironmentFailed

WIDTHS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64)
FAR_M = 1000.0


def padded_width(channels: int) -> int:
    """The narrowest width gsplat compiles that holds so many channels (features and depth)."""
    return next((width for width in WIDTHS if width >= channels), channels)


def _function() -> Any:
    reason = why_unavailable()
    if reason:
        raise EnvironmentFailed(
            "gsplat cannot be used",
            found=reason,
            do="Install Effigy with its 'cuda' extra on a CUDA machine, or render on the CPU",
        )
    from gsplat import rasterization_2dgs

    return rasterization_2dgs


def from_far_away(means: Tensor, cameras: CameraBatch) -> tuple[CameraBatch, Tensor]:
    """A pinhole camera FAR_M behind each orthographic one that shows the same, and by how much depths grew, [B, 1]."""
    pose = cameras.camera_from_world.to(means).clone()
    depth = (means @ pose[:, 2, :3, None])[..., 0] + pose[:, 2, 3, None]
    middle = depth.detach().mean(dim=1, keepdim=True)
    back = FAR_M - middle
    pose[:, 2, 3] += back[:, 0]
    K = cameras.K.to(means).clone()
    K[:, 0, 0] *= FAR_M
    K[:, 1, 1] *= FAR_M
    return replace(cameras, K=K, camera_from_world=pose, near_m=float(FAR_M / 2), orthographic=False), back


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: CameraBatch,
    distortion: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Premultiplied features [B, H, W, C], alpha, alpha-weighted depth sum, distortion [B, H, W]; CUDA, float32.

    Values must be finite. Raises EnvironmentFailed where gsplat or CUDA is missing.
    """
    rasterization_2dgs = _function()
    frames, count, channels = features.shape
    back = means.new_zeros(1, 1)
    if cameras.orthographic:
        cameras, back = from_far_away(means, cameras)
    if count == 0:
        nothing = features.sum() * 0 + means.sum() * 0
        empty = features.new_zeros(frames, cameras.height_px, cameras.width_px, channels) + nothing
        return (
            empty,
            empty.new_zeros(empty.shape[:3]),
            empty.new_zeros(empty.shape[:3]),
            empty.new_zeros(empty.shape[:3]),
        )
    spare = padded_width(channels + 1) - channels - 1
    means, features = means.float(), features.float()
    parts = [features, features.new_zeros(frames, count, spare)] if spare else [features]
    if not distortion:
        # As a channel of ours: gsplat's own depth mode also makes normals of it, which costs as much as blending.
        ahead = cameras.camera_from_world[:, 2].to(means)
        parts.append((means * ahead[:, None, :3]).sum(-1, keepdim=True) + ahead[:, None, 3:])
    colours = torch.cat(parts, dim=-1)
    blended, alpha, _, _, spread, _, _ = rasterization_2dgs(
        means=means.contiguous(),
        quats=quats.float().contiguous(),
        scales=(scales if scales.shape[-1] == 3 else torch.cat([scales, scales[..., :1]], -1)).float().contiguous(),
        opacities=opacities.float().contiguous(),
        colors=colours[:, None].contiguous(),
        **views_of(cameras, means.device),
        render_mode="RGB+D" if distortion else "RGB",
        distloss=distortion,
    )
    cover = alpha[:, 0, :, :, 0]
    depth_sum = blended[:, 0, :, :, -1] - cover * back[..., None]
    wide = spread[:, 0, :, :, 0] if distortion else torch.zeros_like(cover)
    return blended[:, 0, :, :, :channels], cover, depth_sum, wide
