"""Marching in posed space: the skinned surface where nothing touches, one surface where parts do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from avatars.surface.metrics import distances_to
from avatars.surface_body.inference import FieldMesh, Floats, field_mesh
from avatars.surface_body.posed_mesh import PosedField, posed_field_mesh
from tests.avatars.surface_body.tiny_surface import tiny_model

RESOLUTION = 72


@pytest.fixture(scope="module")
def canonical() -> FieldMesh:
    return field_mesh(tiny_model(), RESOLUTION)


def pose(**turns: tuple[float, float, float]) -> tuple[Tensor, Tensor, Tensor]:
    person = tiny_model().body.person
    rotations = torch.zeros(1, len(person.arrays.joint_names), 3)
    for joint, turn in turns.items():
        rotations[0, person.arrays.joint_names.index(joint)] = torch.tensor(turn)
    return rotations, torch.tensor([[0.1, -0.2, 0.3]]), torch.zeros(1, len(person.arrays.expression_names))


def volume(vertices: Floats, mesh: FieldMesh) -> float:
    return float(trimesh.Trimesh(vertices, mesh.faces, process=False).volume)


def test_where_nothing_touches_it_is_the_skinned_surface(canonical: FieldMesh) -> None:
    stands = pose(left_shoulder=(0.0, 0.3, 0.0), right_knee=(0.6, 0.0, 0.0))
    marched, world = posed_field_mesh(tiny_model(), stands, RESOLUTION)
    skinned = canonical.posed(tiny_model(), *stands)
    away = distances_to(world, (skinned, canonical.faces))
    assert np.median(away) < 0.002
    assert np.percentile(away, 98) < 0.015, "half a cell of the 25 mm grid"
    assert volume(world, marched) == pytest.approx(volume(skinned, canonical), rel=0.03)
    back = marched.posed(tiny_model(), *stands)
    assert np.percentile(np.linalg.norm(back - world, axis=1), 98) < 2e-3, "it knows where its vertices come from"
    assert marched.colours.shape == world.shape
    np.testing.assert_allclose(marched.weights.sum(1), 1, atol=1e-5)


def test_parts_that_touch_are_one_closed_surface(canonical: FieldMesh) -> None:
    folded = pose(left_hip=(0.0, 0.25, 0.0), right_hip=(0.0, -0.25, 0.0))  # into each other
    skinned = canonical.posed(tiny_model(), *folded)
    marched, world = posed_field_mesh(tiny_model(), folded, RESOLUTION)
    mesh = trimesh.Trimesh(world, marched.faces, process=False)
    assert mesh.is_watertight
    twice = volume(skinned, canonical) - volume(world, marched)
    assert twice > 0.001, "skin that lies within another part is counted once"
    hidden = distances_to(skinned, (world, marched.faces)) > 0.03
    assert hidden.sum() > 15
    with torch.no_grad():
        inside = PosedField(tiny_model(), *folded).distance(torch.from_numpy(skinned[hidden]).float())
    assert (inside < 0).double().mean() > 0.95, "what is gone was within the body"
