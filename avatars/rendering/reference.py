"""The rasteriser in plain torch, differentiated by autograd: slow, any dtype, what the fast ones are tested against.

Projection: Zwicker et al. 2001 (EWA splatting) as in Kerbl et al. 2023; constants and clamps of gsplat 1.5.3.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import (
    ALPHA_CEILING,
    ALPHA_FLOOR,
    BLUR_PX2,
    SHARP_EPSILON,
    TANGENT_MARGIN,
    TRANSMITTANCE_STOP,
)

ROWS_AT_ONCE_ELEMENTS = 4_000_000


@dataclass(frozen=True, eq=False)
class Projected:
    """On one image. means_px: [N, 2]; conics: [N, 3] inverse covariance xx xy yy; depths: [N] m; drawn: [N]; sharp: [N]
    in 0..1, how much of a Gaussian's opacity is left if blurring is not to add to what it covers."""

    means_px: Tensor
    conics: Tensor
    depths: Tensor
    drawn: Tensor
    sharp: Tensor

    def some(self, rows: Tensor) -> Projected:
        """Those alone, in that order."""
        return Projected(*(getattr(self, part.name)[rows] for part in fields(self)))


def rotation_from_quaternion(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of wxyz quaternions [..., 4], which need not be unit."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def usable(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor) -> Tensor:
    """[..., N] bool: every value finite and the quaternion not zero."""
    finite = torch.isfinite(means).all(-1) & torch.isfinite(quats).all(-1) & torch.isfinite(scales).all(-1)
    finite = finite & torch.isfinite(opacities) & torch.isfinite(features).all(-1)
    return finite & (quats.square().sum(-1) > 0)


def project(
    means: Tensor, quats: Tensor, scales: Tensor, K: Tensor, camera_from_world: Tensor, cameras: CameraBatch
) -> Projected:
    """N Gaussians seen by one camera. means, scales: [N, 3] m; quats: [N, 4]; K: [3, 3]; camera_from_world: [4, 4]."""
    rotation = camera_from_world[:3, :3]
    camera_means = means @ rotation.T + camera_from_world[:3, 3]
    in_front = camera_means[:, 2] >= cameras.near_m
    # Gaussians behind the camera are moved to a harmless place before dividing, so that no NaN reaches the gradient.
    camera_means = torch.where(in_front[:, None], camera_means, torch.ones_like(camera_means))
    x, y, z = camera_means.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = TANGENT_MARGIN * cameras.width_px / fx, TANGENT_MARGIN * cameras.height_px / fy
    tangent_x = (x / z).clamp(-(cx / fx + margin_x), (cameras.width_px - cx) / fx + margin_x)
    tangent_y = (y / z).clamp(-(cy / fy + margin_y), (cameras.height_px - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    entries = [fx / z, zero, -fx * tangent_x / z, zero, fy / z, -fy * tangent_y / z]
    over = z
    if cameras.orthographic:
        over = torch.ones_like(z)
        entries = [fx * over, zero, zero, zero, fy * over, zero]
    jacobian = torch.stack(entries, dim=-1).unflatten(-1, (2, 3))
    axes = rotation_from_quaternion(quats) * scales[:, None, :]
    half = jacobian @ rotation @ axes  # [N, 2, 3], covariance on screen = half half^T
    covariance = half @ half.transpose(1, 2)
    xx, xy, yy = covariance[:, 0, 0] + BLUR_PX2, covariance[:, 0, 1], covariance[:, 1, 1] + BLUR_PX2
    determinant = xx * yy - xy * xy
    unblurred = (xx - BLUR_PX2) * (yy - BLUR_PX2) - xy * xy
    drawn = in_front & (determinant > 0) & torch.isfinite(determinant)
    determinant = torch.where(drawn, determinant, torch.ones_like(determinant))
    share = torch.where(drawn, unblurred / determinant, torch.zeros_like(determinant)).clamp(min=0)
    return Projected(
        means_px=torch.stack([fx * x / over + cx, fy * y / over + cy], dim=-1),
        conics=torch.stack([yy / determinant, -xy / determinant, xx / determinant], dim=-1),
        depths=z,
        drawn=drawn,
        sharp=(share + SHARP_EPSILON**2).sqrt() - SHARP_EPSILON,
    )


def pixel_weights(projected: Projected, opacities: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Blend weights alpha_i T_i [P, N] of depth-sorted Gaussians at pixel centres [P, 2], and what is left over [P]."""
    dx = projected.means_px[None, :, 0] - pixels[:, None, 0]
    dy = projected.means_px[None, :, 1] - pixels[:, None, 1]
    a, b, c = projected.conics.unbind(-1)
    exponent = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-exponent.clamp(min=0))).clamp(max=ALPHA_CEILING)
    alpha = torch.where((alpha >= ALPHA_FLOOR) & (exponent >= 0), alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    alpha = torch.where(after > TRANSMITTANCE_STOP, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    return alpha * before, after[:, -1]


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: CameraBatch,
    *,
    sharp: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied features [B, H, W, C], alpha [B, H, W], alpha-weighted depth sum [B, H, W]."""
    width, height = cameras.width_px, cameras.height_px
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = (torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5).to(means)
    images, alphas, depths = [], [], []
    for frame in range(means.shape[0]):
        kept = usable(means[frame], quats[frame], scales[frame], opacities[frame], features[frame]).nonzero()[:, 0]
        K, pose = cameras.K[frame].to(means), cameras.camera_from_world[frame].to(means)
        projected = project(means[frame, kept], quats[frame, kept], scales[frame, kept], K, pose, cameras)
        opacity = opacities[frame, kept] * projected.sharp if sharp else opacities[frame, kept]
        order = torch.argsort(projected.depths, stable=True)
        order = order[(projected.drawn & (opacity >= ALPHA_FLOOR))[order]]
        projected = projected.some(order)
        values = torch.cat([features[frame, kept][order], projected.depths[:, None]], dim=-1)
        if not len(order):
            # Kept in the graph, so that a backward pass finds its (zero) gradient.
            empty = values.sum() * 0 + means[frame].nan_to_num(0, 0, 0).sum() * 0
            images.append(
                torch.zeros(height * width, features.shape[2], dtype=means.dtype, device=means.device) + empty
            )
            alphas.append(torch.zeros_like(images[-1][:, 0]))
            depths.append(torch.zeros_like(images[-1][:, 0]))
            continue
        opacity = opacity[order]
        blended, left = [], []
        for part in pixels.split(max(1, ROWS_AT_ONCE_ELEMENTS // len(order))):
            weights, rest = pixel_weights(projected, opacity, part)
            blended.append(weights @ values)
            left.append(rest)
        image = torch.cat(blended)
        images.append(image[:, :-1])
        depths.append(image[:, -1])
        alphas.append(1 - torch.cat(left))
    shape = (means.shape[0], height, width)
    return (
        torch.stack(images).reshape(*shape, -1),
        torch.stack(alphas).reshape(shape),
        torch.stack(depths).reshape(shape),
    )
