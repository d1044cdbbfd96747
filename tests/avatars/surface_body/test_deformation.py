"""From posed places back to canonical ones: few steps suffice, and gradients are true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.skinning.affine import inverse_affine, inverse_applied
from avatars.skinning.face_tree import FaceTree
from avatars.surface_body.deformation import (
    _LastStep,
    blends_of,
    first_guesses,
    settle,
    settle_plainly,
    unposed,
)
from avatars.surface_body.trilinear import (
    Lattice,
    between,
    between_plainly,
    into_table,
    into_table_plainly,
    trilinear,
)
from tests.avatars.surface_body.tiny_surface import tiny_model
from tests.tiny_body import body_motion


def posed_points(amount: float, count: int = 2000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Canonical places within 3 cm of the skin, the pose's transforms, and where they are in it."""
    model = tiny_model()
    rotations = torch.from_numpy(body_motion(1, seed=3)["rotations"]) * amount
    transforms = model.body.transforms(rotations, torch.tensor([[0.1, 0.0, 0.2]]))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, len(model.body.vertices), (count,), generator=generator)
    places = torch.from_numpy(model.body.vertices).float()[rows] + 0.015 * torch.randn(count, 3, generator=generator)
    with torch.no_grad():
        blends = blends_of(model.weights.rows(), model.weights.lattice, transforms)
        linear = blends.at(places, torch.zeros(count, dtype=torch.int64)).view(-1, 3, 4)
    return places, transforms, (linear[..., :3] * places[:, None]).sum(-1) + linear[..., 3]


def back(amount: float, iterations: int) -> torch.Tensor:
    """How far off [P] m unposed places are."""
    model = tiny_model()
    canonical, transforms, places = posed_points(amount)
    with torch.no_grad():
        guide = model.body.guide(transforms[0])
        blends = blends_of(model.weights.rows(), model.weights.lattice, transforms)
        node = ((places - guide.lattice.low) * guide.lattice.per_m).round().long().clamp(0, guide.lattice.shape[0] - 1)
        side = guide.lattice.shape[0]
        starts = guide.starts[(node[:, 2] * side + node[:, 1]) * side + node[:, 0]]
        guesses = first_guesses(places, model.body.back_at_guide(transforms)[0], starts)
        pose = torch.zeros(len(places), dtype=torch.int64)
        found = unposed(places, pose, guesses, blends, model.body.base, iterations)
    return (found.canonical - canonical).norm(dim=-1)


def test_three_steps_bring_most_places_back_within_a_fraction_of_a_millimetre() -> None:
    one, three = back(0.6, 1), back(0.6, 3)
    assert float(three.median()) < 3e-4
    assert float(three.quantile(0.9)) < 5e-3
    assert float(three.median()) < float(one.median())


def test_an_unmoved_person_stays() -> None:
    model = tiny_model()
    rest = model.body.person.canonical_rotations[None]
    transforms = model.body.transforms(rest, torch.zeros(1, 3))
    blends = blends_of(model.weights.rows(), model.weights.lattice, transforms)
    places = torch.from_numpy(model.body.vertices[::50]).float()
    pose = torch.zeros(len(places), dtype=torch.int64)
    found = unposed(places, pose, places[:, None], blends, model.body.base, 3)
    assert torch.allclose(found.canonical, places, atol=1e-4)
    assert torch.allclose(found.back, torch.eye(3).expand(len(places), 3, 3), atol=1e-4)


def test_inverse_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.eye(3, 4).flatten() + 0.3 * torch.randn(4, 12, generator=generator)).double().requires_grad_()
    places = torch.randn(4, 3, generator=generator).double()
    found, linear = inverse_applied(rows, places)
    matrix = rows.detach().view(-1, 3, 4)
    whole = inverse_affine(matrix)
    assert torch.allclose(whole[..., :3], torch.linalg.inv(matrix[..., :3]))
    assert torch.allclose((matrix[..., :3] @ whole[..., 3:])[..., 0], -matrix[..., 3])
    assert torch.allclose(linear, torch.linalg.inv(matrix[..., :3]))
    assert torch.allclose((matrix[..., :3] @ found.detach()[..., None])[..., 0] + matrix[..., 3], places)
    assert torch.autograd.gradcheck(lambda r: inverse_applied(r, places)[0], rows)


def test_flat_transforms_stay_finite() -> None:
    assert torch.isfinite(inverse_applied(torch.zeros(2, 12), torch.ones(2, 3))[0]).all()


def test_tables_between_nodes_and_their_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    lattice = Lattice(torch.tensor([-1.0, 0.0, 2.0]).double(), torch.tensor([2.0, 1.0, 4.0]).double(), (4, 3, 5))
    places = lattice.places()
    table = (places @ torch.tensor([[1.0], [2.0], [-3.0]]).double()).requires_grad_()
    asked = lattice.low + torch.rand(20, 3, generator=generator).double() * (lattice.high - lattice.low)
    found, slopes = trilinear(table, lattice, asked, slopes=True)
    assert torch.allclose(found, asked @ torch.tensor([[1.0], [2.0], [-3.0]]).double())
    assert torch.allclose(slopes[..., 0], torch.tensor([1.0, 2.0, -3.0]).double().expand(20, 3))
    assert torch.autograd.gradcheck(lambda t: trilinear(t, lattice, asked)[0], table)
    beyond, still = trilinear(table, lattice, lattice.high[None] + 1, slopes=True)
    assert torch.allclose(beyond[0], table[-1])
    assert float(still.abs().max()) == 0
    stacked = torch.cat((table, 2 * table))
    other = trilinear(stacked, lattice, asked, offset=torch.full((20,), lattice.nodes))[0]
    assert torch.allclose(other, 2 * found)


