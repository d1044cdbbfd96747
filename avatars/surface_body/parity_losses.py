"""What the published method minimises (method page 7), on patches and on the rays behind them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from avatars.surface_body.parity_settings import ParityLosses
from avatars.training.losses import dssim_loss, multi_scale_dssim_loss, pyramid_loss
from avatars.training.lpips import Lpips

INSTEAD_PYRAMID = 5.0
"""Beside 1 - multi-scale SSIM, in place of LPIPS: in the proportion in which bodies have them (avatars.mlp_body)."""


def patch_terms(patches: Tensor, targets: Tensor, weights: ParityLosses, network: Lpips | None) -> dict[str, Tensor]:
    """Weighted terms of patches [B, H, W, 3] in 0..1. network: LPIPS where its weights are here; without it perceptual
    is a multi-scale SSIM and the difference of Laplacian pyramids."""
    error = patches - targets
    terms = {
        "rgb": weights.rgb * error.abs().mean(),
        "mse": weights.mse * error.square().mean(),
        "nssim": weights.nssim * dssim_loss(patches, targets),
    }
    if weights.perceptual > 0 and network is not None:
        terms["lpips"] = weights.perceptual * network(patches, targets).mean()
    elif weights.perceptual > 0:
        instead = multi_scale_dssim_loss(patches, targets) + INSTEAD_PYRAMID * pyramid_loss(patches, targets)
        terms["perceptual"] = weights.perceptual * instead
    return terms


def mask_counts(distance_m: Tensor, inside: Tensor) -> Tensor:
    """Which rays `mask_term` counts, [R] bool."""
    lowest, highest = distance_m.amin(1), distance_m.amax(1)
    return ~inside | (lowest > 0) | (highest < 0)


def mask_term(distance_m: Tensor, inside: Tensor, sharpness: float) -> Tensor:
    """Cross-entropy of the smallest distance of each ray, over sharpness: background rays must stay outside, rays of
    the person that never change sign must come nearer. distance_m: [R, N]; inside: [R] bool."""
    lowest, counted = distance_m.amin(1), mask_counts(distance_m, inside)
    if not bool(counted.any()):
        return distance_m.sum() * 0.0
    logits = -sharpness * lowest[counted]
    return binary_cross_entropy_with_logits(logits, inside[counted].to(logits)) / sharpness


def mask_sharpness(weights: ParityLosses, share: float) -> float:
    """1/m at a share of the schedule."""
    return weights.mask_sharpness * 2.0 ** sum(share >= place for place in weights.mask_doubles)


def skinning_weight(weights: ParityLosses, share: float) -> float:
    """The weight of keeping to the template's skinning at a share of the schedule; 0 from skinning_until on."""
    if share >= weights.skinning_until:
        return 0.0
    return weights.skinning * max(1 - share * weights.skinning_decay, 0.0)


def eikonal_term(gradient: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 over [..., 3], with a finite slope where a gradient is zero."""
    return ((gradient.square().sum(-1) + 1e-12).sqrt() - 1).square().mean()
