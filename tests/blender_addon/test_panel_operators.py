"""What the panels' buttons do, against a real backend: library, checks, exports, light; and pictures in panels."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon.logic import curve_image
from blender_addon.logic.faults import GUARDS
from blender_addon.logic.link import LinkState
from blender_addon.logic.remedies import REMEDIES, remedy_for
from blender_addon.logic.report import report_text
from blender_addon.services import animation, exporting
from blender_addon.services.auto_check import AUTO_CHECK
from blender_addon.services.connection import CONNECTION
from blender_addon.services.pictures import folded, small
from blender_addon.services.preferences import settings
from blender_addon.ui.drops import HANDLERS
from blender_addon.ui.safely import shielded
from shared import desk_messages, messages

from . import shots
from .conftest import ROOT


def ended(job_id: str, timeout_s: float = 200.0) -> messages.JobInfo:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = next(job for job in CONNECTION.ask_and_wait(messages.ListJobs()).jobs if job.job_id == job_id)
        if job.state not in ("queued", "running"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def newest(kind: str) -> messages.JobInfo:
    return ended(next(job for job in CONNECTION.ask_and_wait(messages.ListJobs()).jobs if job.kind == kind).job_id)


def picture(folder: Path) -> np.ndarray:
    """[H, W, 4] linear, of the current frame."""
    return shots.render_exr(folder / "picture.exr")["Combined"]


@pytest.fixture
def connected(addon, backend, monkeypatch):
    """bpy with the address of the running backend."""
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    return addon


def listed(avatar_id: str) -> messages.AvatarSummary | None:
    """The library's row of an avatar; other tests leave avatars of their own."""
    rows = CONNECTION.ask_and_wait(messages.ListAvatars()).avatars
    return next((row for row in rows if row.avatar_id == avatar_id), None)


def test_renaming_trashing_and_bringing_back(connected, backend) -> None:
    ops = connected.ops.effigy
    ops.add_avatar(avatar_id="tiny")
    armature = connected.context.object.data
    try:
        ops.rename_avatar(avatar_id="tiny", name="Größe")
        assert armature.effigy.avatar_name == "Größe"
        row = listed("tiny")
        assert row is not None
        assert row.name == "Größe"
        assert row.digest == armature.effigy.digest
        with pytest.raises(RuntimeError, match="cannot be an avatar's"):
            ops.rename_avatar(avatar_id="tiny", name="a/b")
        assert "cannot be an avatar's" in GUARDS.log.notice.sentence
        ops.trash_avatar(avatar_id="tiny")
        assert listed("tiny") is None
        (thrown,) = CONNECTION.ask_and_wait(desk_messages.ListTrash()).avatars
        ops.restore_avatar(avatar_id=thrown.avatar_id)
    finally:
        ops.rename_avatar(avatar_id="tiny", name="tiny")
    with pytest.raises(RuntimeError, match="in the trash"):
        ops.purge_avatar(avatar_id=thrown.avatar_id)


def test_checking_a_capture(connected, tmp_path) -> None:
    connected.ops.effigy.check_capture(frames=2)
    panels = connected.context.window_manager.effigy_panels
    assert panels.check_of == "demo_head"
    job = ended(panels.check_job)
    assert job.state == "done", job.message
    assert job.findings[0].name == "recognised"
    training = connected.context.scene.effigy.training
    training.source, training.folder = "FOLDER", str(tmp_path / "nothing")
    for start in (connected.ops.effigy.check_capture, connected.ops.effigy.start_training):
        with pytest.raises(RuntimeError, match="capture folder does not exist"):
            start()
    training.folder = ""
    with pytest.raises(RuntimeError, match="No capture was chosen"):
        connected.ops.effigy.check_capture()


def test_a_folder_that_is_picked_is_checked_by_itself(connected, tmp_path) -> None:
    """The newest pick counts; a check of an earlier one is given up."""
    window, training = connected.context.window_manager.effigy_panels, connected.context.scene.effigy.training
    CONNECTION.connect(settings(connected.context.scene))
    try:
        training.source = "FOLDER"
        training.folder = str(ROOT / "avatars/captures/data/demo_head")
        first = _checked(window, training)
        training.folder = str(tmp_path)
        second = _checked(window, training)
        assert ended(first).state in ("cancelled", "done")  # done, where it was quicker than the second pick
        refused = ended(second)
        assert refused.state == "failed"
        assert "no capture in" in refused.message
        assert AUTO_CHECK.tick() is None, "nothing is waited for"
        training.source = "EMBEDDED"
        assert AUTO_CHECK.tick() is None, "what comes with Effigy needs no check"
    finally:
        CONNECTION.disconnect()


