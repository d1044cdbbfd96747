"""The canonical mesh: it moves as the person does, its normals point outwards, its colours survive being stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from avatars.relit_body.person import Person
from avatars.relit_field.settings import GridSettings
from avatars.surface_body.mesh_state import MeshState, eight_of, vertex_normals
from avatars.surface_body.solid_texture import SolidSettings, SolidTexture, solid_from
from shared.errors import BadAvatar
from tests.tiny_body import body_motion, body_reference

SMALL = SolidSettings(GridSettings(levels=3, table_log2=8, base=4, growth=1.5, start_levels=3), width=8, features=2)


def small_texture() -> SolidTexture:
    solid = SolidTexture(torch.tensor([0.0, 0.0, 1.0]), 1.0, SMALL, torch.Generator().manual_seed(1))
    with torch.no_grad():
        solid.grid.table.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    return solid


@pytest.fixture(scope="module")
def person() -> Person:
    reference = body_reference()
    return Person(reference, torch.zeros(len(reference.open().joint_names), 3))


@pytest.fixture(scope="module")
def mesh(person: Person) -> MeshState:
    used, faces = np.unique(person.faces, return_inverse=True)
    vertices = person.vertices[torch.from_numpy(used).long()]
    skin = person.skin_of(vertices)
    joints, weights = eight_of(skin.joints, skin.weights)
    triangles = torch.from_numpy(faces.reshape(-1, 3)).long()
    return MeshState(vertices, triangles, joints, weights, skin.expression_dirs, small_texture())


def test_vertices_follow_their_joints(person: Person, mesh: MeshState) -> None:
    motion = [torch.from_numpy(body_motion(2)[name]) for name in ("rotations", "translations", "expressions")]
    posed = mesh.posed(person, *motion)
    moved = person.moved(*motion)
    dirs = torch.einsum("be,evc->bvc", motion[2], mesh.expression_dirs)
    some = torch.arange(0, len(mesh.vertices), 997)
    for vertex in some.tolist():
        place = torch.cat([mesh.vertices[vertex] + dirs[:, vertex], torch.ones(2, 1)], 1)
        each = torch.einsum("bkij,bj->bki", moved[:, mesh.joints[vertex]], place)
        plain = (each * mesh.weights[vertex, None, :, None]).sum(1)[:, :3]
        assert torch.allclose(posed[:, vertex], plain, atol=1e-5)


def test_normals_point_outwards_and_have_gradients(mesh: MeshState) -> None:
    normals = mesh.normals()
    assert torch.allclose(normals.norm(dim=1), torch.ones(len(normals)), atol=1e-4)
    centre = mesh.vertices.mean(0)
    assert float(((mesh.vertices - centre) * normals).sum(1).mean()) > 0
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0.2], [1, 1, 0]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [0, 0, 1]])
    assert torch.autograd.gradcheck(lambda places: vertex_normals(places, faces), (corners,))


def test_a_vertex_without_a_face_has_no_normal() -> None:
    assert vertex_normals(torch.ones(1, 3, 3), torch.zeros(0, 3, dtype=torch.int64)).abs().max() == 0


def test_fewer_and_more_than_eight_joints() -> None:
    joints, weights = eight_of(torch.arange(2)[None], torch.tensor([[0.5, 0.5]]))
    assert joints.shape == weights.shape == (1, 8)
    assert weights.sum() == 1
    joints, weights = eight_of(torch.arange(9)[None], torch.full((1, 9), 1 / 9))
    assert joints.shape == (1, 8)
    assert float(weights.sum()) == pytest.approx(1)


def test_colours_survive_being_stored(mesh: MeshState) -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3))
    described = json.loads(json.dumps(mesh.solid.description()))
    again = solid_from(mesh.solid.tensors(), described)
    assert torch.equal(mesh.look(points), again.colours(points))
    assert float(again.colours(points).std()) > 0.01
    with pytest.raises(BadAvatar, match="not as described"):
        solid_from(mesh.solid.tensors(), {**described, "width": 4})
    with pytest.raises(BadAvatar, match="not as described"):
        solid_from({}, described)


def test_colours_pull_at_places() -> None:
    solid = small_texture().double()
    places = torch.rand(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    solid.with_features(places, follow=True)[0].sum().backward()
    step = torch.zeros_like(places)
    step[:, 1] = 1e-6
    with torch.no_grad():
        change = (solid(places + step) - solid(places - step)).sum(1) / 2e-6
    assert places.grad is not None
    assert torch.allclose(places.grad[:, 1], change, atol=1e-5)
