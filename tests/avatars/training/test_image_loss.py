"""Image and blend terms: each against its formula, its gradient, from its start on, and nothing of weight 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.training.config import LossWeights
from avatars.training.image_loss import LATE, blend_terms, image_terms, late_weight
from avatars.training.losses import (
    charbonnier_loss,
    gradient_loss,
    halved,
    multi_scale_dssim_loss,
    orthogonality,
    pyramid_loss,
)
from avatars.training.ssim import ssim
from shared.errors import EffigyError

LOSSES = (charbonnier_loss, gradient_loss, multi_scale_dssim_loss, pyramid_loss)


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
    rounded = image_terms(rendered, alpha, target, covered, LossWeights(l1=0, charbonnier=2), 0)
    assert list(rounded) == ["charbonnier"]
    assert float(rounded["charbonnier"]) == pytest.approx(2 * float(charbonnier_loss(rendered, target)))


@pytest.mark.parametrize("name", LATE)
def test_late_terms_wait_and_rise(name: str) -> None:
    weights = replace(LossWeights(), **{name: 0.5, f"{name}_from": 100})
    full = float(LATE[name](views()[0], views()[2]))
    assert name not in image_terms(*views(), weights, 99)
    assert float(image_terms(*views(), weights, 100)[name]) == pytest.approx(0.5 * full)
    ramped = replace(weights, ramp_images=50)
    assert 0 < float(image_terms(*views(), ramped, 100)[name]) < 0.1 * full
    assert float(image_terms(*views(), ramped, 124)[name]) == pytest.approx(0.25 * full)
    assert float(image_terms(*views(), ramped, 1000)[name]) == pytest.approx(0.5 * full)
    assert late_weight(0.5, 0, 50, 0) == 0.5, "what is there from the start has no ramp"


def test_charbonnier_and_gradient_against_numpy() -> None:
    x, _, y, _ = views(9)
    error = (x - y).double().numpy()
    assert float(charbonnier_loss(x, y)) == pytest.approx(np.mean(np.sqrt(error**2 + 1e-6)) - 1e-3, rel=1e-5)
    want = np.abs(np.diff(error, axis=1)).mean() + np.abs(np.diff(error, axis=2)).mean()
    assert float(gradient_loss(x, y)) == pytest.approx(want, rel=1e-5)


def test_pyramid_of_known_differences() -> None:
    flat = torch.full((1, 64, 64, 3), 0.2)
    assert float(pyramid_loss(flat + 0.3, flat)) == pytest.approx(0.3 / 5, rel=1e-4), (
        "the same everywhere: coarsest only"
    )
    checker = 0.3 * (1 - 2 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2)).float()[None, :, :, None]
    assert float(pyramid_loss(flat + checker, flat)) == pytest.approx(0.3 / 5, rel=1e-4), "finest only"
    linear = float(pyramid_loss(flat + 2 * checker, flat))
    assert linear == pytest.approx(2 * float(pyramid_loss(flat + checker, flat)), rel=1e-5)


def test_multi_scale_is_the_mean_over_scales() -> None:
    x, _, y, _ = views(48)
    scores = []
    for _ in range(3):  # 48, 24, 12 px; 6 px would be under the window
        scores.append(float(ssim(x, y).mean()))
        x, y = halved(x), halved(y)
    assert float(multi_scale_dssim_loss(*views(48)[::2])) == pytest.approx(1 - np.mean(scores), abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_and_degenerate_pictures(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, _, y, _ = views(23)
    leaf = x.double().requires_grad_()
    loss(leaf, y.double()).backward()
    direction = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-6
    ahead, back = (loss(x.double() + sign * step * direction, y.double()) for sign in (1, -1))
    assert float((ahead - back) / (2 * step)) == pytest.approx(float((leaf.grad * direction).sum()), rel=1e-3)
    same = x.clone().requires_grad_()
    loss(same, x).backward()
    assert float(loss(x, x)) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(same.grad).all()
    for shape in ((1, 1, 1, 3), (1, 1, 7, 3), (1, 5, 1, 3)):
        small = torch.rand(shape, requires_grad=True)
        value = loss(small, torch.zeros(shape))
        assert torch.isfinite(value)
        value.backward()
        assert torch.isfinite(small.grad).all()
    with pytest.raises(EffigyError, match="do not fit"):
        loss(x, y[:1])


def test_blend_terms() -> None:
    wanted = LossWeights(sparsity=0.5, orthogonality=2.0)
    psi = torch.tensor([[1.0, -3.0], [0.0, 2.0]])
    first = torch.zeros(2, 2, 3)
    first[0, 0, 0], first[1, 0] = 5.0, torch.tensor([3.0, 4.0, 0.0])
    second = torch.zeros(2, 2, 4)
    second[0, 1, 0], second[1, 0, 0] = 1.0, 1.0
    terms = blend_terms(psi, (first, second), wanted)
    assert float(terms["sparsity"]) == pytest.approx(0.5 * 1.5)
    assert float(terms["orthogonality"]) == pytest.approx(2.0 * 0.6), "unit vectors: 3/5 alike, and not at all"
    assert blend_terms(None, (first,), wanted) == {}
    assert blend_terms(psi, (first,), LossWeights()) == {}


def test_orthogonality_gradient_at_the_start_and_beyond() -> None:
    start = torch.zeros(3, 4, 3, requires_grad=True)
    orthogonality((start,)).backward()
    assert torch.equal(start.grad, torch.zeros_like(start))
    moved = torch.rand(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda deltas: orthogonality((deltas, deltas[..., :2])), (moved,))