def _checked(window, training) -> str:
    """The check that the picked folder gets without any button."""
    until = time.monotonic() + 150
    while window.check_of != training.folder and time.monotonic() < until:
        AUTO_CHECK.tick()
        time.sleep(0.02)
    assert window.check_of == training.folder
    return window.check_job


def test_every_remedy_has_an_operator_behind_it(connected) -> None:
    for piece, remedy in REMEDIES:
        assert remedy_for(f"Oh: {piece} (found x).") == remedy
        family, name = remedy.operator.split(".")
        assert getattr(getattr(connected.ops, family), name).get_rna_type().name
    assert remedy_for("The disk is full") is None


def test_exporting_poses_and_meshes(connected, tmp_path) -> None:
    scene, asked = connected.context.scene, connected.context.scene.effigy_export
    connected.ops.effigy.add_avatar(avatar_id="tiny")
    armature = connected.context.object
    connected.ops.effigy.demo_animation(frames=12)
    scene.frame_start, scene.frame_end = 1, 3
    scene.frame_set(2)
    asked.form, asked.frames, asked.path = "ply", "SCENE", str(tmp_path / "frames")
    rotations, translations, expressions = exporting.read_poses(connected.context, armature, range(1, 13))
    assert (len(rotations), len(translations), len(expressions)) == (12, 12, 12)
    assert np.ptp(rotations, axis=0).max() > 0.02, "it moves"
    assert scene.frame_current == 2
    connected.ops.effigy.export()
    job = newest("export")
    assert job.state == "done", job.message
    assert len(list((tmp_path / "frames").glob("*.ply"))) == 3
    asked.form, asked.frames, asked.path = "spz", "CURRENT", ""
    with pytest.raises(RuntimeError, match="No place to export to"):
        connected.ops.effigy.export()
    connected.ops.effigy.export(filepath=str(tmp_path / "still"))
    assert newest("export").message == f"Written to {tmp_path / 'still.spz'}"
    asked.form = "MESH"
    armature.hide_set(True)
    if not hasattr(bpy.types, "EXPORT_SCENE_OT_gltf"):
        bpy.ops.preferences.addon_enable(module="io_scene_gltf2")
    connected.ops.effigy.export(filepath=str(tmp_path / "mesh"))
    glb = (tmp_path / "mesh.glb").read_bytes()
    assert glb[:4] == b"glTF"
    assert b'"skins"' in glb
    assert b'"targetNames"' in glb, "expressions as morph targets"
    assert b'"animations"' in glb
    assert armature.hide_get(), "visibility is put back"


def test_importing_what_was_exported(connected, tmp_path) -> None:
    asked = connected.context.scene.effigy_export
    connected.ops.effigy.add_avatar(avatar_id="tiny")
    asked.form, asked.path = "avatar", str(tmp_path / "copy.avatar")
    connected.ops.effigy.export()
    assert newest("export").state == "done"
    connected.ops.effigy.import_avatar(filepath=str(tmp_path / "copy.avatar" / "avatar.json"), name="Copy")
    job = newest("import")
    assert (job.state, job.avatar_id) == ("done", "Copy"), job.message
    connected.ops.effigy.trash_avatar(avatar_id="Copy")
    connected.ops.effigy.import_avatar(filepath=str(tmp_path / "model.ply"))
    assert "there is nothing at" in newest("import").message


