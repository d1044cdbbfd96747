"""The EFFIGY engine with a real backend in a process of its own: passes, background, blur, border, stereo, failures."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from blender_addon.logic import passes
from blender_addon.services import animation, pose_write
from blender_addon.services.rig_info import avatar_of

from . import shots


def head_of(bpy_module):
    return next(avatar_of(o) for o in bpy_module.context.scene.objects if avatar_of(o) is not None)


def test_all_passes_reach_the_file(scene_with_avatar, tmp_path) -> None:
    layer = scene_with_avatar.context.view_layer
    scene_with_avatar.context.scene.render.film_transparent = True
    layer.use_pass_z = layer.effigy.use_pass_mask = True
    layer.use_pass_normal = layer.effigy.use_pass_albedo = layer.effigy.use_pass_id = True
    picture = shots.render_exr(tmp_path / "p.exr")
    combined, depth, mask = picture["Combined"], picture["Depth"][..., 0], picture["Mask"][..., 0]
    assert combined.shape == (shots.SIZE, shots.SIZE, 4)
    alpha = combined[..., 3]
    centre, corner = (shots.SIZE // 2,) * 2, (1, 1)
    assert alpha[centre] > 0.9
    assert alpha[corner] == 0
    np.testing.assert_allclose(mask, alpha, atol=2e-3)
    assert 0.5 < depth[centre] < 1.5, "metres from the camera to the face"
    assert depth[corner] == pytest.approx(passes.FAR_AWAY_M)
    covered = combined[alpha > 0.9][:, :3] / alpha[alpha > 0.9][:, None]
    assert 0.02 < covered.mean() < 0.9, "linear colours of a head"
    normal, owner = picture["Normal"], picture["Avatar ID"][..., 0]
    np.testing.assert_allclose(np.linalg.norm(normal[alpha > 0.9], axis=-1), 1, atol=1e-2)
    assert normal[centre][1] < -0.3, "the face looks along -y, towards the camera"
    assert set(np.unique(owner)) == {0, 1}
    assert picture["Albedo"].shape[-1] == 3
    # shoulders are below the head: row 0 is the top
    assert alpha[-4].mean() > alpha[3].mean()


def test_the_background_is_the_worlds_unless_film_is_transparent(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    animation.world_from_hdri(scene, animation.studio_light_files()["city"], camera_colour=(0.25, 0.5, 0.75))
    scene.render.film_transparent = False
    opaque = shots.render_exr(tmp_path / "o.exr")["Combined"]
    np.testing.assert_allclose(opaque[..., 3], 1)
    np.testing.assert_allclose(opaque[1, 1, :3], (0.25, 0.5, 0.75), atol=1e-6)
    scene.render.film_transparent = True
    clear = shots.render_exr(tmp_path / "t.exr")["Combined"]
    expected = clear[..., :3] + (1 - clear[..., 3:]) * np.float32([0.25, 0.5, 0.75])
    np.testing.assert_allclose(opaque[..., :3], expected, atol=2e-3)


def test_world_light_changes_the_face_and_captured_light_does_not(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    captured = shots.render_exr(tmp_path / "c.exr")["Combined"]
    mapping = animation.world_from_hdri(scene, animation.studio_light_files()["sunset"])
    lit = [shots.render_exr(tmp_path / "0.exr")["Combined"]]
    mapping.inputs["Rotation"].default_value[2] = np.pi
    lit.append(shots.render_exr(tmp_path / "1.exr")["Combined"])
    assert np.abs(lit[0] - captured).max() > 0.02
    assert np.abs(lit[0] - lit[1]).max() > 0.02, "the light turned"
    scene.effigy.light = "CAPTURED"
    np.testing.assert_array_equal(shots.render_exr(tmp_path / "2.exr")["Combined"], captured)


def test_a_border_is_cut_from_the_whole_picture(scene_with_avatar, tmp_path) -> None:
    render = scene_with_avatar.context.scene.render
    whole = shots.render_exr(tmp_path / "w.exr")["Combined"]
    render.use_border, render.use_crop_to_border = True, True
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.25, 0.75, 0.5, 0.875
    part = shots.render_exr(tmp_path / "b.exr")["Combined"]
    assert part.shape == (24, 32, 4)
    np.testing.assert_allclose(part, whole[8:32, 16:48], atol=2e-2)


def test_motion_blur_is_the_mean_of_sub_frames(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    avatar = head_of(scene_with_avatar)
    for frame, x in ((1, -0.1), (3, 0.1)):
        avatar.location.x = x
        avatar.keyframe_insert("location", index=0, frame=frame)
    for layer in avatar.animation_data.action.fcurves if hasattr(avatar.animation_data.action, "fcurves") else ():
        for key in layer.keyframe_points:
            key.interpolation = "LINEAR"
    scene.render.use_motion_blur, scene.effigy.motion_blur_samples = True, 2
    scene.render.motion_blur_shutter, scene.render.motion_blur_position = 1.0, "CENTER"
    blurred = shots.render_exr(tmp_path / "m.exr")["Combined"]
    assert scene.frame_current_final == 2, "the frame is put back"
    scene.render.use_motion_blur = False
    sharp = []
    for frame, part in ((1, 0.75), (2, 0.25)):
        scene.frame_set(frame, subframe=part)
        sharp.append(shots.render_exr(tmp_path / f"s{frame}.exr")["Combined"])
    assert np.abs(sharp[0] - sharp[1]).max() > 0.2
    np.testing.assert_allclose(blurred, (sharp[0] + sharp[1]) / 2, atol=1e-2)


def test_stereo_eyes_see_the_avatar_from_two_places(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.use_multiview = True
    scene.render.image_settings.views_format = "INDIVIDUAL"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "eye.png")
    scene.render.film_transparent = True
    scene_with_avatar.ops.render.render(write_still=True)
    pictures = [read_png(tmp_path / f"eye{suffix}.png") for suffix in ("_L", "_R")]
    columns = [np.average(np.arange(shots.SIZE), weights=picture[..., 3].sum(0)) for picture in pictures]
    assert columns[0] > columns[1] + 0.2, "the left eye sees it further right"


def test_view_layers_render_what_they_show(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    empty = scene.view_layers.new("Empty")
    for collection in empty.layer_collection.children:
        collection.exclude = True
    inside = scene_with_avatar.data.collections.new("People")
    scene.collection.children.link(inside)
    for item in list(scene.collection.objects):
        if avatar_of(item) is not None:
            scene.collection.objects.unlink(item)
            inside.objects.link(item)
    empty.layer_collection.children["People"].exclude = True
    picture = shots.render_exr(tmp_path / "l.exr")
    assert picture["Combined"][..., 3].max() > 0.9
    assert not picture["Empty.Combined"].any()


def test_another_version_of_an_avatar_is_refused_until_it_is_relinked(scene_with_avatar) -> None:
    avatar = head_of(scene_with_avatar)
    avatar.data.effigy.digest = "0" * 64
    avatar.data.update_tag()
    with pytest.raises(RuntimeError, match="tiny"):
        scene_with_avatar.ops.render.render()
    scene_with_avatar.context.view_layer.objects.active = avatar
    scene_with_avatar.ops.effigy.relink()
    scene_with_avatar.ops.render.render()


def test_passes_reach_the_compositor(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene_with_avatar.context.view_layer.effigy.use_pass_mask = True
    if hasattr(scene, "compositing_node_group"):  # from Blender 5
        tree = bpy.data.node_groups.new("Comp", "CompositorNodeTree")
        scene.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    layers = tree.nodes.new("CompositorNodeRLayers")
    tree.links.new(layers.outputs["Mask"], output.inputs[0])
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "mask.png")
    scene_with_avatar.ops.render.render(write_still=True)
    picture = read_png(tmp_path / "mask.png")
    assert picture[shots.SIZE // 2, shots.SIZE // 2, 0] > 0.9
    assert picture[1, 1, 0] < 0.01, "black, but for dither"


def test_poses_change_the_picture(scene_with_avatar, tmp_path) -> None:
    scene_with_avatar.context.scene.render.film_transparent = True
    avatar = head_of(scene_with_avatar)
    still = shots.render_exr(tmp_path / "a.exr")["Combined"]
    again = shots.render_exr(tmp_path / "b.exr")["Combined"]
    np.testing.assert_array_equal(still, again)
    pose_write.set_expressions(avatar, {"jawOpen": 1.0})
    assert np.abs(shots.render_exr(tmp_path / "c.exr")["Combined"] - still).max() > 0.05


def read_png(path) -> np.ndarray:
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return pixels


@pytest.mark.parametrize("position", ["START", "CENTER", "END"])
def test_the_shutter_opens_where_blender_says(scene_with_avatar, tmp_path, position) -> None:
    """The mean place of a blurred avatar is that of the open shutter's middle."""
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    camera = scene.camera
    place = camera.matrix_world.copy()
    camera.animation_data_clear()
    camera.constraints.clear()
    camera.matrix_world = place
    avatar = head_of(scene_with_avatar)
    scene_with_avatar.context.preferences.edit.keyframe_new_interpolation_type = "LINEAR"
    for frame, x in ((0, -0.08), (4, 0.08)):
        avatar.location.x = x
        avatar.keyframe_insert("location", index=0, frame=frame)
    scene.render.use_motion_blur, scene.effigy.motion_blur_samples = True, 4
    scene.render.motion_blur_shutter, scene.render.motion_blur_position = 1.0, position

    def column() -> float:
        alpha = shots.render_exr(tmp_path / "s.exr")["Combined"][: shots.SIZE // 2, :, 3]
        return float(np.average(np.arange(shots.SIZE), weights=alpha.sum(0)))

    blurred = column()
    scene.render.use_motion_blur = False
    scene.frame_set(2, subframe=0.0)
    sharp = {}
    for name, whole, part in (("START", 2, 0.5), ("CENTER", 2, 0.0), ("END", 1, 0.5)):
        scene.frame_set(whole, subframe=part)
        sharp[name] = column()
    assert abs(sharp["START"] - sharp["END"]) > 3
    assert blurred == pytest.approx(sharp[position], abs=0.6)


def test_a_border_without_crop_leaves_the_rest_empty(scene_with_avatar, tmp_path) -> None:
    render = scene_with_avatar.context.scene.render
    render.film_transparent = True
    whole = shots.render_exr(tmp_path / "w.exr")["Combined"]
    render.use_border, render.use_crop_to_border = True, False
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.25, 0.75, 0.5, 0.875
    part = shots.render_exr(tmp_path / "b.exr")["Combined"]
    if part.shape == whole.shape:  # files are of the whole size, as Blender's version does it
        np.testing.assert_allclose(part[8:32, 16:48], whole[8:32, 16:48], atol=2e-2)
        outside = part.copy()
        outside[8:32, 16:48] = 0
        assert not outside.any()
    else:
        assert part.shape == (24, 32, 4)
        np.testing.assert_allclose(part, whole[8:32, 16:48], atol=2e-2)


def test_percentage_and_pixel_aspect_show_the_same_view(scene_with_avatar, tmp_path) -> None:
    render = scene_with_avatar.context.scene.render
    render.film_transparent = True
    whole = shots.render_exr(tmp_path / "w.exr")["Combined"][..., 3]
    render.resolution_percentage = 50
    small = shots.render_exr(tmp_path / "s.exr")["Combined"][..., 3]
    assert small.shape == (32, 32)
    # Gaussians are never thinner than a pixel, so outlines of a smaller picture are a little fuller.
    assert ((small > 0.5) == (whole.reshape(32, 2, 32, 2).mean((1, 3)) > 0.5)).mean() > 0.95
    render.resolution_percentage, render.resolution_y, render.pixel_aspect_y = 100, 32, 2.0
    flat = shots.render_exr(tmp_path / "a.exr")["Combined"][..., 3]
    assert flat.shape == (32, 64)
    assert ((flat > 0.5) == (whole.reshape(32, 2, 64).mean(1) > 0.5)).mean() > 0.95


def test_panoramic_cameras_are_one_sentence_and_no_file(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.camera.data.type = "PANO"
    with pytest.raises(RuntimeError, match="perspective and orthographic cameras"):
        shots.render_exr(tmp_path / "p.exr")
    assert not (tmp_path / "p.exr").exists()
