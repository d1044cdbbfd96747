"""SMPL-X and SMPL from files of the true layouts: sizes, axes, correctives, and one sentence for a wrong file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.templates.body_models import SMPL, SMPLX, read_body_model
from avatars.templates.installed import install, installed_arrays
from avatars.templates.template import Template
from shared.errors import BadTemplate
from shared.template import TemplateArrays, rotation_matrices
from tests.body_files import Z_UP_TO_SMPL, model_arrays, write_pickle, write_smplx


@pytest.fixture(scope="module")
def smplx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TemplateArrays]:
    path = write_smplx(tmp_path_factory.mktemp("smplx"), columns=20)
    return path, read_body_model(path)


def plain_smplx(arrays: dict, betas: np.ndarray, pose: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """SMPL-X as published, in the file's own axes: shapes and expressions in one vector, one joint after the other."""
    vertices = arrays["v_template"] + arrays["shapedirs"] @ betas
    joints = arrays["J_regressor"] @ vertices
    R = rotation_matrices(pose)
    vertices = vertices + arrays["posedirs"] @ (R[1:] - np.eye(3)).ravel()
    parents, world = arrays["kintree_table"][0], []
    for k, rotation in enumerate(R):
        local = np.eye(4)
        local[:3, :3] = rotation
        local[:3, 3] = joints[k] - (joints[parents[k]] if k else 0)
        world.append(local if k == 0 else world[parents[k]] @ local)
    moved = np.zeros_like(vertices)
    for k, matrix in enumerate(world):
        own = (vertices - joints[k]) @ matrix[:3, :3].T + matrix[:3, 3]
        moved += arrays["weights"][:, k : k + 1] * own
    return moved + transl


def test_it_poses_as_published(smplx: tuple[Path, TemplateArrays]) -> None:
    _, arrays = smplx
    assert (len(arrays.vertices), len(arrays.joint_names), arrays.view) == (10475, 55, "body")
    assert (len(arrays.shape_names), arrays.expression_names[:2]) == (10, ("exp000", "exp001"))
    assert arrays.template_id == "smplx_neutral"
    rng = np.random.default_rng(3)
    betas, pose, transl = rng.normal(0, 1, 20), rng.normal(0, 0.3, (55, 3)), rng.normal(0, 1, 3)
    published = plain_smplx(model_arrays(SMPLX, 20), betas, pose, transl)
    to_ours = Z_UP_TO_SMPL.T
    posed = Template(arrays)(
        torch.tensor(pose @ to_ours.T, dtype=torch.float32)[None],
        torch.tensor(transl @ to_ours.T, dtype=torch.float32)[None],
        torch.tensor(betas[10:], dtype=torch.float32)[None],
        shape=torch.tensor(betas[:10], dtype=torch.float32),
    )
    np.testing.assert_allclose(posed.vertices[0].numpy(), published @ to_ours.T, atol=2e-5)


def test_wide_files_keep_300_shapes_and_100_expressions(tmp_path: Path) -> None:
    arrays = read_body_model(write_smplx(tmp_path, columns=400, name="SMPLX_FEMALE.npz"))
    assert (len(arrays.shape_names), len(arrays.expression_names)) == (300, 100)
    assert arrays.template_id == "smplx_female"
    np.testing.assert_allclose(
        arrays.expression_dirs[0] @ Z_UP_TO_SMPL.T, model_arrays(SMPLX, 400)["shapedirs"][:, :, 300], atol=1e-6
    )
    assert len(arrays.uv) == 11313


def test_pickles_of_smpl_open(tmp_path: Path) -> None:
    smpl = read_body_model(write_pickle(tmp_path, SMPL, 10, "basicModel_f_lbs_10_207_0_v1.0.0.pkl"))
    assert (smpl.template_id, len(smpl.vertices), smpl.joint_names[-1]) == ("smpl_female", 6890, "right_hand")
    assert not smpl.expression_names
    assert smpl.pose_dirs is not None
    assert smpl.pose_dirs.shape == (207, 6890, 3)


def test_it_is_kept_and_opened_again(
    smplx: tuple[Path, TemplateArrays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    install(smplx[1])
    assert installed_arrays("smplx_neutral").digest == smplx[1].digest


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"v_template": np.zeros((5023, 3))}, r"5023 vertices \(that is FLAME\)"),
        ({"v_template": np.zeros((12, 3))}, "found 12 vertices; expected 10475"),
        ({"weights": np.zeros((10475, 24))}, r"weights of .* does not fit SMPLX \(found \[10475, 24\]"),
        ({"shapedirs": np.full((10475, 3, 10), np.nan)}, "values that are not finite"),
        ({"f": np.full((20908, 3), 10475)}, "points outside v_template"),
        ({"kintree_table": np.zeros((2, 55), np.int64)}, "other joints than SMPLX"),
    ],
)
def test_wrong_files_are_named_in_one_sentence(tmp_path: Path, change: dict, sentence: str) -> None:
    with pytest.raises(BadTemplate, match=sentence) as caught:
        read_body_model(write_smplx(tmp_path, columns=20, **change))
    assert "SMPLX_NEUTRAL.npz" in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "SMPLX_NEUTRAL.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(BadTemplate, match="damaged"):
        read_body_model(tmp_path / "SMPLX_NEUTRAL.npz")
    with pytest.raises(BadTemplate, match="cannot be read"):
        read_body_model(tmp_path / "nothing.npz")
    with pytest.raises(BadTemplate, match="unknown gender"):
        read_body_model(write_smplx(tmp_path, columns=20), gender="other")