def test_an_avatar_becomes_an_asset(connected, tmp_path, monkeypatch) -> None:
    info = CONNECTION.ask_and_wait(desk_messages.GetAvatarInfo("tiny"))
    state = LinkState("x", "connected", infos={"tiny": info})
    with pytest.raises(RuntimeError, match="no such avatar"):
        connected.ops.effigy.mark_asset(avatar_id="tiny")
    connected.ops.effigy.add_avatar(avatar_id="tiny")
    armature = connected.context.object
    monkeypatch.setattr(type(CONNECTION), "state", property(lambda self: state))
    library = connected.context.preferences.filepaths.asset_libraries.new(name="Test", directory=str(tmp_path))
    try:
        connected.ops.effigy.mark_asset(avatar_id="tiny", place=library.path)
    finally:
        connected.context.preferences.filepaths.asset_libraries.remove(library)
    (collection,) = (item for item in bpy.data.collections if item.asset_data is not None)
    assert {armature, *armature.children} <= set(collection.objects)
    assert collection.asset_data.license == info.facts["Licence"]
    assert "Effigy" in {tag.name for tag in collection.asset_data.tags}
    assert tuple(collection.preview.image_size) == info.preview.shape[1::-1]
    written = next(tmp_path.glob("effigy *.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(written), assets_only=True) as (stored, wanted):
        wanted.collections = list(stored.collections)
    (loaded,) = wanted.collections
    kinds = sorted({item.type for item in loaded.all_objects})
    assert "ARMATURE" in kinds
    assert "MESH" in kinds


KNOWN_LIGHT = """
import sys
from pathlib import Path
import torch
from avatars.avatar_folder import About, load_avatar, load_preview, save_avatar
from avatars.rgb_head.avatar import RgbHeadAvatar
library = Path(sys.argv[1])
model = load_avatar(library / "tiny.avatar").model
model.captured_irradiance = torch.zeros(9, 3)
model.captured_irradiance[0] = 3.0
save_avatar(library / "lit.avatar", RgbHeadAvatar(model), About("lit"), load_preview(library / "tiny.avatar"))
"""
"""Makes 'lit' of 'tiny': the same head, whose captured light is known, so that brightness means something."""


def test_light_of_their_own_changes_the_avatars_and_nothing_else(connected, backend, tmp_path) -> None:
    made = subprocess.run(
        [backend.python, "-c", KNOWN_LIGHT, str(backend.home / "library")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    shots.set_up(connected, avatar_id="lit")
    scene = connected.context.scene
    scene.render.film_transparent = True
    captured = picture(tmp_path)
    scene.effigy.light = "OWN"
    np.testing.assert_allclose(picture(tmp_path), captured, atol=2e-3)  # no HDRI chosen yet
    image = bpy.data.images.new("left", 64, 32, float_buffer=True)
    pixels = np.zeros((32, 64, 4), np.float32)
    pixels[:, :24], pixels[..., 3] = (2.0, 2.0, 2.0, 1.0), 1.0
    image.pixels.foreach_set(pixels.reshape(-1))
    scene.effigy_relight.image = image
    lit = picture(tmp_path)
    assert np.abs(lit[..., :3] - captured[..., :3]).mean() > 5e-3, "the light changes the picture"
    np.testing.assert_allclose(lit[..., 3], captured[..., 3], atol=2e-3)
    scene.effigy_relight.exposure = -1.0
    darker = picture(tmp_path)
    seen = lit[..., 3] > 0.99
    np.testing.assert_allclose(darker[seen][:, :3], lit[seen][:, :3] / 2, rtol=0.02, atol=2e-3)
    scene.effigy_relight.exposure = 0.0
    scene.effigy_relight.rotation = np.pi
    turned = picture(tmp_path)
    half = captured.shape[1] // 2
    before = lit[:, :half, :3].mean() / lit[:, half:, :3].mean()
    after = turned[:, :half, :3].mean() / turned[:, half:, :3].mean()
    assert (before - 1) * (after - 1) < 0, "the bright side is the other one"
    scene.effigy.light = "CAPTURED"
    np.testing.assert_allclose(picture(tmp_path), captured, atol=2e-3)


def test_presets_light_the_world_or_the_avatars(addon, tmp_path) -> None:
    scene = addon.context.scene
    addon.ops.effigy.studio_light(light="city")
    world = scene.world
    mapping = next(node for node in world.node_tree.nodes if node.type == "MAPPING")
    mapping.inputs["Rotation"].default_value[2] = 1.0
    addon.ops.effigy.studio_light(light="forest")
    assert scene.world == world, "its rotation and strength are kept"
    assert "forest" in next(n for n in world.node_tree.nodes if n.type == "TEX_ENVIRONMENT").image.name
    scene.effigy.light = "OWN"
    addon.ops.effigy.open_hdri(filepath=animation.studio_light_files()["studio"])
    assert "studio" in scene.effigy_relight.image.name
    assert "forest" in next(n for n in world.node_tree.nodes if n.type == "TEX_ENVIRONMENT").image.name
    with pytest.raises(RuntimeError, match="HDRI cannot be read"):
        addon.ops.effigy.open_hdri(filepath=str(tmp_path / "none.exr"))


def test_dropped_files_go_to_operators_that_exist(addon) -> None:
    for name, _, operator, endings in HANDLERS:
        group, _, function = operator.partition(".")
        properties = getattr(getattr(bpy.ops, group), function).get_rna_type().properties
        assert "filepath" in properties, operator
        assert all(ending.startswith(".") for ending in endings.split(";"))
        assert hasattr(bpy.types, f"EFFIGY_FH_{name}")


def test_the_log_and_the_report(connected, backend, monkeypatch) -> None:
    monkeypatch.setenv("EFFIGY_KEY", "")
    connected.ops.effigy.backend_log()
    assert "listening at" in bpy.data.texts["Effigy Backend Log"].as_string()
    GUARDS.log.note("Test", "the key was very-secret here")
    text = report_text({"Blender": "x"}, backend.address, None, GUARDS.log.newest(), ["very-secret"])
    assert "very-secret" not in text
    assert "the key was *** here" in text
    connected.ops.effigy.copy_report()
    written = bpy.data.texts["Effigy Report"].as_string()
    assert bpy.app.version_string in written
    assert backend.address in written
    assert GUARDS.log.notice is not None
    connected.ops.effigy.dismiss()
    assert GUARDS.log.notice is None


def test_an_operator_that_breaks_is_one_line(addon) -> None:
    class EFFIGY_OT_broken(bpy.types.Operator):  # noqa: N801 - Blender's way
        """Breaks"""

        bl_idname, bl_label = "effigy.broken", "Break"

        def execute(self, context) -> set[str]:
            raise KeyError("a bug")

    bpy.utils.register_class(shielded(EFFIGY_OT_broken))
    try:
        with pytest.raises(RuntimeError, match=r"Break failed: 'a bug'. Details: Effigy > Backend > Log") as caught:
            bpy.ops.effigy.broken()
        assert "Traceback" not in str(caught.value)
        assert "KeyError" in GUARDS.log.newest()[-1].detail
    finally:
        bpy.utils.unregister_class(EFFIGY_OT_broken)


def test_curves_are_drawn_where_their_numbers_are() -> None:
    steps = np.arange(0, 100, 10)
    rising = np.stack([np.linspace(20, 30, 10), np.full(10, np.nan)], axis=1).astype(np.float32)
    names = ("psnr_db", "l1")
    picture = curve_image.curve_picture(names, steps, rising)
    assert picture.shape == (192, 256, 4)
    line = (picture[:96] == curve_image.PSNR_COLOUR).all(-1)
    rows = [np.flatnonzero(line[:, x]).mean() for x in (2, 128, 253)]
    assert rows[0] > rows[1] > rows[2], "better is higher"
    assert not (picture[96:] == curve_image.LOSS_COLOUR).all(-1).any(), "nothing was told of it"
    rising[:, 1] = np.geomspace(1, 0.01, 10)
    both = curve_image.curve_picture(names, steps, rising)
    loss = (both[96:] == curve_image.LOSS_COLOUR).all(-1)
    middle = [np.flatnonzero(loss[:, x]).mean() for x in (2, 128, 253)]
    assert abs(middle[1] - (middle[0] + middle[2]) / 2) < 2, "straight on a logarithmic axis"
    assert curve_image.curve_picture((), steps[:1], rising[:1, :0]) is None
    assert curve_image.ranges(names, rising)["psnr_db"] == (20.0, 30.0)


def test_small_icons_keep_the_shape() -> None:
    sheet = np.arange(6, dtype=np.uint8).repeat(10)[None, :, None].repeat(10, 0).repeat(3, 2)
    assert folded(sheet).shape == (20, 30, 3)
    assert folded(sheet)[:, ::10, 0].tolist() == [[0, 1, 2]] * 10 + [[3, 4, 5]] * 10
    assert folded(sheet[:, :20]).shape == (10, 20, 3)
    wide = np.ones((10, 40, 4), np.float32)
    icon = small(wide, 32)
    assert icon[16, :, 3].min() == 1
    assert icon[0, :, 3].max() == 0, "clear above"
    np.testing.assert_array_equal(small(np.ones((8, 8, 4), np.float32), 4), np.ones((4, 4, 4)))
