"""A template.ply of the dressed person: read, weighted, found beside a recording, and what Gaussians sit on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from avatars.captures.opening import open_capture
from avatars.mlp_body.initial import new_points
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.mlp_body.skeleton import Canonical, DrivingPose
from avatars.skinning.clothed import read_clothed_template
from avatars.skinning.transfer import vertex_normals
from avatars.templates.big_pose import big_pose, surface_triangles
from avatars.templates.opening import embedded_template, reference_of
from shared.errors import BadTemplate
from tests.body_set_files import write_avatarrex

ARRAYS = embedded_template("body")
TO_SMPL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def write_template(path: Path, *, out_m: float = 0.02, scale: float = 1.0) -> np.ndarray:
    """The man's tights pushed outwards, in SMPL-X's axes; returns their rows in the template."""
    canonical = big_pose(ARRAYS, preset="man")
    quads = ARRAYS.faces["tights"].astype(np.int64)
    rows = np.unique(quads)
    triangles = np.searchsorted(rows, np.concatenate((quads[:, :3], quads[:, [0, 2, 3]])))
    vertices = canonical.vertices[rows].astype(np.float64)
    vertices = vertices + out_m * vertex_normals(vertices, triangles)
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.Trimesh(scale * vertices @ TO_SMPL.T, triangles, process=False).export(path)
    return rows


def test_it_gets_the_weights_of_the_skin_beneath(tmp_path: Path) -> None:
    rows = write_template(tmp_path / "template.ply")
    canonical = big_pose(ARRAYS, preset="man")
    skin = surface_triangles(ARRAYS, ("skin",))
    worn = read_clothed_template(tmp_path / "template.ply", canonical.vertices, skin, ARRAYS.weights)
    assert len(worn.vertices) == len(rows)
    assert worn.copied > 0.8
    assert np.abs(worn.weights - ARRAYS.weights[rows]).sum(1).mean() < 0.15, "the tights' own weights are about these"
    assert np.linalg.norm(worn.vertices - canonical.vertices[rows], axis=1).max() < 0.03, "axes are turned once"


def test_gaussians_sit_on_it(tmp_path: Path) -> None:
    write_template(tmp_path / "template.ply", out_m=0.03)
    canonical = Canonical.of(reference_of("effigy_human", preset="man", view="body"))
    driving = DrivingPose.of(ARRAYS, hands=False, face=False)
    config = MlpBodyConfig(gaussians=3000, controls=200, anchors=40)
    bare = new_points(canonical, driving, config, 0)
    worn = new_points(canonical, driving, config, 0, tmp_path / "template.ply")
    assert len(worn.xyz) == len(bare.xyz) == 3000
    np.testing.assert_allclose(worn.weights.sum(1), 1, atol=1e-4)
    thigh = ARRAYS.joint("left_knee")
    wide = worn.xyz[worn.weights[:, thigh] > 0.9][:, 1].max() - bare.xyz[bare.weights[:, thigh] > 0.9][:, 1].max()
    assert 0.01 < float(wide) < 0.05, "three centimetres off the calf"


def test_it_is_found_beside_a_recording(tmp_path: Path) -> None:
    truth = write_avatarrex(tmp_path / "set", frames=2, cameras=2)
    assert open_capture(truth.folder).clothed_template is None
    write_template(truth.folder / "gaussian" / "template.ply")
    capture = open_capture(truth.folder)
    assert capture.clothed_template == truth.folder / "gaussian" / "template.ply"
    assert any("Clothed template" in note for note in capture.notes)
    assert json.loads((truth.folder / "effigy.json").read_text())["preset"] == "man"


def test_other_units_and_other_files_are_refused(tmp_path: Path) -> None:
    canonical = big_pose(ARRAYS, preset="man")
    body = canonical.vertices, surface_triangles(ARRAYS, ("skin",)), ARRAYS.weights
    write_template(tmp_path / "millimetres.ply", scale=1000.0)
    with pytest.raises(BadTemplate, match="not in the body's canonical pose"):
        read_clothed_template(tmp_path / "millimetres.ply", *body)
    (tmp_path / "text.ply").write_text("no mesh at all")
    with pytest.raises(BadTemplate, match=r"text\.ply"):
        read_clothed_template(tmp_path / "text.ply", *body)
