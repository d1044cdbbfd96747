"""What a rendered picture costs, and what a model costs by itself: weighted terms, each from its own start on."""

from __future__ import annotations

from torch import Tensor

from avatars.training.config import LossWeights
from avatars.training.losses import (
    charbonnier_loss,
    dssim_loss,
    gradient_loss,
    l1_loss,
    multi_scale_dssim_loss,
    orthogonality,
    pyramid_loss,
)
from avatars.training.lpips import find_lpips

LATE = {
    "ssim": dssim_loss,
    "multi_scale_ssim": multi_scale_dssim_loss,
    "gradient": gradient_loss,
    "pyramid": pyramid_loss,
}
"""Name -> loss of two batches [B, H, W, 3]; `LossWeights` has a weight of that name and its start under NAME_from."""


def image_terms(
    rendered: Tensor, alpha: Tensor, target: Tensor, target_alpha: Tensor, weights: LossWeights, at: float
) -> dict[str, Tensor]:
    """Named scalars, already weighted, whose sum is the image loss at position `at` (images seen) of the schedule.

    rendered, target: [B, H, W, 3] in 0..1, display-encoded, over the same backgrounds. alpha, target_alpha: [B, H, W].
    Terms of weight 0, or that start later, are left out; their work is not done. lpips is left out where its network
    is not at hand (`find_lpips` says so once). Raises BadConfig for weight files that are damaged.
    """
    terms = {}
    if weights.l1 > 0 or weights.charbonnier == 0:
        terms["l1"] = weights.l1 * l1_loss(rendered, target)
    if weights.charbonnier > 0:
        terms["charbonnier"] = weights.charbonnier * charbonnier_loss(rendered, target)
    for name, loss in LATE.items():
        weight = late_weight(getattr(weights, name), getattr(weights, f"{name}_from"), weights.ramp_images, at)
        if weight > 0:
            terms[name] = weight * loss(rendered, target)
    weight = late_weight(weights.lpips, weights.lpips_from, weights.ramp_images, at)
    if weight > 0:
        network = find_lpips(weights.lpips_folder, rendered.device)
        if network is not None:
            terms["lpips"] = weight * network(rendered, target).mean()
    if weights.alpha > 0:
        terms["alpha"] = weights.alpha * (alpha - target_alpha).abs().mean()
    return terms


def late_weight(weight: float, start: int, ramp: int, at: float) -> float:
    """The weight of a term at position `at`: 0 before its start, then rising straight to `weight` over `ramp` images.

    A term that is there from the first image has no ramp.
    """
    if weight <= 0 or at < start:
        return 0.0
    return weight if start == 0 or ramp <= 0 else weight * min((at - start + 1) / ramp, 1.0)


def blend_terms(psi: Tensor | None, deltas: tuple[Tensor, ...], weights: LossWeights) -> dict[str, Tensor]:
    """Sparsity of ψ [B, K] and orthogonality of the deltas (each [K, N, C]), weighted (method page 3.1).

    ψ None: blendshapes have not joined, no terms.
    """
    terms: dict[str, Tensor] = {}
    if psi is None:
        return terms
    if weights.sparsity > 0:
        terms["sparsity"] = weights.sparsity * psi.abs().mean()
    if weights.orthogonality > 0:
        terms["orthogonality"] = weights.orthogonality * orthogonality(deltas)
    return terms
