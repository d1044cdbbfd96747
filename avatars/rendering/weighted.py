"""Weighted alpha blending (WABE, GaussianAvatar-Editor): pictures in which what is hidden has no say.

Ordinary blending gives a Gaussian behind closed lips a small part of the lips' gradient, and in a moving head it comes
back dirty when the mouth opens. Here each contribution is weighted by how little is in front of it,

    C = A / S * sum_k w_k alpha_k T_k c_k,   w_k = exp(-beta (1 - T_k)),   A = sum alpha T,   S = sum w alpha T,

so that brightness holds. w is held when gradients are taken; the normalisation is differentiated, so that a change of
opacity among Gaussians of one colour changes nothing. beta 0 is ordinary blending. For losses of edits only: what is
shown is always blended in the ordinary way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Implementation
from avatars.rendering.sharpness import made_ordinary
from shared.errors import EffigyError

BETA = 6.0


@dataclass(frozen=True, eq=False)
class Weighted:
    """colours: [B, H, W, 3], premultiplied plus what shows of the background; alpha: [B, H, W], the ordinary one.

    shares: [B, N] in 0..1 without gradients, how much each Gaussian lets be seen of what it would cover alone.
    """

    colours: Tensor
    alpha: Tensor
    shares: Tensor


def rasterise_weighted(
    gaussians: PosedGaussians,
    cameras: CameraBatch,
    colours: Tensor,
    *,
    beta: float = BETA,
    background: Tensor | None = None,
    implementation: Implementation = "auto",
) -> Weighted:
    """Blend by visibility; arguments as of `rasterise`, colours [B, N, 3].

    Gradients flow to means, quats, scales, opacities, colours and background. Raises EffigyError for shapes that do not
    fit, EnvironmentFailed on CUDA devices without Triton.
    """
    frames = max(gaussians.frames, cameras.frames)
    if colours.ndim != 3 or tuple(colours.shape[1:]) != (gaussians.count, 3) or not 0 <= beta <= 100:
        raise EffigyError(
            "weighted blending was asked for something else",
            found=f"colours {list(colours.shape)}, beta {beta}",
            expected=f"colours [B, {gaussians.count}, 3] and beta in 0 to 100",
        )
    gaussians = made_ordinary(gaussians, cameras)
    parts = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colours]
    parts = [part if len(part) == frames else part.expand(frames, *part.shape[1:]) for part in parts]
    K, pose = (part.expand(frames, -1, -1) for part in (cameras.K, cameras.camera_from_world))
    lenses = replace(cameras, K=K, camera_from_world=pose)
    if implementation == "auto":
        implementation = "gsplat" if gaussians.means.is_cuda else "cpu"
    if implementation == "gsplat":
        from avatars.rendering.cuda_weighted import blend
    elif implementation == "cpu":
        from avatars.rendering.cpu_weighted import blend
    elif implementation == "reference":
        from avatars.rendering.weighted_reference import blend
    else:
        raise EffigyError(f"unknown rasteriser {implementation!r}", expected="auto, cpu, gsplat or reference")
    means, quats, scales, opacities, own = parts
    shown, alpha, shares = blend(means, quats, scales, opacities, own, lenses, beta)
    if background is not None:
        shown = shown + (1.0 - alpha)[..., None] * background.expand(frames, -1)[:, None, None, :]
    return Weighted(shown, alpha, shares)
