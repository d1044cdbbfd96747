"""The published method along rays: patches, samples inside the dilated body, opacities, losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from avatars.surface_body.parity_density import RaySamples, ray_scale, ray_weights, seen_along_of
from avatars.surface_body.parity_losses import eikonal_term, mask_sharpness, mask_term, patch_terms, skinning_weight
from avatars.surface_body.parity_sampling import choose_patches, placed
from avatars.surface_body.parity_settings import ParityLosses, ParitySampling, ParitySettings, check_parity
from avatars.surface_body.sampling import spans_of
from avatars.training.losses import dssim_loss
from shared.errors import BadConfig


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_patches_are_whole_and_eight_of_ten_have_their_middle_on_the_person() -> None:
    alpha = torch.zeros(60, 80)
    alpha[20:40, 30:50] = 1
    within = torch.zeros(60, 80, dtype=torch.bool)
    within[10:50, 20:60] = True
    chosen = choose_patches(alpha, within, ParitySampling(patches=400, patch_px=9), generator())
    assert chosen.shape == (400, 9, 9, 2)
    assert (chosen[:, 1:, :, 0] - chosen[:, :-1, :, 0] == 1).all()
    assert (chosen[:, :, 1:, 1] - chosen[:, :, :-1, 1] == 1).all()
    middle = chosen[:, 4, 4]
    on = alpha[middle[:, 0], middle[:, 1]] > 0.5
    assert 0.72 < float(on.float().mean()) < 0.88
    assert within[middle[:, 0], middle[:, 1]].all()
    at_rim = torch.zeros(60, 80)
    at_rim[0, 0] = 1
    clamped = choose_patches(at_rim, within, ParitySampling(patches=20, patch_px=32), generator())
    assert int(clamped.min()) == 0
    assert int(clamped[..., 0].max()) < 60
    nobody = choose_patches(torch.zeros(8, 8), torch.zeros(8, 8, dtype=torch.bool), ParitySampling(), generator())
    assert nobody.shape == (4, 8, 8, 2)


def test_samples_are_shared_out_over_what_lies_inside() -> None:
    edges = torch.linspace(0, 10, 41)
    stretches = ((1.3, 2.3), (4.05, 4.2), (6.0, 8.0))
    signed = torch.stack([(edges - (low + high) / 2).abs() - (high - low) / 2 for low, high in stretches]).amin(0)
    signed = torch.stack((signed, torch.ones_like(signed), -torch.ones_like(signed)))
    near, far = torch.full((3,), 2.0), torch.full((3,), 12.0)
    spans = spans_of(2 + edges.expand(3, -1), signed, 0.0)
    found = placed(spans, near, far, 63, None)
    where, width, hit = found.where_m, found.width_m, found.hit
    assert hit.tolist() == [True, False, True]
    moved = placed(spans, near, far, 63, generator()).where_m - where
    assert float(moved.std(1).max()) < 1e-5
    assert 0 < float(moved.abs().max()) <= 1 / 63 + 1e-6
    found = where[0] - 2
    total = sum(high - low for low, high in stretches)
    for low, high in (stretches[0], stretches[2]):
        count = int(((found > low - 0.05) & (found < high + 0.05)).sum())
        assert count == pytest.approx(63 * (high - low) / total, abs=3)  # the middle one is thinner than a probe
    assert (found[1:] > found[:-1]).all()
    for ray in (1, 2):
        torch.testing.assert_close(where[ray], 2 + 10 * (torch.arange(63) + 0.5) / 63)
        torch.testing.assert_close(width[ray], torch.full((63,), 10 / 63))


def samples_of(rays: int = 3, count: int = 12) -> RaySamples:
    made = generator()
    distance = torch.linspace(0.06, -0.05, count).expand(rays, -1) + 0.01 * torch.randn(rays, count, generator=made)
    gradient = torch.randn(rays, count, 3, generator=made)
    along = torch.nn.functional.normalize(torch.randn(rays, count, 3, generator=made), dim=-1)
    width = 0.01 + 0.01 * torch.rand(rays, count, generator=made)
    return RaySamples(distance.double(), gradient.double(), along.double(), width.double(), 2 * distance.double())


def weights_by_hand(s: RaySamples, sharpness: float, annealed: float, shell_m: float) -> Tensor:
    """Method page 6, sample by sample."""
    rows = []
    for ray in range(len(s.distance_m)):
        omega = [
            sharpness * math.exp(-sharpness * float(f)) / (1 + math.exp(-sharpness * float(f))) ** 2
            for f in s.distance_m[ray]
        ]
        total = sum(omega)
        omega = [value / total for value in omega] if total >= 0.2 else [1 / len(omega)] * len(omega)
        slopes = [float(g.norm()) for g in s.gradient[ray]]
        sharp = sharpness * math.exp(sum(slope * share for slope, share in zip(slopes, omega, strict=True)) - 1)
        passed, row = 1.0, []
        for i in range(s.distance_m.shape[1]):
            facing = float(s.seen_along[ray, i] @ s.gradient[ray, i])
            cosine = -(max(0.5 - 0.5 * facing, 0) * (1 - annealed) + max(-facing, 0) * annealed)
            sigma = sharp * (1 - 1 / (1 + math.exp(-sharp * float(s.distance_m[ray, i])))) * -cosine
            alpha = min(max(1 - math.exp(-sigma * float(s.width_m[ray, i])), 0), 1)
            alpha *= float(s.base_m[ray, i]) <= shell_m
            row.append(alpha * passed)
            passed *= 1 - alpha + 1e-7
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("annealed", [0.0, 0.4, 1.0])
def test_weights_are_the_published_formula(annealed: float) -> None:
    samples = samples_of()
    found = ray_weights(samples, torch.tensor(60.0, dtype=torch.float64), annealed, 0.05)
    torch.testing.assert_close(found, weights_by_hand(samples, 60.0, annealed, 0.05))
    assert float(found.sum(1).max()) <= 1 + 1e-6


def test_gradients_of_weights_and_of_rays_without_a_surface() -> None:
    samples = samples_of(2, 6)
    sharpness = torch.tensor(60.0, dtype=torch.float64, requires_grad=True)
    distance, gradient = samples.distance_m.requires_grad_(), samples.gradient.requires_grad_()

    def rendered(distance: Tensor, gradient: Tensor) -> Tensor:
        moved = RaySamples(distance, gradient, samples.seen_along, samples.width_m, samples.base_m.detach())
        # the ray's own scale takes distances as constants, so it is left out of the finite differences
        return ray_weights(moved, sharpness.detach() / ray_scale(distance, gradient, sharpness).mean().detach(), 0.5, 1)

    assert torch.isfinite(torch.autograd.grad(rendered(distance, gradient).sum(), (distance, gradient))[0]).all()
    far = torch.full((1, 5), 9.0)
    slopes = torch.full((1, 5, 3), 2.0).requires_grad_()
    scale = ray_scale(far, slopes, torch.tensor(60.0))
    torch.testing.assert_close(scale, torch.tensor([math.exp(math.sqrt(12) - 1)]))
    scale.sum().backward()
    assert slopes.grad is not None
    assert torch.isfinite(slopes.grad).all()


def test_directions_are_steps_to_the_next_sample() -> None:
    places = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [1.0, 2.0, 0]], [[1.0, 1, 1]] * 3])
    found = seen_along_of(places)
    torch.testing.assert_close(found[0], torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]]))
    assert torch.isfinite(found).all()


def test_masks_push_only_rays_that_are_wrong() -> None:
    distance = torch.tensor([[0.3, 0.02], [0.2, -0.1], [0.2, 0.1], [0.5, 0.4]]).requires_grad_()
    inside = torch.tensor([False, True, True, False])
    term = mask_term(distance, inside, 50.0)
    wanted = (
        math.log(1 + math.exp(-50 * 0.02)) + math.log(1 + math.exp(50 * 0.1)) + math.log(1 + math.exp(-50 * 0.4))
    ) / 150
    assert float(term.detach()) == pytest.approx(wanted, rel=1e-5)
    (slope,) = torch.autograd.grad(term, distance)
    assert float(slope[1].abs().sum()) == 0
    assert slope[0, 1] < 0 < slope[2, 1]
    assert float(mask_term(distance[1:2], inside[1:2], 50.0).detach()) == 0


def test_courses_of_the_weights() -> None:
    weights = ParityLosses()
    steps = (0, 9_999, 10_000, 25_000, 299_999)
    assert [mask_sharpness(weights, step / 300_000) for step in steps] == [50, 50, 100, 200, 1600]
    assert skinning_weight(weights, 49_999 / 300_000) == 1
    assert skinning_weight(weights, 50_000 / 300_000) == 0
    decaying = ParityLosses(skinning_until=2, skinning_decay=0.3)
    assert skinning_weight(decaying, 0.5) == pytest.approx(0.85)


def test_patches_cost_what_the_page_says_and_a_substitute_stands_in_for_lpips() -> None:
    images, targets = torch.rand(2, 4, 32, 32, 3, generator=generator()).unbind(0)
    terms = patch_terms(images, targets, ParityLosses(), None)
    assert set(terms) == {"rgb", "mse", "nssim", "perceptual"}
    torch.testing.assert_close(terms["rgb"], 10 * (images - targets).abs().mean())
    torch.testing.assert_close(terms["nssim"], dssim_loss(images, targets))
    assert "perceptual" not in patch_terms(images, targets, ParityLosses(perceptual=0), None)
    torch.testing.assert_close(eikonal_term(torch.tensor([[2.0, 0, 0], [0, 0, 0]])), torch.tensor(1.0))


def test_wrong_numbers_are_refused() -> None:
    check_parity(ParitySettings())
    with pytest.raises(BadConfig, match="patch_px"):
        check_parity(ParitySettings(sampling=ParitySampling(patch_px=1)))
