"""The BRDF against its own definition: energy, reciprocity, the table against brute force, degenerate input."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from avatars.lighting.brdf import brdf, ggx, hammersley, split_sum, visible_half_vectors


def hemisphere(count: int = 40_000, seed: int = 0) -> Tensor:
    """Uniform directions about +z, [count, 3] float64; each stands for 2 pi / count sr."""
    points = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z, turn = points[:, 0], 2 * math.pi * points[:, 1]
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=-1)


@lru_cache(maxsize=1)
def grid(rows: int = 300, columns: int = 1200) -> tuple[Tensor, Tensor]:
    """Directions over the upper hemisphere and their solid angles, fine towards +z (angle grows with the square)."""
    edges = torch.linspace(0, 1, rows + 1, dtype=torch.float64).square() * math.pi / 2
    middle = (edges[:-1] + edges[1:]) / 2
    turn = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * 2 * math.pi
    directions = torch.stack(
        [
            middle.sin()[:, None] * turn.cos(),
            middle.sin()[:, None] * turn.sin(),
            middle.cos()[:, None].expand(-1, columns),
        ],
        dim=-1,
    )
    area = (edges[:-1].cos() - edges[1:].cos()) * 2 * math.pi / columns
    return directions.reshape(-1, 3), area[:, None].expand(-1, columns).reshape(-1)


def eye_at(n_dot_v: float) -> Tensor:
    return torch.tensor([math.sqrt(1 - n_dot_v**2), 0.0, n_dot_v], dtype=torch.float64)


UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("roughness", [0.15, 0.4, 1.0])
def test_microfacet_normals_cover_the_surface_once(roughness: float) -> None:
    half, area = grid()
    covered = (ggx(half[:, 2], torch.tensor(roughness**2, dtype=torch.float64)) * half[:, 2] * area).sum()
    assert float(covered) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("n_dot_v", [0.1, 0.5, 1.0])
def test_table_against_brute_force(roughness: float, n_dot_v: float) -> None:
    """The integral of the specular BRDF over a white sky, by plain summation over directions."""
    (light, area), eye = grid(), eye_at(n_dot_v)
    one = torch.ones(1, dtype=torch.float64)
    scale, bias = split_sum(torch.tensor([n_dot_v]), torch.tensor([roughness]))
    for f0 in (0.0, 1.0):
        albedo = torch.full((1, 3), f0, dtype=torch.float64)
        _, specular = brdf(UP[None], eye[None], light, albedo, one * roughness, one)  # metallic 1: F0 is the albedo
        gathered = float((specular[:, 0] * light[:, 2] * area).sum())
        assert f0 * float(scale) + float(bias) == pytest.approx(gathered, abs=4e-3)


def test_white_furnace_loses_only_what_bounces_twice() -> None:
    """Under white light a white metal is never brighter than the light, and a smooth one is as bright."""
    steps = torch.linspace(0, 1, 33)
    cosine, roughness = torch.meshgrid(steps, steps, indexing="ij")
    scale, bias = split_sum(cosine.flatten(), roughness.flatten())
    total = scale + bias
    assert float(total.max()) <= 1.003
    smooth = roughness.flatten() <= 0.2
    assert float(total[smooth & (cosine.flatten() > 0.1)].min()) > 0.95
    assert float(total.min()) > 0.25


def test_eye_and_light_can_be_exchanged() -> None:
    light, eye = hemisphere(500, 1), hemisphere(500, 2)
    albedo = torch.tensor([0.7, 0.4, 0.2], dtype=torch.float64)
    rough, metal = torch.full((500, 1), 0.4).double(), torch.full((500, 1), 0.5).double()
    there = brdf(UP.expand(500, 3), eye, light, albedo, rough, metal)
    back = brdf(UP.expand(500, 3), light, eye, albedo, rough, metal)
    for a, b in zip(there, back, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_is_reflected_from_behind_and_grazing_stays_finite() -> None:
    albedo, zero, one = torch.full((1, 3), 0.5), torch.zeros(1, 1), torch.ones(1, 1)
    up = torch.tensor([[0.0, 0.0, 1.0]])
    down, flat = -up, torch.tensor([[1.0, 0.0, 0.0]])
    nearly = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0, 1e-6]]), dim=-1)
    for eye, light in ((up, down), (down, up), (flat, up), (up, flat)):
        assert all(float(part.abs().max()) == 0 for part in brdf(up, eye, light, albedo, one * 0.5, zero))
    for roughness in (0.0, 0.5, 1.0):
        for eye, light in ((nearly, nearly), (nearly, up), (up, up), (-nearly, nearly)):
            assert all(torch.isfinite(p).all() for p in brdf(up, eye, light, albedo, one * roughness, one))


def test_gradients_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    light, eye = hemisphere(6, 4), hemisphere(6, 5)
    albedo = (0.1 + 0.8 * torch.rand(6, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    rough = (0.2 + 0.7 * torch.rand(6, 1, generator=generator, dtype=torch.float64)).requires_grad_()
    metal = torch.rand(6, 1, generator=generator, dtype=torch.float64).requires_grad_()
    normal = (UP + 0.1 * torch.randn(6, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    torch.autograd.gradcheck(lambda n, a, r, m: brdf(n, eye, light, a, r, m), (normal, albedo, rough, metal))
    cosine = torch.full((4,), 0.37, dtype=torch.float64).requires_grad_()
    rough = torch.tensor([0.11, 0.43, 0.71, 0.93], dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(split_sum, (cosine, rough))


@pytest.mark.parametrize("n_dot_v", [0.15, 0.9])
def test_sampled_half_vectors_have_their_density(n_dot_v: float) -> None:
    alpha, eye = torch.tensor(0.25, dtype=torch.float64), eye_at(n_dot_v)
    cosine = torch.full((8192,), n_dot_v, dtype=torch.float64)
    half = visible_half_vectors(hammersley(8192), cosine, alpha)
    fine, area = grid()
    density = ggx(fine[:, 2], alpha) * (fine @ eye).clamp(min=0) * area
    density = density / density.sum()
    torch.testing.assert_close(half.mean(0), (density[:, None] * fine).sum(0), atol=2e-3, rtol=0)
    torch.testing.assert_close(half.square().mean(0), (density[:, None] * fine.square()).sum(0), atol=2e-3, rtol=0)
