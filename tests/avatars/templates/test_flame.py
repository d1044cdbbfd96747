"""FLAME from its files: counts, order and winding, axes, posing against the textbook formula, and bad files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.flame import WORLD_FROM_FLAME, flame_version, read_flame
from avatars.templates.flame_teeth import GAUSSIAN_AVATARS_STRIPS, RGBAVATAR_STRIPS, teeth_faces
from avatars.templates.template import Template
from shared.errors import BadTemplate
from shared.template import TemplateArrays, rotation_matrices
from tests.flame_files import FlameFiles, flame_arrays, model_fields, python2_pickle
from tests.flame_head import LIP_RING_LOWER, LIP_RING_UPPER


@pytest.fixture(scope="module")
def files(flame_2020: FlameFiles) -> FlameFiles:
    return flame_2020


@pytest.fixture(scope="module")
def rgbavatar(flame_template: TemplateArrays) -> TemplateArrays:
    return flame_template


@pytest.fixture(scope="module")
def gaussian_avatars(flame_2023: FlameFiles) -> TemplateArrays:
    return read_flame(flame_2023.model, uv=flame_2023.mesh, teeth="gaussian_avatars")


def test_counts_of_both_teeth(rgbavatar: TemplateArrays, gaussian_avatars: TemplateArrays) -> None:
    for arrays, template_id, vertices, teeth, uv in (
        (rgbavatar, "flame2020_rgbavatar", 5083, 56, 5178),
        (gaussian_avatars, "flame2023_gaussian_avatars", 5143, 168, 5238),
    ):
        assert arrays.template_id == template_id
        assert arrays.view == "head"
        assert arrays.vertices.shape == (vertices, 3)
        assert arrays.uv.shape == (uv, 2)
        assert {name: len(faces) for name, faces in arrays.faces.items()} == {"skin": 9976, "teeth": teeth}
        assert list(arrays.faces) == ["skin", "teeth"], "face numbers run through skin, then teeth"
        assert arrays.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
        assert arrays.shape_dirs.shape == (300, vertices, 3)
        assert arrays.pose_dirs.shape == (36, vertices, 3)
    assert rgbavatar.expression_names[:2] == ("exp000", "exp001")
    assert rgbavatar.expression_names[-2:] == ("eyelid_left", "eyelid_right")
    assert len(rgbavatar.expression_names) == 102
    assert len(gaussian_avatars.expression_names) == 100
    assert rgbavatar.expression_ranges[0, 0] < -2
    assert rgbavatar.expression_ranges[0, 1] > 2


def test_faces_and_uv_faces_keep_flames_order(files: FlameFiles, rgbavatar: TemplateArrays) -> None:
    with np.load(files.uv) as uv:
        np.testing.assert_array_equal(rgbavatar.faces["skin"][:, :3], flame_arrays()["f"])
        np.testing.assert_array_equal(rgbavatar.uv_faces["skin"][:, :3], uv["ft"])
        np.testing.assert_allclose(rgbavatar.uv[:5118], uv["vt"], atol=1e-7)
    np.testing.assert_array_equal(rgbavatar.faces["skin"][:, 3], rgbavatar.faces["skin"][:, 2])


def test_known_faces_of_the_teeth() -> None:
    """First and last triangles of the released lists (method page 15.1), and every corner in range."""
    rgb, ga = teeth_faces(RGBAVATAR_STRIPS), teeth_faces(GAUSSIAN_AVATARS_STRIPS)
    assert (len(rgb), len(ga)) == (56, 168)
    for faces in (rgb, ga):
        assert faces[0].tolist() == [0, 31, 30]
        assert faces[1].tolist() == [0, 1, 31]
        assert faces[13].tolist() == [6, 7, 37]
        assert faces[14].tolist() == [7, 8, 37]
        assert faces[27].tolist() == [14, 44, 43]
    assert rgb[28].tolist() == [45, 46, 15]
    assert ga[28].tolist() == [60, 75, 76]
    assert ga[83].tolist() == [88, 44, 89]
    assert ga[84].tolist() == [45, 46, 15]
    assert ga[-1].tolist() == [118, 119, 59]
    assert sorted(np.unique(ga)) == list(range(120))
    assert sorted(np.unique(rgb)) == list(range(60))


def test_places_of_the_teeth(rgbavatar: TemplateArrays, gaussian_avatars: TemplateArrays) -> None:
    """Rows against the formulas of 2.4 and 10.2, in FLAME's axes."""
    for arrays, version, back, rows in ((rgbavatar, "2020", 2.0, 4), (gaussian_avatars, "2023", 1.5, 8)):
        source = flame_arrays(version)["v_template"]
        upper, lower = source[list(LIP_RING_UPPER)], source[list(LIP_RING_LOWER)]
        d = np.linalg.norm(upper - lower, axis=1).mean()
        middle = (upper + lower) / 2
        middle[:, 1] = middle[:, 1].mean()
        middle[:, 2] -= back * d
        y, z = np.array([0, 1.0, 0]), np.array([0, 0, 1.0])
        if rows == 4:
            expected = [middle, middle - 0.4 * d * z, middle - d * y, middle + d * y - 0.4 * d * z]
        else:
            edge, low = middle + 0.1 * d * y, middle - 0.1 * d * y - 0.4 * d * z
            front = [edge + 2 * d * y, edge, low - 2 * d * y, low]
            expected = [front[0], front[2], front[1], front[3], *(row - d * z for row in front)]
        teeth = arrays.vertices[5023:] @ WORLD_FROM_FLAME
        np.testing.assert_allclose(teeth.reshape(rows, 15, 3), expected, atol=1e-6)
        owner = arrays.weights[5023:].argmax(1).reshape(rows, 15)
        pattern = [1, 2, 1, 2] if rows == 4 else [1, 2, 1, 2, 1, 1, 2, 2]
        np.testing.assert_array_equal(owner, np.repeat(np.array(pattern)[:, None], 15, 1))
        lips = (arrays.shape_dirs[:, list(LIP_RING_UPPER)] + arrays.shape_dirs[:, list(LIP_RING_LOWER)]) / 2
        np.testing.assert_allclose(arrays.shape_dirs[:, 5023:5038], lips, atol=1e-6)
        assert not arrays.pose_dirs[:, 5023:].any()
        assert not arrays.joint_regressor[:, 5023:].any()
    corners = rgbavatar.uv[rgbavatar.uv_faces["teeth"][:, :3]].astype(float)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] > 0).all(), "no mirrored UV face (method page 2.4)"
    np.testing.assert_allclose(rgbavatar.uv[[5118, 5132]], [(0.75, 0.995), (0.25, 0.995)], atol=1e-6)
    np.testing.assert_allclose(gaussian_avatars.uv[[5118, 5132]], [(0.62, 0.9746), (0.38, 0.9746)], atol=1e-6)


