"""The torch template against its numpy twin: value, gradient, degenerate input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.templates.opening import TemplateReference, embedded_template, open_template
from avatars.templates.rotations import matrices_from_axis_angle, six_numbers, unit_quaternions
from avatars.templates.template import Template, triangles_of
from shared import template as twin
from shared.errors import BadTemplate


@pytest.fixture(scope="module")
def arrays() -> twin.TemplateArrays:
    return embedded_template("bust")


@pytest.fixture(scope="module")
def template(arrays: twin.TemplateArrays) -> Template:
    return Template(arrays)


def random_drive(arrays: twin.TemplateArrays, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotations = 0.4 * torch.randn(batch, len(arrays.joint_names), 3, generator=generator)
    translations = torch.randn(batch, 3, generator=generator)
    return rotations, translations, torch.rand(batch, len(arrays.expression_names), generator=generator)


@pytest.mark.parametrize("view", ["bust", "body"])
def test_a_posed_batch_equals_the_numpy_twin(view: str) -> None:
    arrays = embedded_template(view)
    rotations, translations, expressions = random_drive(arrays, 3)
    shape = torch.tensor([0.7, -1.0, 0.3])
    posed = Template(arrays)(rotations, translations, expressions, preset="man", shape=shape)
    for item in range(3):
        vertices, joints = twin.rest(arrays, preset="man", shape=shape.numpy(), expression=expressions[item].numpy())
        skinning, placed = twin.joint_transforms(
            rotations[item].numpy(), joints, arrays.parents, translations[item].numpy()
        )
        expected = twin.skin(vertices, arrays.weights, skinning)
        np.testing.assert_allclose(posed.vertices[item].numpy(), expected, atol=2e-6)
        np.testing.assert_allclose(posed.joints[item].numpy(), placed[:, :3, 3], atol=2e-6)
        np.testing.assert_allclose(posed.model_from_joint[item].numpy(), placed, atol=2e-6)


def test_vertex_transforms_carry_rest_vertices_to_posed_ones(arrays: twin.TemplateArrays, template: Template) -> None:
    posed = template(*random_drive(arrays, 2))
    moved = (posed.vertex_transforms[..., :3] @ posed.rest_vertices[..., None])[..., 0] + posed.vertex_transforms[
        ..., 3
    ]
    torch.testing.assert_close(moved, posed.vertices)


def test_rest_without_anything_is_the_template(arrays: twin.TemplateArrays, template: Template) -> None:
    vertices, joints = template.rest()
    np.testing.assert_array_equal(vertices[0].numpy(), arrays.vertices)
    np.testing.assert_array_equal(joints[0].numpy(), arrays.joints)


def test_pose_correctives_are_added_per_joint_below_the_root(arrays: twin.TemplateArrays) -> None:
    small = np.zeros((9 * (len(arrays.parents) - 1), len(arrays.vertices), 3), np.float32)
    small[9 * 3 + 1, 7, 2] = 0.5  # the fourth joint below the root, matrix entry [0, 1], moves vertex 7 along z
    template = Template(replace(arrays, pose_dirs=small))
    rotations = torch.zeros(1, len(arrays.parents), 3)
    rotations[0, 4, 2] = 0.3
    matrices = matrices_from_axis_angle(rotations)
    vertices, _ = template.rest(rotation_matrices=matrices)
    change = vertices[0].numpy() - arrays.vertices
    assert change[7, 2] == pytest.approx(-0.5 * np.sin(0.3), abs=1e-6)
    change[7, 2] = 0
    assert not change.any()


def test_pose_correctives_of_another_size_are_refused(arrays: twin.TemplateArrays) -> None:
    with pytest.raises(BadTemplate, match="pose_dirs"):
        Template(replace(arrays, pose_dirs=np.zeros((9, len(arrays.vertices), 3), np.float32)))


def test_gradients_match_finite_differences(arrays: twin.TemplateArrays, template: Template) -> None:
    rotations, translations, expressions = (value.double() for value in random_drive(arrays, 1))
    double = Template(arrays).double()
    rotations[0, 2] = 0  # at zero rotation the formula must stay smooth
    probe = torch.randn(3, len(arrays.vertices), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(r: torch.Tensor, t: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return (double(r, t, e).vertices[0].T * probe).sum()

    rotations.requires_grad_(), expressions.requires_grad_(), translations.requires_grad_()
    gradients = torch.autograd.grad(value(rotations, translations, expressions), (rotations, translations, expressions))
    step = 1e-6
    for which, index in ((0, (0, 2, 1)), (0, (0, 4, 0)), (1, (0, 2)), (2, (0, 24))):
        arguments = [value_.detach().clone() for value_ in (rotations, translations, expressions)]
        arguments[which][index] += step
        high = value(*arguments)
        arguments[which][index] -= 2 * step
        low = value(*arguments)
        assert gradients[which][index].item() == pytest.approx(((high - low) / (2 * step)).item(), rel=1e-4, abs=1e-5)


def test_rotation_helpers_at_zero_and_half_turn() -> None:
    zero = torch.zeros(1, 3, requires_grad=True)
    matrix = matrices_from_axis_angle(zero)
    matrix.square().sum().backward()
    assert torch.equal(matrix[0], torch.eye(3))
    assert torch.isfinite(zero.grad).all()
    half = matrices_from_axis_angle(torch.tensor([[torch.pi, 0.0, 0.0]]))
    torch.testing.assert_close(half[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-6, rtol=0)
    quarter = matrices_from_axis_angle(torch.tensor([[0.0, 0.0, torch.pi / 2]]))
    torch.testing.assert_close(six_numbers(quarter)[0], torch.tensor([0.0, -1, 0, 1, 0, 0]), atol=1e-6, rtol=0)
    assert torch.equal(unit_quaternions(torch.zeros(1, 4))[0], torch.tensor([1.0, 0, 0, 0]))


def test_quads_split_and_triangles_stay_single() -> None:
    faces, uv_faces = triangles_of(np.array([[0, 1, 2, 3], [4, 5, 6, 6]]), np.array([[9, 8, 7, 6], [5, 4, 3, 3]]))
    assert faces.tolist() == [[0, 1, 2], [4, 5, 6], [0, 2, 3]]
    assert uv_faces.tolist() == [[9, 8, 7], [5, 4, 3], [9, 7, 6]]


def test_bad_requests_name_what_is_wrong(arrays: twin.TemplateArrays, template: Template) -> None:
    with pytest.raises(BadTemplate, match="did you mean 'man'"):
        template.rest(preset="mann")
    with pytest.raises(BadTemplate, match="too many shape"):
        template.rest(shape=torch.zeros(1, len(arrays.shape_names) + 1))
    with pytest.raises(BadTemplate, match="has changed"):
        open_template(arrays.template_id, "0" * 64, "bust")
    with pytest.raises(BadTemplate, match="not known"):
        open_template("flame", arrays.digest, "bust")
    with pytest.raises(BadTemplate, match="damaged"):
        TemplateReference.from_json({"id": "x"})
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man", (0.5, 1.0))
    assert TemplateReference.from_json(reference.as_json()) == reference
