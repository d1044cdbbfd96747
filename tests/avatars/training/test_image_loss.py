"""Image terms: each against its formula, from its start on, and nothing of weight 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatars.training.config import LossWeights
from avatars.training.image_loss import image_terms
from avatars.training.ssim import ssim


def views(side: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rendered, alpha, target, target alpha of two pictures."""
    numbers = torch.Generator().manual_seed(3)
    return (
        torch.rand(2, side, side, 3, generator=numbers),
        torch.rand(2, side, side, generator=numbers),
        torch.rand(2, side, side, 3, generator=numbers),
        torch.rand(2, side, side, generator=numbers),
    )


def test_paper_terms_are_plain_means() -> None:
    rendered, alpha, target, covered = views()
    assert list(image_terms(rendered, alpha, target, covered, LossWeights(), 0)) == ["l1"]
    terms = image_terms(rendered, alpha, target, covered, LossWeights(l1=0.8, ssim=0.2, alpha=0.5), 0)
    assert float(terms["l1"]) == pytest.approx(0.8 * float((rendered - target).abs().mean()))
    assert float(terms["ssim"]) == pytest.approx(0.2 * (1 - float(ssim(rendered, target).mean())))
    assert float(terms["alpha"]) == pytest.approx(0.5 * float((alpha - covered).abs().mean()))


def test_similarity_waits_for_its_start() -> None:
    weights = LossWeights(ssim=0.2, ssim_from=100)
    assert "ssim" not in image_terms(*views(), weights, 99)
    assert "ssim" in image_terms(*views(), weights, 100)