def textbook(
    arrays: dict[str, Any], betas: Any, lids: Any, offset: Any, rotations: Any, translation: Any
) -> np.ndarray:
    """FLAME's own formula in its own axes, float64 (method page 9.3): shape, eyelids, joints, correctives, skinning."""
    vertices = arrays["v_template"] + arrays["shapedirs"] @ betas + lids + offset
    joints = arrays["J_regressor"] @ vertices
    matrices = rotation_matrices(rotations)
    vertices = vertices + arrays["posedirs"] @ (matrices[1:] - np.eye(3)).ravel()
    world: list[np.ndarray] = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = matrices[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world.append(world[parent] @ local if joint else local)
    posed = np.zeros_like(vertices)
    for joint, transform in enumerate(world):
        moved = (vertices - joints[joint]) @ transform[:3, :3].T + transform[:3, 3]
        posed += arrays["weights"][:, joint, None] * moved
    return posed + translation


@pytest.mark.parametrize("pose", ["rest", "moved"])
def test_posing_is_flames_formula(files: FlameFiles, rgbavatar: TemplateArrays, pose: str) -> None:
    arrays, rng = flame_arrays(), np.random.default_rng(3)
    amount = 0.0 if pose == "rest" else 1.0
    betas = amount * rng.normal(0, 1, 400)
    rotations = amount * rng.normal(0, 0.3, (5, 3))
    translation = amount * rng.normal(0, 0.5, 3)
    offset = amount * rng.normal(0, 2e-3, (5023, 3))
    left, right = (np.load(path) for path in files.eyelids)
    strength = amount * np.array([0.8, 0.3])
    expected = textbook(arrays, betas, strength[0] * left + strength[1] * right, offset, rotations, translation)
    turn = WORLD_FROM_FLAME
    padded = np.concatenate((offset, np.zeros((60, 3)))) @ turn.T
    head = HeadTemplate.make(
        Template(rgbavatar), "", tuple(betas[:300].tolist()), torch.from_numpy(padded.astype(np.float32))
    )
    found = head.posed_vertices(
        torch.from_numpy(rotations @ turn.T)[None].float(),
        torch.from_numpy(translation @ turn.T)[None].float(),
        torch.from_numpy(np.concatenate((betas[300:], strength)))[None].float(),
    )
    np.testing.assert_allclose(found[0, :5023].numpy(), expected @ turn.T, atol=2e-5)
    if pose == "moved":
        assert np.abs(expected @ turn.T - rgbavatar.vertices[:5023]).max() > 0.05


def test_it_faces_minus_y_with_its_left_at_plus_x(rgbavatar: TemplateArrays) -> None:
    left, right = rgbavatar.joints[3], rgbavatar.joints[4]
    assert left[0] > 0 > right[0]
    eyes = (left + right) / 2
    neck = rgbavatar.joints[1]
    assert eyes[2] > neck[2], "eyes above the neck"
    assert eyes[1] < neck[1], "and before it"
    # A positive turn of the jaw about +x opens the mouth: its front goes down.
    head = HeadTemplate.make(Template(rgbavatar), "", ())
    rotations = torch.zeros(1, 5, 3)
    rotations[0, 2, 0] = 0.3
    moved = head.posed_vertices(rotations, torch.zeros(1, 3), torch.zeros(1, 102))[0]
    assert (moved - head.vertices)[5023 + 15 : 5023 + 30, 2].max() < -0.005, "the lower teeth go down"


def test_without_teeth_and_eyelids(files: FlameFiles) -> None:
    plain = read_flame(files.model, uv=files.uv, teeth="none")
    assert plain.template_id == "flame2020"
    assert plain.vertices.shape == (5023, 3)
    assert list(plain.faces) == ["skin"]
    assert len(plain.expression_names) == 100


def test_the_same_files_give_the_same_digest(files: FlameFiles, rgbavatar: TemplateArrays) -> None:
    again = read_flame(files.model, uv=files.mesh, eyelids=files.eyelids, teeth="rgbavatar")
    assert again.digest == rgbavatar.digest, "the layout read from the .obj is the same"
    assert len(again.digest) == 64


def test_versions_by_name() -> None:
    names = {"generic_model.pkl": "2020", "FLAME2020.pkl": "2020", "flame2023.pkl": "2023", "model.pkl": ""}
    assert {name: flame_version(Path("x") / name) for name in names} == names


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "SMPL": ({"v_template": np.zeros((6890, 3))}, r"v_template \[6890, 3\].*\[5023, 3\].*looks like SMPL"),
    "teeth already": ({"v_template": np.zeros((5083, 3))}, r"\[5083, 3\]; expected v_template \[5023, 3\]"),
    "short basis": ({"shapedirs": np.zeros((5023, 3, 150))}, r"shapedirs \[5023, 3, 150\].*\[5023, 3, 400\]"),
    "no jaw": ({"weights": np.zeros((5023, 4))}, r"weights \[5023, 4\].*\[5023, 5\]"),
    "other joints": ({"kintree_table": np.zeros((2, 5), np.int64)}, r"other joints than FLAME"),
    "faces out of range": ({"f": np.full((9976, 3), 5023)}, r"points outside v_template.*5023"),
    "not a number": ({"v_template": np.full((5023, 3), np.nan)}, r"no finite numbers"),
    "words": ({"v_template": "x"}, r"v_template str; expected v_template \[5023, 3\]"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_other_models_are_told_apart_in_one_sentence(kind: str, files: FlameFiles, tmp_path: Path) -> None:
    changes, message = CHANGES[kind]
    fields = model_fields(flame_arrays(), chumpy=False) | {name.encode(): value for name, value in changes.items()}
    if kind != "short basis":
        fields[b"shapedirs"] = np.zeros((5023, 3, 400), np.float32)
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(python2_pickle(fields))
    with pytest.raises(BadTemplate, match=rf"generic_model\.pkl.*{message}|{message}.*generic_model\.pkl"):
        read_flame(path, uv=files.uv)


def test_files_cut_short_missing_or_mixed_up_are_named(files: FlameFiles, tmp_path: Path) -> None:
    cut = tmp_path / "generic_model.pkl"
    cut.write_bytes(files.model.read_bytes()[:1_000_000])
    with pytest.raises(BadTemplate, match=r"generic_model\.pkl is no intact pickle"):
        read_flame(cut, uv=files.uv)
    with pytest.raises(BadTemplate, match=r"none\.pkl cannot be read"):
        read_flame(tmp_path / "none.pkl", uv=files.uv)
    renamed = tmp_path / "model.pkl"
    shutil.copy(files.model, renamed)
    with pytest.raises(BadTemplate, match=r"model\.pkl does not say which FLAME"):
        read_flame(renamed, uv=files.uv)
    assert read_flame(renamed, uv=files.uv, teeth="none", version="2020").template_id == "flame2020"
    with pytest.raises(BadTemplate, match=r"generic_model\.pkl holds no UV layout"):
        read_flame(files.model, uv=None)
    with pytest.raises(BadTemplate, match=r"unknown teeth 'rgb_avatar', did you mean 'rgbavatar'"):
        read_flame(files.model, uv=files.uv, teeth="rgb_avatar")  # type: ignore[arg-type]


def test_bad_side_files_are_named(files: FlameFiles, tmp_path: Path) -> None:
    with np.load(files.uv) as uv:
        vt, ft = uv["vt"], uv["ft"]
    cases = {
        "no_vt.npz": ({"ft": ft}, r"no_vt\.npz lacks the array 'vt'"),
        "other.npz": ({"vt": vt[:100], "ft": ft}, r"other\.npz is no UV layout.*vt \[100, 2\].*vt \[5118, 2\]"),
        "outside.npz": ({"vt": vt, "ft": ft + 1}, r"ft of outside\.npz points outside vt"),
        "nan.npz": ({"vt": vt * np.nan, "ft": ft}, r"vt of nan\.npz.*finite"),
    }
    for name, (content, message) in cases.items():
        np.savez(tmp_path / name, **content)
        with pytest.raises(BadTemplate, match=message):
            read_flame(files.model, uv=tmp_path / name)
    (tmp_path / "broken.npz").write_bytes(files.uv.read_bytes()[:5000])
    with pytest.raises(BadTemplate, match=r"broken\.npz is damaged"):
        read_flame(files.model, uv=tmp_path / "broken.npz")
    text = files.mesh.read_text()
    (tmp_path / "quads.obj").write_text(text.replace("\nf ", "\nf 1/1 ", 1))
    with pytest.raises(BadTemplate, match=r"line \d+ of quads\.obj cannot be read"):
        read_flame(files.model, uv=tmp_path / "quads.obj")
    lines = text.splitlines()
    (tmp_path / "order.obj").write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]))
    with pytest.raises(BadTemplate, match=r"faces of order\.obj are not the model's"):
        read_flame(files.model, uv=tmp_path / "order.obj")
    np.save(tmp_path / "lid.npy", np.zeros((5083, 3)))
    with pytest.raises(BadTemplate, match=r"lid\.npy holds no eyelid.*\[5083, 3\].*\[5023, 3\]"):
        read_flame(files.model, uv=files.uv, eyelids=(tmp_path / "lid.npy", files.eyelids[1]))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(BadTemplate, match=r"objects\.npy is damaged"):
        read_flame(files.model, uv=files.uv, eyelids=(tmp_path / "objects.npy", files.eyelids[1]))