def table_and_places(device: str = "cpu") -> tuple[Lattice, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A lattice, two stacked tables of 12 numbers near the identity, places in and around it, and their table."""
    generator = torch.Generator().manual_seed(4)
    lattice = Lattice(torch.tensor([-0.5, -0.4, 0.1]), torch.tensor([6.0, 5.0, 7.0]), (7, 5, 6))
    table = torch.eye(3, 4).flatten() + 0.05 * torch.randn(2 * lattice.nodes, 12, generator=generator)
    places = torch.rand(700, 3, generator=generator) * 1.4 - torch.tensor([0.7, 0.6, 0.1])
    offset = torch.randint(0, 2, (700,), generator=generator) * lattice.nodes
    moved = Lattice(lattice.low.to(device), lattice.per_m.to(device), lattice.shape)
    return moved, table.to(device), places.to(device), offset.to(device)


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])])
def test_kernels_are_the_plain_form(device: str) -> None:
    lattice, table, places, offset = table_and_places(device)
    for width in (12, 1, 22):
        for moved in (offset, None):
            rows = torch.cat((table, 2 * table), 1)[:, :width].contiguous()
            found, steep = between(rows, lattice, places, moved, True)
            wanted, slopes = between_plainly(rows, lattice, places, moved, True)
            assert torch.allclose(found, wanted, atol=1e-5)
            assert torch.allclose(steep, slopes, atol=1e-4)
            asked = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5)).to(device)
            back = into_table(asked, lattice, places, moved, len(rows))
            assert torch.allclose(back, into_table_plainly(asked, lattice, places, moved, len(rows)), atol=1e-4)
    guesses = places[:, None] + torch.tensor([[0.0, 0, 0], [0.05, 0, 0]], device=device)
    for one, two in zip(
        settle(table, lattice, offset, places, guesses, 3),
        settle_plainly(table, lattice, offset, places, guesses, 3),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-4)
    assert settle(table, lattice, offset[:0], places[:0], guesses[:0], 3)[0].shape == (0, 2, 3)


def test_the_last_step_carries_gradients_to_the_transforms() -> None:
    lattice, table, places, offset = table_and_places()
    rows, few = table.double().requires_grad_(), slice(0, 6)
    double = Lattice(lattice.low.double(), lattice.per_m.double(), lattice.shape)
    at = places[few].double()
    wanted = at + 0.01

    def canonical(rows: torch.Tensor) -> torch.Tensor:
        return _LastStep.apply(rows, double, at, offset[few], wanted)[0]

    direct = inverse_applied(trilinear(rows, double, at, offset=offset[few])[0], wanted)[0]
    assert torch.allclose(canonical(rows), direct)
    pull = torch.randn(direct.shape, generator=torch.Generator().manual_seed(0)).double()
    (one,) = torch.autograd.grad((canonical(rows) * pull).sum(), rows)
    (two,) = torch.autograd.grad((direct * pull).sum(), rows)
    assert torch.allclose(one, two)


def test_learned_skinning_begins_as_the_template_and_follows_its_residual() -> None:
    model = tiny_model()
    rows = model.weights.rows().detach()
    assert torch.allclose(rows.sum(1), torch.ones(len(rows)), atol=1e-5)
    assert torch.allclose(rows, model.weights.fixed, atol=1e-6)
    (slope,) = torch.autograd.grad(model.weights.rows()[model.weights.near, 1].sum(), model.weights.residual)
    assert float(slope[0, 1].sum()) > 0
    assert float(slope[0, 2].sum()) < 0
    assert 0.02 < len(model.weights.near) / len(rows) < 0.5


def test_a_posed_guide_knows_how_far_the_template_is() -> None:
    model = tiny_model()
    rotations = torch.from_numpy(body_motion(1, seed=5)["rotations"])
    transforms = model.body.transforms(rotations, torch.zeros(1, 3))[0]
    guide = model.body.guide(transforms)
    person, nothing = model.body.person, torch.zeros(1, len(model.body.person.arrays.expression_names))
    moved = person.moved(rotations, torch.zeros(1, 3), nothing)[0, :, :3]
    blended = torch.einsum("vj,jrc->vrc", torch.tensor(person.arrays.weights), moved)
    posed = (blended[..., :3] * person.vertices[:, None]).sum(-1) + blended[..., 3]
    used = np.unique(person.faces)
    places, faces = posed.numpy()[used], np.searchsorted(used, person.faces)
    nodes = guide.lattice.places()
    truth = torch.from_numpy(FaceTree(places, faces).nearest(nodes.numpy())[2]).float()
    far = guide.distance[:, 0].abs()
    assert float((far - truth).abs().mean()) < 0.012  # it knows 800 vertices
    assert float(((guide.distance[:, 0] < 0) & (truth > 0.14)).sum()) == 0  # nothing is so deep in a person
    assert 0.01 < float((guide.distance < 0).float().mean()) < 0.2
