"""What a rendered picture costs: the weighted image terms of a batch, each from its own position in the schedule on."""

from __future__ import annotations

from torch import Tensor

from avatars.training.config import LossWeights
from avatars.training.losses import dssim_loss, l1_loss


def image_terms(
    rendered: Tensor, alpha: Tensor, target: Tensor, target_alpha: Tensor, weights: LossWeights, at: float
) -> dict[str, Tensor]:
    """Named scalars, already weighted, whose sum is the image loss at position `at` (images seen) of the schedule.

    rendered, target: [B, H, W, 3] in 0..1, display-encoded, over the same backgrounds. alpha, target_alpha: [B, H, W].
    Terms of weight 0, or that start later, are left out; their work is not done.
    """
    terms = {"l1": weights.l1 * l1_loss(rendered, target)}
    if weights.ssim > 0 and at >= weights.ssim_from:
        terms["ssim"] = weights.ssim * dssim_loss(rendered, target)
    if weights.alpha > 0:
        terms["alpha"] = weights.alpha * (alpha - target_alpha).abs().mean()
    return terms
