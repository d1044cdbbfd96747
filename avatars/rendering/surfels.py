"""Flat Gaussians (surfels) + cameras + features -> images: the door of `rasterise` for 2D Gaussian splatting.

Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", SIGGRAPH 2024, with the conventions of
gsplat 1.5.3: a pixel's ray meets the plane of the surfel; a surfel seen edge on or smaller than a pixel is held up by a
round low-pass of variance 1/2 px² around its centre; surfels are sorted, and depth counted, by their centres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import ALPHA_FLOOR, EMPTY_ALPHA
from avatars.rendering.rasterise import Implementation, Rasterised
from avatars.rendering.reference import rotation_from_quaternion, usable
from shared.errors import EffigyError

LOW_PASS = 2.0  # inverse variance in px^-2
LOW_PASS_REACH_PX = 2.4  # beyond it the low-pass is below 1/255


@dataclass(frozen=True, eq=False)
class SurfelImage(Rasterised):
    """As `Rasterised`; distortion: [B, H, W] m, sum over pairs of w_i w_j |z_i - z_j|, 0 where not asked for."""

    distortion: Tensor


@dataclass(frozen=True, eq=False)
class ProjectedSurfels:
    """On B images. pixel_from_surfel: [B, N, 3, 3], takes (u, v, 1) in standard deviations to homogeneous pixels.

    centres_px: [B, N, 2]; half_px: [B, N, 2] half the box in which alpha can reach 1/255; depths: [B, N] m; drawn.
    """

    pixel_from_surfel: Tensor
    centres_px: Tensor
    half_px: Tensor
    depths: Tensor
    drawn: Tensor


def project_surfels(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, cameras: CameraBatch
) -> ProjectedSurfels:
    """Differentiable projection. means [B, N, 3], quats [B, N, 4], scales [B, N, 2 or 3] m, opacities [B, N]."""
    K, pose = cameras.K.to(means), cameras.camera_from_world.to(means)
    turn = pose[:, None, :3, :3]
    centre = (turn @ means[..., None])[..., 0] + pose[:, None, :3, 3]
    depths = centre[..., 2]
    drawn = (depths >= cameras.near_m) & (opacities >= ALPHA_FLOOR)
    # What is not drawn is moved to a harmless place before dividing, so that no NaN reaches a gradient.
    ahead = torch.tensor([0.0, 0.0, 1.0]).to(means)
    centre = torch.where(drawn[..., None], centre, ahead)
    axes = turn @ rotation_from_quaternion(quats)[..., :2] * scales[..., None, :2]
    in_camera = torch.cat([axes, centre[..., None]], dim=-1)  # [B, N, 3, 3]
    last = in_camera[..., 2, :]
    if cameras.orthographic:
        last = torch.tensor([0.0, 0.0, 1.0]).to(means).expand_as(last)
    fx, fy, cx, cy = (K[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    rows = [fx * in_camera[..., 0, :] + cx * last, fy * in_camera[..., 1, :] + cy * last, last]
    pixel_from_surfel = torch.stack(rows, dim=-2)
    sign = torch.tensor([1.0, 1.0, -1.0]).to(means)
    centres_px, _, _ = _extent(pixel_from_surfel, sign.expand_as(last))
    reach = (2 * torch.log((opacities / ALPHA_FLOOR).clamp(min=1.0)))[..., None].detach()
    wide, half2, before = _extent(pixel_from_surfel.detach(), torch.cat([reach, reach, -torch.ones_like(reach)], -1))
    drawn = drawn & before & torch.isfinite(centres_px).all(-1) & torch.isfinite(wide).all(-1)
    # The box of the disk where it meets 1/255 and the low-pass around the centre: both must fit.
    half = torch.maximum(half2.clamp(min=0).sqrt(), torch.full_like(half2, LOW_PASS_REACH_PX))
    half = half + (wide - centres_px.detach()).abs()
    return ProjectedSurfels(pixel_from_surfel, centres_px, half, depths, drawn)


def _extent(matrix: Tensor, conic: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre and squared half size [..., 2] px of the box of a projected circle, and whether it is all before the eye.

    conic [..., 3]: r², r², -1 of the circle's radius r.
    """
    last = matrix[..., 2, :]
    distance = (conic * last * last).sum(-1)
    before = distance < 0
    weight = conic / torch.where(before, distance, -torch.ones_like(distance))[..., None]
    centre = torch.stack([(weight * matrix[..., row, :] * last).sum(-1) for row in (0, 1)], dim=-1)
    size = torch.stack([(weight * matrix[..., row, :].square()).sum(-1) for row in (0, 1)], dim=-1)
    return centre, centre.detach().square() - size.detach(), before


