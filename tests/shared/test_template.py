"""The template's arithmetic against slow references, its views against each other, and damaged files."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.errors import BadTemplate
from shared.template import (
    BUST_JOINTS,
    EMBEDDED_HUMAN,
    TemplateArrays,
    bust_view,
    joint_transforms,
    load_template,
    rest,
    rotation_matrices,
    skin,
)


@pytest.fixture(scope="module")
def body() -> TemplateArrays:
    return load_template()


@pytest.fixture(scope="module")
def bust(body: TemplateArrays) -> TemplateArrays:
    return bust_view(body)


def series_rotation(vector: np.ndarray) -> np.ndarray:
    """exp of the cross-product matrix by its power series: no formula in common with the code under test."""
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], float)
    total, term = np.eye(3), np.eye(3)
    for k in range(1, 60):
        term = term @ cross / k
        total = total + term
    return total


def brute_force_pose(
    t: TemplateArrays, vertex: int, rotations: np.ndarray, translation: np.ndarray, v, J
) -> np.ndarray:
    """One posed vertex by walking from every joint to the root, rotating about each joint on the way."""
    posed = np.zeros(3)
    for joint in range(len(t.joint_names)):
        point, walker = v[vertex].astype(float), joint
        while walker >= 0:
            point = series_rotation(rotations[walker]) @ (point - J[walker]) + J[walker]
            walker = int(t.parents[walker])
        posed += t.weights[vertex, joint] * (point + translation)
    return posed


def test_embedded_human_is_upright_and_faces_minus_y(body: TemplateArrays) -> None:
    head, foot = body.joints[body.joint("head")], body.joints[body.joint("left_foot")]
    assert head[2] - foot[2] > 1.3
    assert body.joints[body.joint("left_eye")][0] > 0 > body.joints[body.joint("right_eye")][0]
    assert body.joints[body.joint("left_eye")][1] < head[1] - 0.05
    left_arm = body.joints[body.joint("left_wrist")] - body.joints[body.joint("left_shoulder")]
    assert left_arm[0] > 0.99 * np.linalg.norm(left_arm)


def test_rest_adds_the_named_parts(body: TemplateArrays) -> None:
    shape = np.array([0.5, -1.0, 0.25])
    vertices, joints = rest(body, preset="man", shape=shape, expression={"jawOpen": 0.5, "mouthSmileLeft": 0.25})
    expected = body.vertices.astype(float) + body.presets["man"][0]
    expected_joints = body.joints.astype(float) + body.presets["man"][1]
    for k, amount in enumerate(shape):
        expected += amount * body.shape_dirs[k].astype(float)
        expected_joints += amount * body.joint_shape_dirs[k]
    for name, amount in (("jawOpen", 0.5), ("mouthSmileLeft", 0.25)):
        k = body.expression_names.index(name)
        expected[body.expression_vertices] += amount * body.expression_dirs[k].astype(float)
        expected_joints += amount * body.joint_expression_dirs[k]
    np.testing.assert_allclose(vertices, expected, atol=2e-7)
    np.testing.assert_allclose(joints, expected_joints, atol=2e-7)
    assert np.abs(vertices - body.vertices).max() > 0.01


def test_head_modes_change_heads_only(body: TemplateArrays) -> None:
    head_modes = [k for k, name in enumerate(body.shape_names) if name.startswith("head_")]
    body_modes = [k for k, name in enumerate(body.shape_names) if name.startswith("body_")]
    assert (len(body_modes), len(head_modes)) == (16, 40)
    on_head = body.weights[:, [body.joint(name) for name in ("head", "jaw", "left_eye", "right_eye")]].sum(1)
    change = np.linalg.norm(body.shape_dirs[head_modes], axis=2)
    assert change[:, on_head < 1e-4].max() < 1e-6
    assert 5e-4 < change[0].max() < 0.03, "one standard deviation is millimetres"
    assert np.linalg.norm(body.shape_dirs[body_modes[0]], axis=1)[on_head < 1e-4].max() > 0.02


def test_skinning_matches_brute_force(body: TemplateArrays) -> None:
    rng = np.random.default_rng(0)
    rotations = rng.normal(size=(len(body.joint_names), 3)) * 0.6
    translation = np.array([0.3, -0.2, 1.0])
    vertices, joints = rest(body, preset="woman")
    skinning, world = joint_transforms(rotations, joints, body.parents, translation)
    posed = skin(vertices, body.weights, skinning)
    for vertex in rng.choice(len(vertices), 12, replace=False):
        reference = brute_force_pose(body, vertex, rotations, translation, vertices, joints)
        np.testing.assert_allclose(posed[vertex], reference, atol=2e-6)
    moved_joints = np.einsum("jab,jb->ja", skinning[:, :3, :3], joints) + skinning[:, :3, 3]
    np.testing.assert_allclose(world[:, :3, 3], moved_joints, atol=1e-9)


def test_root_motion_is_rigid(bust: TemplateArrays) -> None:
    vertices, joints = rest(bust, preset="man", expression={"jawOpen": 1.0})
    rotations = np.zeros((len(bust.joint_names), 3))
    rotations[0] = [0.2, 1.1, -2.0]
    skinning, _ = joint_transforms(rotations, joints, bust.parents, np.array([1.0, 2.0, 3.0]))
    posed = skin(vertices, bust.weights, skinning)
    matrix = series_rotation(rotations[0])
    np.testing.assert_allclose(posed, (vertices - joints[0]) @ matrix.T + joints[0] + [1, 2, 3], atol=2e-6)


def test_rest_pose_is_the_identity(bust: TemplateArrays) -> None:
    vertices, joints = rest(bust)
    skinning, _ = joint_transforms(np.zeros((len(joints), 3)), joints, bust.parents, np.zeros(3))
    np.testing.assert_allclose(skin(vertices, bust.weights, skinning), vertices, atol=1e-6)


def test_bust_moves_as_the_body_does(body: TemplateArrays, bust: TemplateArrays) -> None:
    rng = np.random.default_rng(1)
    by_name = {name: rng.normal(size=3) * 0.3 for name in BUST_JOINTS[1:]}
    expression = rng.random(len(body.expression_names)) * 0.4
    posed = {}
    for view in (body, bust):
        rotations = np.array([by_name.get(name, np.zeros(3)) for name in view.joint_names])
        vertices, joints = rest(view, preset="man", expression=expression)
        posed[view.view] = skin(vertices, view.weights, joint_transforms(rotations, joints, view.parents)[0])
    tree = {tuple(np.round(v, 6)): k for k, v in enumerate(body.vertices)}
    origin = np.array([tree[tuple(np.round(v, 6))] for v in bust.vertices])
    np.testing.assert_allclose(posed["bust"], posed["body"][origin], atol=2e-6)


def test_bust_keeps_what_a_head_needs(body: TemplateArrays, bust: TemplateArrays) -> None:
    assert bust.view == "bust"
    assert bust.digest == body.digest
    assert bust.joint_names == BUST_JOINTS
    assert bust.parents.tolist() == [-1, 0, 0, 0, 1, 2, 3, 4, 4, 4]
    assert {"skin", "eye_l", "eye_r", "teeth", "tongue", "lashes", "haircap", "tights"} == set(bust.faces)
    for group in ("eye_l", "eye_r", "teeth", "tongue", "lashes"):
        assert len(bust.faces[group]) == len(body.faces[group])
    used = bust.group_vertices(*bust.faces)
    assert used.tolist() == list(range(len(bust.vertices)))
    np.testing.assert_allclose(bust.weights.sum(1), 1, atol=1e-5)
    for group, faces in bust.faces.items():
        first = bust.uv[bust.uv_faces[group]][:, 0]
        assert np.isfinite(first).all()
        assert faces.shape == bust.uv_faces[group].shape


def test_arrays_are_read_only(bust: TemplateArrays) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bust.vertices[0] = 0


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-9, 1e-4, math.pi, 2 * math.pi, 7.0])
def test_rotations_at_difficult_angles(angle: float) -> None:
    axis = np.array([0.6, -0.48, 0.64])
    np.testing.assert_allclose(rotation_matrices(axis * angle), series_rotation(axis * angle), atol=1e-9)


def test_degenerate_inputs_are_refused(bust: TemplateArrays) -> None:
    with pytest.raises(BadTemplate, match="did you mean 'man'"):
        rest(bust, preset="mann")
    with pytest.raises(BadTemplate, match="did you mean 'jawOpen'"):
        rest(bust, expression={"jawopen": 1.0})
    with pytest.raises(BadTemplate, match="shape has the wrong length"):
        rest(bust, shape=np.zeros(1000))
    with pytest.raises(BadTemplate, match="expression has the wrong length"):
        rest(bust, expression=np.zeros(3))
    with pytest.raises(BadTemplate, match="not finite"):
        rest(bust, shape=[math.nan])
    with pytest.raises(BadTemplate, match="no joint 'left_hip'"):
        bust.joint("left_hip")
    with pytest.raises(BadTemplate, match="no face group 'shirt'"):
        bust.group_vertices("shirt")
    with pytest.raises(BadTemplate, match="out of order"):
        replace(bust, parents=np.array([1] + bust.parents.tolist()[1:]))
    with pytest.raises(BadTemplate, match="points outside"):
        replace(bust, faces={**bust.faces, "skin": bust.faces["skin"] + 1_000_000})
    with pytest.raises(BadTemplate, match="partition"):
        replace(bust, weights=bust.weights * 0.5)


def rewritten(changes: dict[str, bytes | None]) -> bytes:
    """The embedded file with members replaced (bytes) or left out (None)."""
    out = io.BytesIO()
    with zipfile.ZipFile(EMBEDDED_HUMAN) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            content = changes.get(entry.filename, source.read(entry))
            if content is not None:
                target.writestr(entry.filename, content)
    return out.getvalue()


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickled)
    return out.getvalue()


DAMAGED = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "noise": lambda whole: whole[:5000] + bytes(2000) + whole[7000:],
    "missing array": lambda whole: rewritten({"joints.npy": None}),
    "wrong shape": lambda whole: rewritten({"joints.npy": npy(np.zeros((4, 3), np.float32))}),
    "not finite": lambda whole: rewritten({"joints.npy": npy(np.full((55, 3), np.nan, np.float32))}),
    "pickle": lambda whole: rewritten({"joints.npy": npy(np.array([{}], object), pickled=True)}),
    "header lies": lambda whole: rewritten({"joints.npy": npy(np.zeros((55, 3), np.float32))[:-40]}),
    "other version": lambda whole: rewritten({"format.npy": npy(np.array("effigy-template 99"))}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_give_one_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "template.npz"
    path.write_bytes(DAMAGED[kind](EMBEDDED_HUMAN.read_bytes()))
    with pytest.raises(BadTemplate) as caught:
        load_template(path)
    assert "template" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"nowhere\.npz"):
        load_template(tmp_path / "nowhere.npz")
