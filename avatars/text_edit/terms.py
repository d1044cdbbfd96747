"""What an edit minimises: nearness to the edited pictures, a mouth that stays, Gaussians that stay small and near."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from avatars.text_edit.config import EditWeights
from avatars.text_edit.editable import Editable
from avatars.training.losses import gradient_loss, l1_loss, multi_scale_dssim_loss
from avatars.training.lpips import Lpips, find_lpips
from avatars.training.ssim import ssim_terms

log = logging.getLogger("effigy.edit")


class PictureTerms:
    """The terms of pictures. Where LPIPS' weights are absent its place is taken by structure and gradient, told once.

    late_structure: the share of the run from which structure takes LPIPS' place in any case.
    """

    def __init__(self, weights: EditWeights, late_structure: float, device: torch.device) -> None:
        self.weights, self.late = weights, late_structure
        self.lpips: Lpips | None = None
        if weights.lpips > 0:
            self.lpips = find_lpips(weights.lpips_folder, device)
            if self.lpips is None:
                log.warning("structure over scales and gradients take the place of LPIPS, whose weights are not here")

    def __call__(self, shown: Tensor, edited: Tensor, share: float) -> dict[str, Tensor]:
        """Weighted terms of renders and edited pictures, both [B, H, W, 3], at a share 0..1 of the run."""
        wanted = self.weights
        terms = {"edit_l1": wanted.l1 * l1_loss(shown, edited)}
        if self.lpips is not None and share < self.late:
            terms["edit_lpips"] = wanted.lpips * self.lpips(shown, edited).mean()
            return terms
        if wanted.structure > 0:
            terms["edit_structure"] = wanted.structure * multi_scale_dssim_loss(shown, edited)
        if wanted.gradient > 0:
            terms["edit_gradient"] = wanted.gradient * gradient_loss(shown, edited)
        return terms


def mouth_terms(shown: Tensor, kept: Tensor, mask: Tensor, weights: EditWeights) -> dict[str, Tensor]:
    """What changes inside the mouth costs, by the mask's own area; nothing where no mouth is seen.

    shown, kept: [B, H, W, 3], now and before the edit. mask: [B, H, W] bool.
    """
    area = mask.sum()
    if not int(area):
        return {}
    rows, columns = mask.any(0).any(1).nonzero()[:, 0], mask.any(0).any(0).nonzero()[:, 0]
    window = (
        slice(None),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    inside = mask[window][..., None].to(shown)
    ours, theirs = shown[window], kept[window].detach()
    terms = {"mouth_l1": weights.mouth_l1 * ((ours - theirs).abs() * inside).sum() / (3 * area)}
    if weights.mouth_ssim > 0:
        luminance, structure = ssim_terms(ours, theirs, padding=5)
        unlike = 1 - (luminance * structure).permute(0, 2, 3, 1)
        terms["mouth_ssim"] = weights.mouth_ssim * (unlike * inside).sum() / (3 * area)
    return terms


def model_terms(
    editable: Editable, start: tuple[Tensor | None, Tensor | None], weights: EditWeights
) -> dict[str, Tensor]:
    """How far Gaussians went from where they were, and how much they grew, beyond what is free. start: of `places`."""
    terms: dict[str, Tensor] = {}
    (positions, scales), (first_positions, first_scales) = editable.places(), start
    if positions is not None and first_positions is not None and weights.position > 0:
        moved = (positions - first_positions).square().sum(-1).clamp_min(1e-16).sqrt() * editable.unit_m
        terms["position"] = weights.position * (moved / weights.position_limit_m - 1).clamp_min(0).mean()
    if scales is not None and first_scales is not None and weights.scale > 0:
        terms["scale"] = weights.scale * ((scales - first_scales).exp() - weights.scale_limit).clamp_min(0).mean()
    return terms
