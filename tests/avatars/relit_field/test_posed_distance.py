"""Lattices of distances: what rays meet in them, by kernels and plainly, beside what is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.relit_field.fields import Fields
from avatars.relit_field.march import Person
from avatars.relit_field.model import fit_to_template
from avatars.relit_field.occupancy import Occupancy
from avatars.relit_field.posed_distance import PosedDistance, posed_distance
from avatars.relit_field.settings import FieldSettings, GridSettings, MarchSettings
from tests.avatars.relit_field.bodies import lively_pose, small_body

RADIUS = 0.3


def ball(cell_m: float = 0.02, beta_m: float = 0.004, device: str = "cpu") -> PosedDistance:
    """A sphere of RADIUS about (0.1, 0, 0) in a box 1.2 m wide."""
    axis = torch.arange(-0.6, 0.6 + 1e-6, cell_m)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    values = ((x - 0.1) ** 2 + y**2 + z**2).sqrt() - RADIUS
    return PosedDistance(values.contiguous().to(device), torch.full((3,), -0.6).to(device), cell_m, beta_m)


def rays(count: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(count, 3, generator=generator) * 1.6 - 0.8
    return origins.to(device), normalize(torch.randn(count, 3, generator=generator), dim=-1).to(device)


def closest(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """How far along, and how near the sphere's middle, rays come."""
    to_middle = torch.tensor((0.1, 0.0, 0.0)) - origins
    along = (to_middle * directions).sum(-1)
    return along, (to_middle.square().sum(-1) - along.square()).clamp_min(0).sqrt()


def test_rays_are_blocked_where_the_sphere_is() -> None:
    origins, directions = rays(4000)
    found = ball().blocked(origins, directions, 0.0, 3.0, 0.04)
    along, off = closest(origins, directions)
    middle = (origins - torch.tensor((0.1, 0.0, 0.0))).norm(dim=-1)
    meets = (middle > RADIUS + 0.01) & (along > 0) & (off < RADIUS - 0.02)
    misses = (middle < RADIUS - 0.01) | (along < 0) | (off > RADIUS + 0.02)
    assert meets.sum() > 150
    assert float(found.passed[meets].max()) < 1e-2
    assert float(found.passed[misses].min()) == 1  # from inside, too: a place does not shadow itself
    exact = along - (RADIUS**2 - off.square()).clamp_min(0).sqrt()
    assert float((found.where_m - exact)[meets].abs().max()) < 0.02
    assert float(found.where_m[misses].min()) == 3


def test_spans_hold_all_that_shows() -> None:
    origins, directions = rays(4000)
    lattice = ball()
    outside, deep = lattice.reach_m()
    begun, ended = lattice.spans(origins, directions, torch.zeros(4000), torch.full((4000,), 2.0))
    along, off = closest(origins, directions)
    away = (origins - torch.tensor((0.1, 0.0, 0.0))).norm(dim=-1) > RADIUS + outside
    hit = away & (along > 0) & (off < RADIUS - deep)
    surface = along - (RADIUS**2 - off.square()).clamp_min(0).sqrt()
    assert bool((begun < surface - 4 * lattice.beta_m)[hit].all())
    assert bool((ended > surface + 4 * lattice.beta_m)[hit].all())
    assert float((ended - begun)[hit].mean()) < 0.35
    inside_box = (origins + along[:, None] * directions).abs().amax(-1) < 0.6
    missed = inside_box & (off > RADIUS + outside + 0.01)
    assert missed.any()
    assert not (ended > begun)[missed & away].any()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_kernels_are_the_plain_walks(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    origins, directions = rays(3000, device)
    lattice = ball(0.03, 0.01, device)
    found = lattice.blocked(origins, directions, 0.01, 1.5, 0.05)
    plain = lattice.blocked_plainly(origins, directions, 0.01, 1.5, 0.05)
    # A ray that grazes may enter by one rounding and not by another.
    same = (found.where_m - plain.where_m).abs() < 1e-4
    assert float(same.float().mean()) > 0.998
    torch.testing.assert_close(found.passed[same], plain.passed[same], atol=2e-3, rtol=0)
    near, far = torch.zeros(3000, device=device), torch.full((3000,), 1.5, device=device)
    begun, ended = lattice.spans(origins, directions, near, far)
    plain_begun, plain_ended = lattice.spans_plainly(origins, directions, near, far)
    shown = (ended > begun) & (plain_ended > plain_begun)
    assert float(((ended > begun) == (plain_ended > plain_begun)).float().mean()) > 0.998
    for ours, theirs in ((begun, plain_begun), (ended, plain_ended)):
        assert float(((ours - theirs).abs()[shown] < 1e-3).float().mean()) > 0.995
    assert lattice.blocked(origins[:0], directions[:0], 0.01, 1.5, 0.05).passed.shape == (0,)
    assert lattice.spans(origins[:0], directions[:0], near[:0], far[:0])[0].shape == (0,)


def test_it_is_the_field_of_the_posed_person() -> None:
    """On the posed template's skin distances are small, a little inside and outside they have the right sign."""
    body = small_body()
    generator = torch.Generator().manual_seed(0)
    grid = GridSettings(levels=4, table_log2=12, base=8, growth=1.5, start_levels=4)
    fields = Fields(FieldSettings(grid=grid, width=16, beta=0.01), body.centre, body.half_m, generator)
    fit_to_template(fields, body, 150, generator)
    march = MarchSettings(occupancy=12)
    person = Person(body, fields, Occupancy(march, torch.device("cpu")), march)
    rotations, translations = lively_pose(body)
    pose = body.posed(rotations, translations)
    lattice = posed_distance(person, pose, None, 0.02)
    assert math.isclose(lattice.beta_m, 0.0101, rel_tol=1e-3)
    canonical = torch.from_numpy(body.surface).float()[::40]
    skin = pose.blend.skinned(canonical)
    with torch.no_grad():
        exact = fields.distance(canonical)[0]
    error = (lattice.at(skin) - exact).abs()
    assert float(error.median()) < 0.004
    assert float(error.quantile(0.95)) < 0.02
    high = lattice.high
    assert bool(((skin > lattice.low) & (skin < high)).all())
    corners = torch.stack((lattice.low, high))
    assert float(lattice.at(corners).min()) > 0
