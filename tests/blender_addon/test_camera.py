"""Blender's camera as it is read projects points where Blender itself projects them."""

from __future__ import annotations

import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector

from blender_addon.logic import camera_maths
from blender_addon.services import camera_read
from shared import errors


def make_camera(bpy, **settings):
    lens = bpy.data.cameras.new("C")
    for name, value in settings.items():
        setattr(lens, name, value)
    camera = bpy.data.objects.new("C", lens)
    bpy.context.collection.objects.link(camera)
    camera.matrix_world = Matrix.Translation((0.3, -3, 1)) @ Euler((1.4, 0.1, 0.2)).to_matrix().to_4x4()
    bpy.context.scene.camera = camera
    bpy.context.view_layer.update()
    return camera


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("resolution", [(320, 200), (200, 320)])
@pytest.mark.parametrize("aspect", [(1.0, 1.0), (1.5, 1.0), (1.0, 2.0)])
def test_points_fall_where_blender_projects_them(addon, kind, fit, resolution, aspect) -> None:
    lens = {"sensor_fit": fit, "sensor_width": 30, "sensor_height": 20, "shift_x": 0.12, "shift_y": -0.07}
    camera = make_camera(addon, type=kind, lens=35, ortho_scale=2.5, **lens)
    scene = addon.context.scene
    scene.render.resolution_x, scene.render.resolution_y = resolution
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect
    scene.render.resolution_percentage = 50
    size = camera_read.read_size(scene)
    assert (size.width_px, size.height_px) == (resolution[0] // 2, resolution[1] // 2)
    pinhole = camera_read.read_camera(camera, size)
    assert pinhole.orthographic == (kind == "ORTHO")
    for point in np.random.default_rng(0).uniform(-0.8, 0.8, (20, 3)):
        x, y, z = pinhole.camera_from_world()[:3, :3] @ point + pinhole.camera_from_world()[:3, 3]
        column, row, _ = pinhole.K @ ((x, y, 1) if pinhole.orthographic else (x / z, y / z, 1))
        expected = world_to_camera_view(scene, camera, Vector(point))
        assert z == pytest.approx(expected.z, abs=1e-4)
        assert column == pytest.approx(expected.x * size.width_px, abs=1e-2)
        assert row == pytest.approx((1 - expected.y) * size.height_px, abs=1e-2)


def test_a_border_is_the_same_picture_cut_out(addon) -> None:
    camera = make_camera(addon)
    scene = addon.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 100, 80, 100
    whole = camera_read.read_camera(camera, camera_read.read_size(scene))
    render = scene.render
    render.use_border = True
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.2, 0.7, 0.25, 0.5
    size = camera_read.read_size(scene)
    part = camera_read.read_camera(camera, size)
    assert size.rectangle == (20, 20, 70, 40)
    assert (part.width_px, part.height_px) == (50, 20)
    np.testing.assert_allclose(whole.K[:2, 2] - part.K[:2, 2], (20, 40))
    np.testing.assert_allclose(whole.K[[0, 1], [0, 1]], part.K[[0, 1], [0, 1]])


def test_scale_of_the_camera_object_is_dropped(addon) -> None:
    camera = make_camera(addon)
    size = camera_maths.PictureSize(64, 64)
    plain = camera_read.read_camera(camera, size)
    scaled = camera_read.read_camera(camera, size, world_from_camera=camera.matrix_world @ Matrix.Scale(3, 4))
    np.testing.assert_allclose(plain.world_from_camera, scaled.world_from_camera, atol=1e-6)


def test_borders_are_rounded_as_blender_does() -> None:
    # 0.7 stored as float32 is below 0.7, but its float32 product with 10 is 7
    assert camera_maths.picture_size((10, 10), 100, (1, 1), (0.0, 0.0, float(np.float32(0.7)), 1.0)).border == (
        0,
        0,
        7,
        10,
    )


def test_panoramic_cameras_are_refused(addon) -> None:
    camera = make_camera(addon, type="PANO")
    with pytest.raises(errors.EffigyError, match=r"perspective and orthographic cameras.*panoramic"):
        camera_read.read_camera(camera, camera_maths.PictureSize(8, 8))


def test_no_camera_and_an_empty_region_are_told(addon) -> None:
    with pytest.raises(errors.EffigyError, match="has no camera"):
        camera_read.read_camera(None, camera_maths.PictureSize(8, 8))
    with pytest.raises(errors.EffigyError, match="region is empty"):
        camera_maths.picture_size((10, 10), 100, (1, 1), (0.5, 0.5, 0.5, 0.9))
