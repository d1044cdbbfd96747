"""The written FLAME files themselves: true shapes and encoding, and a head that could be one."""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np
import pytest

from tests.flame_files import FlameFiles, flame_arrays, write_flame_files
from tests.flame_head import LIP_RING_LOWER, LIP_RING_UPPER


@pytest.fixture(scope="module", params=["flame_2020", "flame_2023"])
def files(request: pytest.FixtureRequest) -> FlameFiles:
    return request.getfixturevalue(request.param)


def test_shapes_are_flames(files: FlameFiles) -> None:
    arrays = flame_arrays(files.version)
    assert {name: array.shape for name, array in arrays.items()} == {
        "v_template": (5023, 3),
        "f": (9976, 3),
        "shapedirs": (5023, 3, 400),
        "posedirs": (5023, 3, 36),
        "J_regressor": (5, 5023),
        "weights": (5023, 5),
        "kintree_table": (2, 5),
        "J": (5, 3),
    }
    np.testing.assert_allclose(arrays["weights"].sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(arrays["J_regressor"].sum(1), 1, atol=1e-9)
    with np.load(files.uv) as uv:
        assert uv["vt"].shape == (5118, 2)
        corners = uv["vt"][uv["ft"]]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert len(corners) == 9976
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).min() > 0, "no UV face is mirrored"
    assert corners[..., 1].max() < 0.95, "the strip above is the teeth's"


def test_the_pickle_is_python_twos(files: FlameFiles) -> None:
    names = {arg for op, arg, _ in pickletools.genops(files.model.read_bytes()) if op.name == "GLOBAL"}
    assert {"numpy.core.multiarray _reconstruct", "numpy dtype", "scipy.sparse.csc csc_matrix"} <= names
    assert ("chumpy.ch Ch" in names) == (files.version == "2020")


def test_the_head_faces_along_flames_z_with_lips_where_flame_has_them(files: FlameFiles) -> None:
    arrays = flame_arrays(files.version)
    vertices = arrays["v_template"]
    upper, lower = vertices[list(LIP_RING_UPPER)], vertices[list(LIP_RING_LOWER)]
    assert (np.diff(upper[:, 0]) < 0).all()
    assert (np.diff(lower[:, 0]) < 0).all(), "both rings run from the left (+x) to the right"
    assert ((upper - lower)[:, 1] > 0.004).all(), "the upper lip is above the lower"
    assert (upper[:, 2] > np.quantile(vertices[:, 2], 0.8)).all(), "in front"
    assert (arrays["weights"][list(LIP_RING_LOWER)][2:-2, 2] > arrays["weights"][list(LIP_RING_UPPER)][2:-2, 2]).all()
    eyes = arrays["J"][3:]
    assert eyes[0, 0] > 0.02
    assert eyes[1, 0] < -0.02
    faces = arrays["f"]
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = corners.mean(1) - vertices.mean(0)
    assert (np.einsum("fc,fc->f", normals, away) > 0)[arrays["weights"][faces[:, 0], 1] > 0.99].mean() > 0.8


def test_writing_again_gives_the_same_bytes(files: FlameFiles, tmp_path: Path) -> None:
    again = write_flame_files(tmp_path, version=files.version)
    assert again.model.read_bytes() == files.model.read_bytes()
    assert again.mesh.read_bytes() == files.mesh.read_bytes()
