"""Samples along rays: exactly the inside of the dilated body, however often a ray enters it."""

from __future__ import annotations

import torch

from avatars.surface_body.march import composited
from avatars.surface_body.sampling import drawn_edges, even_edges, spans_of, within

CENTRES = torch.tensor([[-0.5, 0.0, 0.0], [0.4, 0.05, 0.0], [0.0, 0.3, 0.2]])
RADIUS, SHELL = 0.2, 0.06


def hits(origins: torch.Tensor, directions: torch.Tensor) -> list[list[tuple[float, float]]]:
    """Every ray's way through three balls of RADIUS + SHELL, merged."""
    found = []
    for origin, direction in zip(origins, directions, strict=True):
        pieces = []
        for centre in CENTRES:
            middle = float(((centre - origin) * direction).sum())
            away = float((centre - origin).square().sum()) - middle**2
            if away < (RADIUS + SHELL) ** 2:
                half = ((RADIUS + SHELL) ** 2 - away) ** 0.5
                pieces.append((middle - half, middle + half))
        merged: list[tuple[float, float]] = []
        for begun, ended in sorted(pieces):
            if merged and begun <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
            else:
                merged.append((begun, ended))
        found.append(merged)
    return found


def rays(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.tensor([-2.0, 0.0, 0.0]) + 0.5 * (torch.rand(count, 3, generator=generator) - 0.5)
    aims = CENTRES[torch.arange(count) % 3] + 0.6 * (torch.rand(count, 3, generator=generator) - 0.5)
    return origins, torch.nn.functional.normalize(aims - origins, dim=-1)


def test_spans_are_the_hits_of_brute_force() -> None:
    origins, directions = rays(1000)
    t = torch.linspace(0, 4, 401).expand(1000, -1)
    places = origins[:, None] + t[..., None] * directions[:, None]
    distance = (places[:, :, None] - CENTRES).norm(dim=-1).amin(-1) - RADIUS
    found = spans_of(t, distance, SHELL)
    truth = hits(origins, directions)
    lengths = torch.tensor([sum(b - a for a, b in pieces) for pieces in truth])
    # A ray that only grazes a ball between two probes is not seen at all.
    assert (found.length_m - lengths).abs().max() < 0.06
    assert (found.length_m - lengths).abs().mean() < 5e-4
    several = [number for number, pieces in enumerate(truth) if len(pieces) > 1]
    assert len(several) > 20
    t_of = found.at(within(even_edges(found.length_m, 32), None))
    for number in several[:100]:
        counts = [sum(a - 2e-3 <= x <= b + 2e-3 for x in t_of[number].tolist()) for a, b in truth[number]]
        assert sum(counts) >= 31  # one may lie at a border that is a little off
        for count, (a, b) in zip(counts, truth[number], strict=True):  # shared out by length
            assert abs(count - 32 * (b - a) / float(lengths[number])) <= 1.5


def test_rays_that_miss_have_no_inside_and_stay_finite() -> None:
    t = torch.linspace(0, 1, 9)[None]
    found = spans_of(t, torch.full((1, 9), 0.5), SHELL)
    assert float(found.length_m) == 0
    edges = even_edges(found.length_m, 4)
    drawn = drawn_edges(edges, torch.zeros(1, 4), 0.25, 6)
    assert torch.isfinite(found.at(within(drawn, None))).all()


def test_drawn_samples_follow_the_weights() -> None:
    edges = even_edges(torch.tensor([1.0]), 10)
    weights = torch.zeros(1, 10)
    weights[0, 6] = 1
    middle = within(drawn_edges(edges, weights, 0.2, 100), None)
    assert int(((middle > 0.5) & (middle < 0.7)).sum()) >= 80  # the heavy part and the one before it
    assert (middle.diff(dim=1) > 0).all()
    assert float(drawn_edges(edges, weights, 0.2, 100)[0, -1]) == 1.0


def test_weights_along_a_ray_are_those_of_one_step_after_the_other() -> None:
    optical = torch.tensor([[0.0, 0.5, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    light, wanted = torch.ones(2), []
    for column in optical.T:
        wanted.append(light * (1 - torch.exp(-column)))
        light = light * torch.exp(-column)
    assert torch.allclose(composited(optical), torch.stack(wanted, 1))
