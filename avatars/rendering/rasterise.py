"""The one door: Gaussians + cameras + features -> images, by whichever rasteriser suits the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import EMPTY_ALPHA
from shared.errors import EffigyError

Implementation = Literal["auto", "cpu", "gsplat", "reference"]


@dataclass(frozen=True, eq=False)
class Rasterised:
    """What a rasteriser returns. features: [B, H, W, C]; alpha: [B, H, W] in 0..1; depth: [B, H, W] m, 0 where empty.

    Features are premultiplied (plus what shows of the background). Depth is the expected camera z of what was hit.
    """

    features: Tensor
    alpha: Tensor
    depth: Tensor


def rasterise(
    gaussians: PosedGaussians,
    cameras: CameraBatch,
    features: Tensor,
    *,
    background: Tensor | None = None,
    implementation: Implementation = "auto",
    depth: bool = True,
    finite: bool = False,
) -> Rasterised:
    """Blend N Gaussians front to back into B images (Kerbl et al. 2023, with the constants of gsplat 1.5.3).

    features: [B, N, C], any quantity: colours, normals, ids. background: [B, C] shown where alpha is below 1.
    A batch of one camera or of one frame of Gaussians is repeated to match the other. Gradients flow to means, quats,
    scales, opacities, features and background. A Gaussian with a value that is not finite, or with a zero quaternion,
    is not drawn and gets a zero gradient. "auto" is gsplat for CUDA tensors and the compiled CPU rasteriser otherwise.
    Equal input gives bit-equal output on the CPU, whatever the number of threads. depth False leaves depth zero, which
    saves gsplat a channel; finite says that no value is broken, which saves it the search.
    """
    frames = max(gaussians.frames, cameras.frames)
    for name, count in (("Gaussians", gaussians.frames), ("cameras", cameras.frames), ("features", features.shape[0])):
        if count not in (1, frames):
            raise EffigyError(f"{name} do not fit the batch", found=f"{count} frames", expected=f"1 or {frames}")
    if features.ndim != 3 or features.shape[1] != gaussians.count or features.shape[2] < 1:
        raise EffigyError(
            "features do not fit the Gaussians", found=str(list(features.shape)), expected=f"[B, {gaussians.count}, C]"
        )
    channels = features.shape[2]
    if background is not None and (background.ndim != 2 or background.shape[1] != channels):
        raise EffigyError(
            "background does not fit the features", found=str(list(background.shape)), expected=f"[B, {channels}]"
        )
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, features)
    parts = tuple(_repeated(part, frames) for part in parts)
    lenses = cameras
    if cameras.frames != frames:
        K, pose = (_repeated(part, frames) for part in (cameras.K, cameras.camera_from_world))
        lenses = replace(cameras, K=K, camera_from_world=pose)
    if implementation == "auto":
        implementation = "gsplat" if gaussians.means.is_cuda else "cpu"
    behind = None if background is None else _repeated(background, frames)
    blended, alpha, depth_sum = _blend(
        implementation, parts, lenses, behind, depth=depth, finite=finite, sharp=gaussians.sharp
    )
    if depth_sum is None:
        return Rasterised(blended, alpha, alpha.new_zeros(()).expand_as(alpha))
    mean_depth = torch.where(alpha > EMPTY_ALPHA, depth_sum / alpha.clamp(min=EMPTY_ALPHA), torch.zeros_like(alpha))
    return Rasterised(blended, alpha, mean_depth)


def _repeated(part: Tensor, frames: int) -> Tensor:
    """The same for every frame of the batch, where it is not there for each already."""
    return part if len(part) == frames else part.expand(frames, *part.shape[1:])


def _blend(
    implementation: Implementation,
    parts: tuple[Tensor, ...],
    cameras: CameraBatch,
    background: Tensor | None,
    *,
    depth: bool,
    finite: bool,
    sharp: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features over the background [B, H, W, C], alpha [B, H, W] and the alpha-weighted depth sum, None if unwanted."""
    means, quats, scales, opacities, features = parts
    if implementation == "gsplat":
        from avatars.rendering.gsplat_backend import blend as gsplat_blend

        return gsplat_blend(*parts, cameras, background=background, depth=depth, finite=finite, sharp=sharp)
    if implementation == "cpu":
        from avatars.rendering.cpu import blend
    elif implementation == "reference":
        from avatars.rendering.reference import blend
    else:
        raise EffigyError(f"unknown rasteriser {implementation!r}", expected="auto, cpu, gsplat or reference")
    blended, alpha, depth_sum = blend(means, quats, scales, opacities, features, cameras, sharp=sharp)
    if background is not None:
        blended = blended + (1.0 - alpha)[..., None] * background[:, None, None, :]
    return blended, alpha, depth_sum if depth else None
