"""The mesh stage begins as what it was given, learns shape, colour, skinning and poses from pictures, and resumes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from avatars.relit_body.person import Person
from avatars.rendering import CameraBatch
from avatars.rendering.mesh_edges import MeshEdges
from avatars.surface.unwrap import decimated
from avatars.surface_body.body import star_rotations
from avatars.surface_body.mesh_settings import MeshLosses, MeshStageSettings, check_mesh_stage
from avatars.surface_body.mesh_shape import Neighbours, bends, calmed
from avatars.surface_body.mesh_stage import MeshStage
from avatars.surface_body.mesh_state import MeshState, eight_of
from avatars.training.data import Batch
from avatars.training.optimiser import Optimiser
from shared.errors import BadConfig, EffigyError
from tests.avatars.surface_body.test_mesh_state import SMALL, small_texture
from tests.tiny_body import body_motion, body_reference

SETTINGS = replace(
    MeshStageSettings(),
    solid=SMALL,
    residual_width=8,
    losses=MeshLosses(hinge_m=0.02),
    weight_smoothings=0,
    first_smoothings=0,
)
FAT_M = 0.012


class RecordedPoses(nn.Module):
    """Four poses of a person, with a shift of each that may be learned."""

    def __init__(self) -> None:
        super().__init__()
        motion = body_motion(4)
        self.parts = [torch.from_numpy(motion[name]) for name in ("rotations", "translations", "expressions")]
        self.shifts = nn.Parameter(torch.zeros(4, 3))

    def of(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotations, translations, expressions = (part[frames] for part in self.parts)
        return rotations, translations + self.shifts[frames], expressions

    def penalty(self, frames: Tensor, prior: float, temporal: float) -> Tensor:
        return prior * self.shifts[frames].square().mean()


class Given:
    """A stage before, with that mesh."""

    def __init__(self, mesh: MeshState) -> None:
        self.mesh = mesh

    def mesh_state(self) -> MeshState:
        return self.mesh


@pytest.fixture(scope="module")
def person() -> Person:
    reference = body_reference()
    return Person(reference, star_rotations(reference.open().joint_names, 45.0))


@pytest.fixture(scope="module")
def mesh(person: Person) -> MeshState:
    places, triangles = decimated(person.vertices.numpy(), person.faces, 1500)
    vertices, faces = torch.from_numpy(places).float(), torch.from_numpy(triangles)
    skin = person.skin_of(vertices)
    solid = small_texture()
    with torch.no_grad():
        solid.grid.table.mul_(8)  # a pattern that can be seen
    return MeshState(vertices, faces, *eight_of(skin.joints, skin.weights), skin.expression_dirs, solid)


def stage_of(mesh: MeshState, person: Person, faces: int = 1500) -> MeshStage:
    poses = RecordedPoses()
    return MeshStage(SETTINGS, person, poses, Given(mesh), most_faces=faces, begins=0.0, ends=1.0, images=100)


def cameras(count: int, size: int = 64) -> CameraBatch:
    """Around the person, at hip height."""
    angle = torch.arange(count) * 2.4
    zero, one = torch.zeros(count), torch.ones(count)
    ahead = torch.stack((angle.sin(), angle.cos(), zero), -1)
    right = torch.stack((angle.cos(), -angle.sin(), zero), -1)
    turned = torch.stack((right, torch.stack((zero, zero, -one), -1), ahead), 1)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = turned
    pose[:, :3, 3] = -(turned @ (torch.tensor([0.0, 0.0, 0.9]) - 3.5 * ahead)[..., None])[..., 0]
    K = torch.tensor([[1.5 * size, 0, size / 2], [0, 1.5 * size, size / 2], [0, 0, 1]]).repeat(count, 1, 1)
    return CameraBatch(K, pose, size, size)


def pictures(mesh: MeshState, person: Person, count: int) -> Batch:
    """Pictures of a mesh in the recorded poses."""
    stage = stage_of(mesh, person)
    stage.begin()
    blank = Batch(torch.zeros(count, 1, 1, 4), cameras(count), torch.arange(count) % 4, torch.zeros(count, 3))
    found = stage.render(blank)
    return replace(blank, pixels=torch.cat((found.features, found.alpha[..., None]), -1))


def fatter(mesh: MeshState) -> MeshState:
    return replace(mesh, vertices=mesh.vertices + FAT_M * mesh.normals())


def picked(batch: Batch, rows: Tensor) -> Batch:
    lens = replace(batch.cameras, K=batch.cameras.K[rows], camera_from_world=batch.cameras.camera_from_world[rows])
    return Batch(batch.pixels[rows], lens, batch.frames[rows], batch.backgrounds[rows])


def test_it_begins_as_what_it_was_given(mesh: MeshState, person: Person) -> None:
    stage = stage_of(mesh, person)
    assert not stage.begun
    assert not stage.state()
    stage.begin()
    found = stage.mesh_state()
    assert torch.equal(found.vertices, mesh.vertices)
    assert torch.allclose(found.weights, mesh.weights, atol=1e-6)
    assert torch.equal(found.look(mesh.vertices), mesh.look(mesh.vertices))
    shown = pictures(mesh, person, 2)
    assert 0.05 < float(shown.alpha().mean()) < 0.5


def test_a_rough_mesh_and_torn_weights_begin_smooth(mesh: MeshState, person: Person) -> None:
    torn = torch.rand(mesh.weights.shape, generator=torch.Generator().manual_seed(0)) * (mesh.weights > 0)
    torn = torn / torn.sum(1, keepdim=True)
    rough = mesh.vertices + 2e-3 * torch.randn(mesh.vertices.shape, generator=torch.Generator().manual_seed(1))
    stage = stage_of(replace(mesh, vertices=rough, weights=torn), person)
    stage.settings = replace(SETTINGS, weight_smoothings=4, first_smoothings=2)
    stage.begin()
    found, edges = stage.mesh_state(), Neighbours.of(mesh.vertices, mesh.faces).edges.ends

    def every(joints: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(weights), len(person.joints)).scatter_add(1, joints, weights)

    before, after = every(mesh.joints, torn), every(found.joints, found.weights)
    assert torch.allclose(after.sum(1), torch.ones(len(after)), atol=1e-5)
    steps = [(part[edges[:, 0]] - part[edges[:, 1]]).abs().sum(1).mean() for part in (before, after)]
    assert steps[1] < 0.5 * steps[0]
    beside = Neighbours.of(mesh.vertices, mesh.faces)
    assert float(beside.unevenness(found.vertices)) < 0.7 * float(beside.unevenness(rough))
    shrunk = (found.vertices.amax(0) - found.vertices.amin(0)) / (mesh.vertices.amax(0) - mesh.vertices.amin(0))
    assert float(shrunk.min()) > 0.95


def test_pictures_teach_shape_and_colour_and_poses(mesh: MeshState, person: Person) -> None:
    truth = pictures(fatter(mesh), person, 8)
    grey = small_texture()
    with torch.no_grad():
        grey.grid.table.zero_()
    stage = stage_of(replace(mesh, solid=grey), person)
    stage.begin()
    poses = stage.poses
    assert isinstance(poses, RecordedPoses)
    optimiser = Optimiser(stage.parameters())
    first = last = 0.0
    for step in range(50):
        batch = picked(truth, torch.tensor([step % 8]))
        terms = stage.losses(batch, step / 50)
        total = torch.stack(list(terms.values())).sum()
        if step == 20:
            assert float(torch.autograd.grad(total, poses.shifts, retain_graph=True)[0].abs().max()) > 1e-4
        optimiser.step(total, 2.0 * step)
        loss = float((terms["l1"] + terms["mask"]).detach())
        first, last = first + loss * (step < 8), last + loss * (step >= 42)
    assert last < 0.6 * first
    along = (stage.moved_by().detach() * mesh.normals()).sum(1)
    assert 0.4 * FAT_M < float(along.median()) < 1.2 * FAT_M
    weights = stage.weights()
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    assert bool((weights[mesh.weights == 0] == 0).all())
    assert float((weights - mesh.weights).abs().max()) > 1e-4
    assert float(stage.offsets[len(mesh.vertices) :].abs().max()) == 0  # spare rows stay as they are


def test_it_goes_on_where_it_was(mesh: MeshState, person: Person) -> None:
    truth = pictures(fatter(mesh), person, 2)
    stage = stage_of(mesh, person)
    stage.begin()
    optimiser = Optimiser(stage.parameters())
    optimiser.step(torch.stack(list(stage.losses(truth, 0.0).values())).sum(), 0.0)
    again = stage_of(mesh, person)
    Optimiser(again.parameters()).restore(optimiser.state())
    again.restore(dict(stage.state()))
    terms, same = stage.losses(truth, 0.5), again.losses(truth, 0.5)
    assert {name: value.item() for name, value in terms.items()} == {name: value.item() for name, value in same.items()}


def test_colours_pull_at_the_surface_within_its_outline(mesh: MeshState, person: Person) -> None:
    truth = pictures(fatter(mesh), person, 1)
    pulled = []
    for follow in (False, True):
        stage = stage_of(mesh, person)
        stage.begin()
        stage.settings = replace(SETTINGS, follow=follow)
        pulled.append(torch.autograd.grad(stage.losses(truth, 0.0)["l1"], stage.offsets)[0])
    assert int((pulled[1].norm(dim=1) > 1e-6).sum()) > int((pulled[0].norm(dim=1) > 1e-6).sum()) > 0


def test_ignored_pixels_teach_nothing(mesh: MeshState, person: Person) -> None:
    truth = pictures(fatter(mesh), person, 1)
    stage = stage_of(mesh, person)
    stage.begin()
    terms = stage.losses(replace(truth, ignored=torch.ones(1, 64, 64, dtype=torch.bool)), 0.0)
    assert float(terms["l1"]) == float(terms["mask"]) == 0


def test_rates_are_theirs_where_the_stage_begins(mesh: MeshState, person: Person) -> None:
    stage = MeshStage(
        SETTINGS, person, RecordedPoses(), Given(mesh), most_faces=1500, begins=0.4, ends=0.8, images=1000
    )
    rated = {entry.name: entry for entry in stage.parameters()}["mesh.offsets"]
    assert rated.rate(400) == pytest.approx(SETTINGS.rates.vertices, rel=1e-3)
    assert rated.rate(800) == pytest.approx(SETTINGS.rates.vertices * SETTINGS.rates.final, rel=1e-3)


def test_a_mesh_without_room_is_refused(mesh: MeshState, person: Person) -> None:
    big = replace(mesh, vertices=torch.zeros(6000, 3))
    with pytest.raises(EffigyError, match="more vertices than there is room for"):
        stage_of(big, person).begin()
    with pytest.raises(BadConfig, match="smoothings is out of range"):
        check_mesh_stage(replace(SETTINGS, smoothings=1000))


def test_neighbours_move_together() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [9, 9, 9]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    beside = Neighbours.of(vertices, faces)
    assert beside.edge_m == pytest.approx((4 + 2**0.5) / 5)
    same = torch.full((5, 3), 2.0, dtype=torch.float64)
    assert torch.allclose(beside.smoothed(same, 3), same)
    assert float(beside.unevenness(same)) == pytest.approx(0)
    lone = torch.zeros(5, 3, dtype=torch.float64)
    lone[1] = 1
    assert torch.allclose(beside.smoothed(lone, 1)[:, 0], torch.tensor([0.25, 0.5, 1 / 6, 0.25, 0]).double())
    at = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: (beside.smoothed(v, 2), beside.levelled(v, 1), beside.unevenness(v)), (at,)
    )


def test_bends_of_faces() -> None:
    flat = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    edges = MeshEdges.of(faces)
    assert float(bends(flat, faces, edges)) == pytest.approx(0)
    bent = flat.clone()
    bent[3] = torch.tensor([0.5, 0.5, 1.0])  # stands up from the shared edge
    assert float(bends(bent, faces, edges)) == pytest.approx(1)
    assert torch.autograd.gradcheck(lambda v: bends(v, faces, edges), (bent.requires_grad_(),))
    nothing = bends(flat, faces[:1], MeshEdges.of(faces[:1]))
    assert float(nothing) == 0


def test_loud_and_broken_gradients_are_calmed() -> None:
    gradient = torch.full((1, 1000, 3), 0.1)
    gradient[0, 0], gradient[0, 1, 0] = 1e4, torch.nan
    found = calmed(gradient)
    assert bool(torch.isfinite(found).all())
    assert float(found[0, 0].norm()) < 0.5 * float(gradient[0, 0].norm())
    assert torch.equal(found[0, 2:], gradient[0, 2:])
