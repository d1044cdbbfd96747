"""Cameras around the avatar: everything stays in view, and paths come back from files as they went in."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from blender_addon.services import camera_paths, camera_read, pose_read, rig_build, rig_info
from shared import camera_files, errors, motions, template, types

from . import people


@pytest.fixture
def bust(addon):
    return rig_build.add_avatar(addon.context, people.detail(people.bust()))


def camera_at(bpy, frame: int) -> types.Camera:
    scene = bpy.context.scene
    scene.frame_set(frame)
    evaluated = scene.camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return camera_read.read_camera(evaluated, camera_read.read_size(scene))


def pixels(camera: types.Camera, points: np.ndarray) -> np.ndarray:
    """[N, 2] in 0..1 of the picture; all points are before the camera."""
    inside = points @ camera.camera_from_world()[:3, :3].T + camera.camera_from_world()[:3, 3]
    assert inside[:, 2].min() > 0
    seen = inside @ camera.K.T
    return seen[:, :2] / seen[:, 2:] / (camera.width_px, camera.height_px)


def test_fitting_fills_the_picture_and_keeps_the_direction(addon, bust) -> None:
    scene = addon.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 640, 360
    bust.location, bust.rotation_euler.z = (2, 1, 0.5), 0.7
    sizes = {}
    for part in ("WHOLE", "UPPER", "HEAD"):
        addon.ops.effigy.fit_camera(part=part)
        seen = pixels(camera_at(addon, 1), camera_paths.avatar_points(addon.context, bust, part))
        assert seen.min() >= -1e-3
        assert seen.max() <= 1 + 1e-3
        sizes[part] = np.ptp(seen, axis=0)
        assert sizes[part].max() > 0.85
    looks = camera_at(addon, 1).world_from_camera[:3, 2]
    facing = template.rotation_matrices([0, 0, 0.7]) @ (0, -1, 0)
    assert looks @ facing == pytest.approx(-1, abs=1e-4), "a new camera looks into the face"
    scene.camera.rotation_euler = (1.2, 0, 2.0)
    addon.ops.effigy.fit_camera(part="HEAD")
    assert scene.camera.rotation_euler.z == pytest.approx(2.0, abs=1e-5)


def test_an_orbit_goes_round_and_repeats_without_a_seam(addon, bust) -> None:
    scene = addon.context.scene
    scene.frame_start, scene.frame_end = 1, 40
    scene.render.resolution_x = scene.render.resolution_y = 200
    bust.location = (1, -2, 0.3)
    addon.ops.effigy.add_camera_path(kind="ORBIT", part="HEAD")
    points = camera_paths.avatar_points(addon.context, bust, "HEAD")
    middle = (points.min(0) + points.max(0)) / 2
    places = []
    for frame in range(1, 42):
        camera = camera_at(addon, frame)
        seen = pixels(camera, points)
        assert seen.min() >= -1e-3
        assert seen.max() <= 1 + 1e-3
        places.append(camera.world_from_camera[:3, 3])
    offsets = np.array(places) - middle
    radii = np.linalg.norm(offsets[:, :2], axis=1)
    assert np.ptp(radii) / radii.mean() < 0.01
    angles = np.unwrap(np.arctan2(offsets[:, 1], offsets[:, 0]))
    np.testing.assert_allclose(np.abs(np.diff(angles)), 2 * math.pi / 40, rtol=0.05)
    np.testing.assert_allclose(places[40], places[0], atol=1e-3)
    np.testing.assert_allclose(offsets[0] / radii[0], (0, -1, 0), atol=2e-2)


def test_a_turntable_turns_the_avatar_and_leaves_its_own_keys(addon, bust) -> None:
    scene = addon.context.scene
    scene.frame_start, scene.frame_end = 1, 20
    bust.rotation_euler.z = 0.3
    bust.keyframe_insert("rotation_euler", frame=1)
    addon.ops.effigy.add_camera_path(kind="TURNTABLE", part="HEAD", turns=2.0)
    still = [camera_at(addon, frame).world_from_camera for frame in (1, 9)]
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)
    yaws = []
    for frame in (1, 6, 11, 21):
        scene.frame_set(frame)
        turn = pose_read.read_avatars(addon.context.evaluated_depsgraph_get())[0].world_from_avatar[:3, :3]
        yaws.append(math.atan2(turn[1, 0], turn[0, 0]))
    assert yaws[0] == pytest.approx(0.3, abs=1e-4)
    assert abs(abs(yaws[1] - yaws[0]) - math.pi) < 1e-3
    assert yaws[2] == pytest.approx(yaws[0], abs=1e-3)
    assert yaws[3] == pytest.approx(yaws[0], abs=1e-3)


def test_a_path_comes_back_from_its_file(addon, bust, tmp_path) -> None:
    scene = addon.context.scene
    scene.frame_start, scene.frame_end = 3, 12
    scene.render.resolution_x, scene.render.resolution_y = 320, 240
    addon.ops.effigy.add_camera_path(kind="ORBIT", part="HEAD")
    scene.camera.data.shift_x, scene.camera.data.shift_y = 0.1, -0.05
    wanted = {frame: camera_at(addon, frame) for frame in range(3, 13)}
    path = tmp_path / "path.json"
    addon.ops.effigy.export_cameras(filepath=str(path))
    written = json.loads(path.read_text())
    assert [entry["frame"] for entry in written["frames"]] == list(range(3, 13))
    assert set(written["frames"][0]) == {"frame", "w2c", "K", "fovx", "height", "width"}
    scene.render.resolution_x, scene.render.resolution_y = 100, 100
    addon.ops.effigy.import_cameras(filepath=str(path), start=3)
    for frame, camera in wanted.items():
        back = camera_at(addon, frame)
        np.testing.assert_allclose(back.world_from_camera, camera.world_from_camera, atol=1e-5)
        np.testing.assert_allclose(back.K, camera.K, atol=1e-3)
        assert (back.width_px, back.height_px) == (320, 240)
    # One frame is the viewer's own form, with its world-to-camera matrix.
    addon.ops.effigy.export_cameras(filepath=str(tmp_path / "one"), whole_range=False)
    one = json.loads((tmp_path / "one.json").read_text())
    assert set(one) == {"w2c", "K", "fovx", "height", "width"}
    scene.frame_set(12)
    np.testing.assert_allclose(np.array(one["w2c"]).reshape(4, 4), wanted[12].camera_from_world(), atol=1e-5)
    addon.ops.effigy.import_cameras(filepath=str(tmp_path / "one.json"), start=1)
    np.testing.assert_allclose(camera_at(addon, 1).world_from_camera, wanted[12].world_from_camera, atol=1e-5)


def test_other_viewers_paths_are_read() -> None:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = template.rotation_matrices([0.2, 0.3, -0.4]), (1, 2, 3)
    nerfstudio = {
        "camera_type": "perspective",
        "render_height": 200,
        "render_width": 300,
        "fps": 24,
        "camera_path": [{"camera_to_world": matrix.reshape(-1).tolist(), "fov": 50.0, "aspect": 1.5}] * 3,
    }
    path = camera_files.read_path(json.dumps(nerfstudio).encode(), "p.json")
    assert path.fps == 24
    assert len(path.cameras) == 3
    camera = path.cameras[0]
    np.testing.assert_allclose(camera.world_from_camera[:3, 3], (1, 2, 3))
    np.testing.assert_allclose(camera.world_from_camera[:3, 2], -matrix[:3, 2], atol=1e-12)
    assert camera.K[1, 1] == pytest.approx(100 / math.tan(math.radians(25)))
    splatting = [
        {
            "id": 0,
            "position": [1, 2, 3],
            "rotation": matrix[:3, :3].tolist(),
            "fx": 90.0,
            "fy": 91.0,
            "width": 30,
            "height": 20,
        }
    ]
    camera = camera_files.read_path(json.dumps(splatting).encode(), "cameras.json", "y").cameras[0]
    np.testing.assert_allclose(camera.world_from_camera[:3, 3], motions.WORLD_FROM_UP["y"] @ (1, 2, 3))
    viewer = {"w2c": np.linalg.inv(matrix).reshape(-1).tolist(), "fovx": 40.0, "height": 100, "width": 100}
    camera = camera_files.read_path(json.dumps(viewer).encode(), "v.json").cameras[0]
    np.testing.assert_allclose(camera.world_from_camera, matrix, atol=1e-9)
    assert camera.K[0, 0] == pytest.approx(50 / math.tan(math.radians(20)))


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"frames": []}',
        b'{"camera_path": []}',
        b'{"w2c": [1, 2], "width": 3, "height": 3, "fovx": 40}',
        b'{"w2c": [2,0,0,0, 0,2,0,0, 0,0,2,0, 0,0,0,1], "width": 3, "height": 3, "fovx": 40}',
        b'{"w2c": [1,0,0,0, 0,1,0,0, 0,0,-1,0, 0,0,0,1], "width": 3, "height": 3, "fovx": 40}',
        b'{"w2c": [1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1], "width": 3, "height": 3, "fovx": 0}',
        b'{"w2c": [1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1], "width": -3, "height": 3, "fovx": 40}',
        b"[3]",
    ],
)
def test_bad_files_are_told_in_one_sentence(content: bytes) -> None:
    with pytest.raises(errors.BadCapture, match=r"p\.json holds no camera path"):
        camera_files.read_path(content, "p.json")


def test_what_cannot_be_written_is_said(addon, bust, tmp_path) -> None:
    with pytest.raises(RuntimeError, match="no camera"):
        addon.ops.effigy.export_cameras(filepath=str(tmp_path / "a.json"))
    addon.ops.effigy.fit_camera()
    addon.context.scene.camera.data.type = "ORTHO"
    with pytest.raises(RuntimeError, match="orthographic"):
        addon.ops.effigy.export_cameras(filepath=str(tmp_path / "a.json"))
    with pytest.raises(RuntimeError, match="no such camera path"):
        addon.ops.effigy.import_cameras(filepath=str(tmp_path / "none.json"))
    assert list(tmp_path.iterdir()) == []
    assert rig_info.avatar_of(addon.context.object) == bust
