"""A whole person rendered small: views, splits, feet on the floor, masks that fit, folds that follow the pose alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon.synthesise import outfit
from blender_addon.synthesise.anatomy import head_frame
from blender_addon.synthesise.capture import synthesise_capture
from blender_addon.synthesise.motion_body import axis_angle, everyday, everyday_poses, on_floor
from blender_addon.synthesise.settings import KNOWN, CaptureSettings
from blender_addon.synthesise.surface import refined
from blender_addon.synthesise.wrinkles import Landmarks, drives, shirt_folds, trouser_folds
from shared import template
from shared.errors import BadConfig
from tests.blender_addon.synthesise.test_capture import read_pixels

TINY = replace(
    KNOWN["demo_body"], frames=3, cameras=3, views_per_frame=3, held_out_cameras=1, test_every=3, size_px=128, samples=2
)
BODY = template.load_template()


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("body") / "tiny"
    settings = replace(TINY, strands=300)
    assert synthesise_capture(settings, BODY, folder, lambda done, total, message: True).finished
    return folder


def test_splits_keep_cameras_and_frames_back(capture: Path) -> None:
    about = json.loads((capture / "capture.json").read_text())
    assert (about["kind"], about["template"]["view"], len(about["joint_names"])) == ("body", "body", 55)
    split = {(image["frame"], image["camera"]): image["split"] for image in about["images"]}
    assert split[0, 0] == split[1, 2] == "train"
    assert split[0, 1] == split[1, 1] == "val", "the camera in the middle is kept back"
    assert {split[2, camera] for camera in range(3)} == {"test"}


def test_projected_skin_lies_on_the_masks(capture: Path) -> None:
    about, parameters = json.loads((capture / "capture.json").read_text()), np.load(capture / "parameters.npz")
    hands_and_head = [BODY.joint(name) for name in ("head", "left_wrist", "right_wrist")]
    shown = np.flatnonzero(BODY.weights[:, hands_and_head].sum(1) > 0.9)
    shown = np.intersect1d(shown, BODY.group_vertices("skin"))
    for image in about["images"]:
        frame, camera = image["frame"], image["camera"]
        vertices, joints = template.rest(BODY, preset="man", expression=parameters["expressions"][frame])
        moved = parameters["rotations"][frame], joints, BODY.parents, parameters["translations"][frame]
        points = template.skin(vertices, BODY.weights, template.joint_transforms(*moved)[0])[shown]
        from_world = np.linalg.inv(parameters["world_from_camera"][camera])
        seen = (points @ from_world[:3, :3].T + from_world[:3, 3]) @ parameters["K"][camera].T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        alpha = read_pixels(capture / image["file"])[..., 3]
        assert (alpha[row, column] > 0.02).mean() > 0.88, "all but a face's outermost pixels, 2 cm each"
        assert 0.02 < alpha.mean() < 0.3


def test_feet_stand_on_the_floor() -> None:
    performance = on_floor(everyday(BODY, 12, 5), BODY, preset="man", shape=np.zeros(0))
    rest, joints = template.rest(BODY, preset="man")
    skin = BODY.group_vertices("skin")
    for rotations, translation in zip(performance.rotations, performance.translations):
        skinning, _ = template.joint_transforms(rotations, joints, BODY.parents, translation)
        assert template.skin(rest[skin], BODY.weights[skin], skinning)[:, 2].min() == pytest.approx(0.012, abs=1e-4)
    assert len(everyday_poses()) >= 40


def test_angles_turn_in_the_order_they_say() -> None:
    turned = template.rotation_matrices(axis_angle(np.radians([90.0, 90.0, 0.0])))
    np.testing.assert_allclose(turned @ [1.0, 0, 0], [0, 1, 0], atol=1e-6)  # about y to -z, then about x to +y
    assert axis_angle(np.zeros(3)).tolist() == [0, 0, 0]


def test_folds_follow_the_pose_and_nothing_else() -> None:
    rest, joints = template.rest(BODY, preset="man")
    at, points = Landmarks.of(BODY, joints), rest[BODY.group_vertices("tights")].astype(np.float64)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    still = np.zeros((55, 3))
    straight = drives(BODY.joint_names, still)
    assert straight == pytest.approx(dict.fromkeys(straight, 0.0), abs=1e-9)
    bent = still.copy()
    bent[BODY.joint("left_elbow"), 2] = -1.8
    drive = drives(BODY.joint_names, bent)
    assert (drive["elbow_left"], drive["elbow_right"]) == (pytest.approx(1.8), 0)
    change = np.linalg.norm(
        shirt_folds(points, normals, at, drive) - shirt_folds(points, normals, at, straight), axis=1
    )
    elbow = np.linalg.norm(points - at.joints["left_elbow"], axis=1)
    assert change[elbow < 0.08].max() > 0.004, "metres of cloth pushed out by a bent elbow"
    assert change[points[:, 0] < 0.2].max() < 1e-4, "and nowhere on the trunk or the other arm"
    np.testing.assert_array_equal(shirt_folds(points, normals, at, drive), shirt_folds(points, normals, at, drive))
    knee = still.copy()
    knee[BODY.joint("right_knee"), 0] = 1.7
    folds = trouser_folds(points, normals, at, drives(BODY.joint_names, knee))
    change = np.linalg.norm(folds - trouser_folds(points, normals, at, straight), axis=1)
    assert change[points[:, 0] < -0.02].max() > 0.004
    assert change[points[:, 0] > 0.05].max() < 1e-6


def test_clothes_are_whole_and_weighted() -> None:
    rest, joints = (part.astype(np.float64) for part in template.rest(BODY, preset="man"))
    scene = bpy.data.scenes.new("clothes")
    worn = outfit.make_outfit(scene.collection, BODY, rest, joints, head_frame(BODY, joints), seed=1)
    assert [garment.mesh.object.name.split(".")[0] for garment in worn.garments] == ["shirt", "trousers", "shoes"]
    for garment in worn.garments:
        np.testing.assert_allclose(garment.weights.sum(1), 1, atol=1e-5)
        assert np.isfinite(garment.rest).all()
    shirt, trousers, shoes = (garment.rest for garment in worn.garments)
    assert shirt[:, 2].min() < trousers[:, 2].max() - 0.03, "the shirt hangs over the trousers"
    assert trousers[:, 2].min() < shoes[:, 2].max() - 0.01
    bpy.data.scenes.remove(scene)


def test_refining_keeps_the_surface() -> None:
    points = np.array([[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [3, 0.5, 0]])
    polygons, values = refined([(0, 1, 2, 3), (1, 4, 2)], points, 2)
    assert len(polygons) == 4 * (4 + 3)
    area = 0.0
    for polygon in polygons:
        x, y = values[list(polygon), :2].T
        area += 0.5 * float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    assert area == pytest.approx(2.5)
    edges = {tuple(sorted(pair)) for p in polygons for pair in zip(p, p[1:] + p[:1])}
    assert len(values) - len(edges) + len(polygons) == 1, "one piece without holes (Euler)"


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadConfig, match="not for the view"):
        CaptureSettings(view="body")
    with pytest.raises(BadConfig, match="view is unknown"):
        CaptureSettings(view="legs")
    with pytest.raises(BadConfig, match="held_out_cameras"):
        CaptureSettings(held_out_cameras=8)
    assert KNOWN["demo_body"].cameras_held_out() == (2, 7)
