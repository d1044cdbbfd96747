"""Networks and fields: the starting sphere, the gradient, VolSDF's density, the Lipschitz bound, materials."""

from __future__ import annotations

import math

import torch

from avatars.relit_field.fields import Fields, laplace_density
from avatars.relit_field.networks import LipschitzNetwork, evenly_spread, sphere_harmonics_16
from avatars.relit_field.settings import FieldSettings, GridSettings

SMALL = FieldSettings(grid=GridSettings(levels=4, table_log2=10, base=4, growth=1.6))


def make(half_m: float = 1.0) -> Fields:
    return Fields(SMALL, torch.tensor((0.1, -0.2, 0.9)), half_m, torch.Generator().manual_seed(0))


def test_the_start_is_a_sphere() -> None:
    """Within a tenth of a half box everywhere, in m of any box, negative inside."""
    for half in (1.0, 1.3):
        fields = make(half)
        for radius in (0.1, 0.5, 0.9):
            places = fields.centre + evenly_spread(50) * radius * half
            distance, features = fields.distance(places)
            assert features.shape == (50, 13)
            assert (distance - (radius - 0.5) * half).abs().max() < 0.1 * half
        geometry = fields.geometry(places)
        assert (torch.nn.functional.normalize(geometry.gradient, dim=-1) * evenly_spread(50)).sum(-1).min() > 0.9
        assert (geometry.gradient.norm(dim=-1) - 1).abs().mean() < 0.1


def test_the_gradient_is_the_finite_difference_and_reaches_the_parameters() -> None:
    fields = make().double()
    with torch.no_grad():
        fields.shape_grid.table.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
        for v in fields.shape.v:
            v.add_(0.05 * torch.randn(v.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    places = fields.centre + 0.4 * torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    geometry = fields.geometry(places)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        slope = (fields.distance(places + step)[0] - fields.distance(places - step)[0]) / 2e-6
        torch.testing.assert_close(geometry.gradient[:, axis], slope, atol=1e-4, rtol=1e-4)
    eikonal = (geometry.gradient.norm(dim=-1) - 1).square().mean()
    (found,) = torch.autograd.grad(eikonal, fields.shape_grid.table)
    assert found.abs().max() > 0
    with torch.no_grad():
        assert not fields.geometry(places).gradient.requires_grad


def test_density_is_a_laplace_cdf() -> None:
    """It integrates to the CDF, is half its height on the surface, and keeps finite gradients far off."""
    beta = torch.tensor(0.05, dtype=torch.float64)
    distance = torch.linspace(-20, 20, 4001, dtype=torch.float64).requires_grad_()
    density = laplace_density(distance, beta)
    laplace = torch.distributions.Laplace(torch.zeros((), dtype=torch.float64), beta)
    torch.testing.assert_close(density, laplace.cdf(-distance.detach()) / beta)
    assert float(laplace_density(torch.zeros(()), beta)) == 0.5 / float(beta)
    (slope,) = torch.autograd.grad(density.sum(), distance)
    assert torch.isfinite(slope).all()
    assert (slope <= 0).all()


def test_the_lipschitz_bound_holds_and_starts_idle() -> None:
    network = LipschitzNetwork(7, 16, 2, 5, torch.Generator().manual_seed(0)).double()
    x = torch.randn(200, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = x
    for number, (w, b) in enumerate(zip(network.w, network.b, strict=True)):
        plain = torch.nn.functional.linear(plain, w, b)
        plain = plain.relu() if number < 2 else plain
    torch.testing.assert_close(network(x), plain)
    with torch.no_grad():
        for c in network.c:
            c.fill_(-1.0)
    moved = network(x + 0.1) - network(x)
    assert moved.abs().max() <= float(network.bound().detach()) * 0.1 + 1e-12
    (slope,) = torch.autograd.grad(network.bound(), network.c[0])
    assert slope > 0


def test_materials_and_radiance_stay_in_range() -> None:
    fields = make()
    with torch.no_grad():
        for w in fields.material.w:
            w.mul_(50)
        for c in fields.material.c:
            c.fill_(100.0)
    places = fields.centre + torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    geometry = fields.geometry(places)
    found = fields.materials(places, geometry.features)
    assert 0.03 - 1e-6 <= float(found.albedo.min()) < 0.1
    assert 0.7 < float(found.albedo.max()) <= 0.8 + 1e-6
    assert float(found.roughness.min()) >= 0.09 - 1e-6
    assert float(found.roughness.max()) <= 0.99 + 1e-6
    normals = torch.nn.functional.normalize(geometry.gradient, dim=-1)
    seen = fields.radiance(places, geometry.features, normals, -normals)
    assert seen.shape == (64, 3)
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_harmonics_are_orthonormal() -> None:
    directions = evenly_spread(20000).double()
    basis = sphere_harmonics_16(directions)
    gram = basis.T @ basis * (4 * math.pi / len(directions))
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=2e-3, rtol=0)


def test_the_gradient_by_the_chain_rule_is_autograds() -> None:
    """Its value, and what a loss of normals says to every weight and to the grid."""
    fields = make(1.2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        fields.shape_grid.table.normal_(std=0.05, generator=generator)
        for v in fields.shape.v:
            v.add_(0.05 * torch.randn(v.shape, generator=generator))
    places = fields.centre + 0.4 * torch.randn(20, 3, generator=generator)
    ours, plain = fields.geometry(places), fields.geometry_plainly(places)
    torch.testing.assert_close(ours.gradient, plain.gradient, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.distance_m, plain.distance_m)
    learned = [fields.shape_grid.table, *fields.shape.parameters()]
    mix = torch.randn(20, 3, generator=generator)
    first, second = (
        torch.autograd.grad((g.gradient * mix).sum() + g.features.sum(), learned, allow_unused=True)
        for g in (ours, plain)
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
