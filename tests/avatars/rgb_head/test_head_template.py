"""The template of one person: static offset, joints that follow it, pose correctives, and its way into the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.storage import head_description, head_from_parts, head_tensors
from avatars.templates.opening import embedded_template
from avatars.templates.template import Template
from shared.errors import BadAvatar, BadTemplate
from tests.tiny import bust_reference, moving, tiny_head


@pytest.fixture(scope="module")
def arrays():
    return embedded_template("bust")


def test_offset_moves_vertices_and_joints_follow_the_regressor(arrays) -> None:
    joints, count = len(arrays.joint_names), len(arrays.vertices)
    regressor = np.zeros((joints, count), np.float32)
    regressor[:, 7] = 1.0
    offset = torch.zeros(count, 3)
    offset[7] = torch.tensor([0.01, 0.02, 0.03])
    plain = HeadTemplate.make(Template(arrays), "man", (1.0,))
    still = HeadTemplate.make(Template(arrays), "man", (1.0,), offset)
    moved = HeadTemplate.make(Template(replace(arrays, joint_regressor=regressor)), "man", (1.0,), offset)
    assert torch.equal(still.joints, plain.joints), "without a regressor the joints stay"
    for made in (still, moved):
        torch.testing.assert_close(made.vertices - plain.vertices, offset, atol=1e-7, rtol=0)
    torch.testing.assert_close(moved.joints - plain.joints, offset[7].expand(joints, 3), atol=1e-6, rtol=0)
    again = HeadTemplate.make(moved.template, "man", (1.0,))
    assert torch.equal(again.vertices, plain.vertices), "the template's own arrays are not touched"
    with pytest.raises(BadTemplate, match=r"static offset.*\[3, 3\]"):
        HeadTemplate.make(Template(arrays), "man", (), torch.zeros(3, 3))


def test_pose_correctives_are_those_of_the_template_module(arrays) -> None:
    rng = np.random.default_rng(0)
    count = 9 * (len(arrays.joint_names) - 1)
    dirs = rng.normal(0, 1e-3, (count, len(arrays.vertices), 3)).astype(np.float32)
    template = Template(replace(arrays, pose_dirs=dirs))
    head = HeadTemplate.make(template, "man", (0.5,))
    rotations = torch.from_numpy(rng.normal(0, 0.2, (2, len(arrays.joint_names), 3)).astype(np.float32))
    expressions = torch.rand(2, len(arrays.expression_names))
    translations = torch.zeros(2, 3)
    posed = head.posed_vertices(rotations, translations, expressions)
    expected = template(rotations, translations, expressions, preset="man", shape=torch.tensor([0.5]))
    torch.testing.assert_close(posed, expected.vertices, atol=2e-6, rtol=0)
    flat = HeadTemplate.make(Template(arrays), "man", (0.5,)).posed_vertices(rotations, translations, expressions)
    assert (posed - flat).abs().max() > 1e-3, "the correctives bend the surface"
    rest = head.posed_vertices(torch.zeros_like(rotations), translations, torch.zeros_like(expressions))
    torch.testing.assert_close(rest[0], head.vertices, atol=2e-6, rtol=0)


def test_offset_is_stored_and_read_back_bit_equal(arrays) -> None:
    offset = np.random.default_rng(1).normal(0, 1e-3, (len(arrays.vertices), 3)).astype(np.float32)
    config = RgbHeadConfig(target_gaussians=300, blendshapes=2, hidden=8, density={"skin": 1.0})
    model = new_head(bust_reference(), config, seed=0, vertex_offset=offset)
    tensors = head_tensors(model)
    read = head_from_parts(bust_reference(), head_description(model), tensors, "cpu")
    motion = moving(2, model)
    assert torch.equal(read.head.posed_vertices(**motion), model.head.posed_vertices(**motion))
    np.testing.assert_array_equal(read.head.vertex_offset, offset)
    with pytest.raises(BadAvatar, match="vertex_offset"):
        head_from_parts(
            bust_reference(), head_description(model), tensors | {"vertex_offset": torch.zeros(4, 3)}, "cpu"
        )


def test_a_head_without_offset_stores_what_it_always_did() -> None:
    assert "vertex_offset" not in head_tensors(tiny_head(300))
