"""Camera files of MMLPHuman's viewer: there and back, turned upright, and refused where broken."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shared.camera_files import path_json, read_path
from shared.errors import BadCapture
from shared.motions import WORLD_FROM_UP
from shared.template import rotation_matrices
from shared.types import Camera


def some_camera() -> Camera:
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrices((0.3, -1.1, 0.4))
    pose[:3, 3] = (0.5, -2.5, 1.2)
    return Camera(640, 480, np.array([[700.0, 0, 320], [0, 700, 240], [0, 0, 1]]), pose)


def camera_as_json(camera: Camera) -> str:
    return path_json([camera], [0], 25.0)


def camera_from_json(text: str, name: str, up: str = "z") -> Camera:
    (camera,) = read_path(text.encode(), name, up).cameras
    return camera


def test_a_camera_goes_there_and_back() -> None:
    camera = some_camera()
    text = camera_as_json(camera)
    assert json.loads(text).keys() == {"w2c", "K", "fovx", "height", "width"}
    again = camera_from_json(text, "a.json")
    np.testing.assert_allclose(again.world_from_camera, camera.world_from_camera, atol=1e-9)
    np.testing.assert_allclose(again.K, camera.K, atol=1e-9)
    assert (again.width_px, again.height_px) == (640, 480)


def test_k_counts_and_fovx_stands_in_for_it() -> None:
    values = json.loads(camera_as_json(some_camera()))
    off_centre = [710.0, 0, 300, 0, 720, 250, 0, 0, 1]
    found = camera_from_json(json.dumps(values | {"K": off_centre}), "a.json")
    assert found.K.reshape(-1).tolist() == off_centre
    del values["K"]
    np.testing.assert_allclose(camera_from_json(json.dumps(values), "a.json").K, some_camera().K, atol=1e-9)


@pytest.mark.parametrize("up", sorted(WORLD_FROM_UP))
def test_other_worlds_are_turned_upright(up: str) -> None:
    camera = some_camera()
    found = camera_from_json(camera_as_json(camera), "a.json", up)
    turn = WORLD_FROM_UP[up]
    np.testing.assert_allclose(found.world_from_camera[:3, :3], turn @ camera.world_from_camera[:3, :3], atol=1e-9)
    np.testing.assert_allclose(found.world_from_camera[:3, 3], turn @ camera.world_from_camera[:3, 3], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"w2c": [1.0] * 16}, "not rigid"),
        ({"w2c": [1.0] * 5}, "reshape"),
        ({"w2c": None}, "w2c|reshape"),
        ({"K": None, "fovx": 190}, "190"),
        ({"width": "wide"}, "wide"),
        ({"K": None, "fovx": float("nan")}, "nan"),
    ],
)
def test_broken_files_are_one_sentence(change: dict[str, object], expected: str) -> None:
    values = json.loads(camera_as_json(some_camera())) | change
    values = {key: value for key, value in values.items() if key != "K" or value is not None}
    with pytest.raises(BadCapture, match=expected):
        camera_from_json(json.dumps(values), "a.json")
    with pytest.raises(BadCapture, match="no camera path"):
        camera_from_json("[[[", "a.json")