def rasterise_surfels(
    gaussians: PosedGaussians,
    cameras: CameraBatch,
    features: Tensor,
    *,
    background: Tensor | None = None,
    implementation: Implementation = "auto",
    distortion: bool = False,
    finite: bool = False,
) -> SurfelImage:
    """Blend N surfels front to back into B images; arguments as for `rasterise`, the third scale is ignored.

    Gradients flow to means, quats, scales, opacities, features and background. A surfel with a value that is not
    finite, or that reaches behind the camera, is not drawn. distortion costs the backward pass little; ask only then.
    finite: the caller vouches that all values are, which saves a dozen small kernels on CUDA.
    """
    frames = max(gaussians.frames, cameras.frames)
    if features.ndim != 3 or features.shape[1] != gaussians.count or features.shape[2] < 1:
        raise EffigyError(
            "features do not fit the surfels", found=str(list(features.shape)), expected=f"[B, {gaussians.count}, C]"
        )
    for name, count in (("surfels", gaussians.frames), ("cameras", cameras.frames), ("features", features.shape[0])):
        if count not in (1, frames):
            raise EffigyError(f"{name} do not fit the batch", found=f"{count} frames", expected=f"1 or {frames}")
    cameras = replace(
        cameras,
        K=cameras.K.expand(frames, -1, -1),
        camera_from_world=cameras.camera_from_world.expand(frames, -1, -1),
    )
    parts = [gaussians.means, gaussians.quats, gaussians.scales]
    means, quats, scales = (part.expand(frames, -1, -1) for part in parts)
    opacities, features = gaussians.opacities.expand(frames, -1), features.expand(frames, -1, -1)
    if not finite:
        good = usable(means, quats, scales, opacities, features)
        wide, unturned = good[..., None], torch.tensor([1.0, 0.0, 0.0, 0.0], device=quats.device, dtype=quats.dtype)
        means, quats = torch.where(wide, means, 0.0), torch.where(wide, quats, unturned)
        scales, opacities = torch.where(wide, scales, 1e-6), torch.where(good, opacities, 0.0)
        features = torch.where(wide, features, 0.0)
    if implementation == "auto":
        implementation = "gsplat" if means.is_cuda else "cpu"
    if implementation == "gsplat":
        from avatars.rendering.gsplat_surfels import blend as on_cuda

        blended, alpha, depth_sum, spread = on_cuda(means, quats, scales, opacities, features, cameras, distortion)
    else:
        projected = project_surfels(means, quats, scales, opacities, cameras)
        if implementation == "cpu":
            from avatars.rendering.cpu_surfels import blend
        elif implementation == "reference":
            from avatars.rendering.surfels_reference import blend
        else:
            raise EffigyError(f"unknown rasteriser {implementation!r}", expected="auto, cpu, gsplat or reference")
        blended, alpha, depth_sum, spread = blend(projected, opacities, features, cameras, distortion)
    if background is not None:
        blended = blended + (1.0 - alpha)[..., None] * background.expand(frames, -1)[:, None, None, :]
    depth = torch.where(alpha > EMPTY_ALPHA, depth_sum / alpha.clamp(min=EMPTY_ALPHA), torch.zeros_like(alpha))
    return SurfelImage(blended, alpha, depth, spread)
