"""Enabling and disabling leaves nothing behind; panels show what exists."""

from __future__ import annotations

import os
import threading

import bpy
import numpy as np
import pytest

import blender_addon
from blender_addon.engine import EffigyEngine
from blender_addon.logic.link import LinkState
from blender_addon.logic.settings import Settings
from blender_addon.services import animation, backend, rig_build
from blender_addon.services.connection import CONNECTION
from blender_addon.services.preferences import preferences, settings
from blender_addon.ui import classes
from shared import errors, messages

from . import people
from .drawn import draw


def inventory() -> dict[str, object]:
    """Everything an add-on could leave behind."""
    handlers = {
        name: list(getattr(bpy.app.handlers, name))
        for name in dir(bpy.app.handlers)
        if isinstance(getattr(bpy.app.handlers, name), list)
    }
    return {
        "handlers": handlers,
        "types": sorted(name for name in dir(bpy.types) if "effigy" in name.lower()),
        "operators": dir(bpy.ops.effigy),
        "properties": [hasattr(owner, "effigy") for owner in (bpy.types.Scene, bpy.types.Armature, bpy.types.Object)],
        "engines": sorted(k.__name__ for k in bpy.types.RenderEngine.__subclasses__() if k.is_registered),
    }


def open_sockets() -> int:
    """Sockets and the like this process holds (Linux; 0 elsewhere)."""
    if not os.path.isdir("/proc/self/fd"):
        return 0
    places = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    links = [os.readlink(place) for place in places if os.path.islink(place)]
    return sum(link.startswith(("socket:", "anon_inode:")) for link in links)


def test_a_hundred_cycles_leave_nothing_behind() -> None:
    blender_addon.register()  # what Python itself keeps after the first time is not counted
    blender_addon.unregister()
    before, sockets, threads = inventory(), open_sockets(), set(threading.enumerate())
    for cycle in range(100):
        blender_addon.register()
        if cycle % 10 == 0:  # with a link looking for a backend that is not there
            CONNECTION.connect(settings(bpy.context.scene))
            assert len(set(threading.enumerate()) - threads) == 1
        blender_addon.unregister()
    assert inventory() == before
    assert not set(threading.enumerate()) - threads
    assert open_sockets() <= sockets


def test_another_machine_is_asked_only_where_blender_may_go_online(addon, monkeypatch) -> None:
    from types import SimpleNamespace

    elsewhere = Settings(address="tcp://203.0.113.5:47615")
    monkeypatch.setattr(backend, "bpy", SimpleNamespace(app=SimpleNamespace(online_access=False)))
    with pytest.raises(errors.NotAllowed, match="Allow Online Access"):
        backend.new_client(elsewhere, "test")
    backend.new_client(Settings(address="tcp://127.0.0.1:1"), "test").close()
    monkeypatch.setattr(backend, "bpy", SimpleNamespace(app=SimpleNamespace(online_access=True)))
    backend.new_client(elsewhere, "test").close()


def test_a_failing_part_takes_the_others_down(monkeypatch) -> None:
    before = inventory()

    def broken() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(classes, "register", broken)
    with pytest.raises(RuntimeError, match="no"):
        blender_addon.register()
    assert inventory() == before


def test_settings_come_from_environment_then_scene_then_preferences(addon, monkeypatch) -> None:
    assert preferences() is None, "running from source"
    monkeypatch.delenv("EFFIGY_ADDRESS", raising=False)
    assert settings(addon.context.scene).address == "tcp://127.0.0.1:47615"
    addon.context.scene.effigy.address = "tcp://10.0.0.5:9"
    assert settings(addon.context.scene).address == "tcp://10.0.0.5:9"
    monkeypatch.setenv("EFFIGY_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setenv("EFFIGY_KEY", "secret")
    assert settings(addon.context.scene).address == "tcp://127.0.0.1:1"
    assert settings(addon.context.scene).key == "secret"
    for text, seconds in (("2.5", 2.5), ("soon", 5.0)):
        monkeypatch.setenv("EFFIGY_RETRY_S", text)
        assert settings(addon.context.scene).retry_s == seconds


def test_starting_a_backend_says_what_is_missing(addon) -> None:
    with pytest.raises(RuntimeError, match="does not know the backend's Python"):
        addon.ops.effigy.start_backend()
    addon.context.scene.effigy.address = "tcp://10.0.0.5:9"
    with pytest.raises(RuntimeError, match="on another machine"):
        addon.ops.effigy.start_backend()


def test_panels_follow_state_and_selection(addon, monkeypatch) -> None:
    panels = {panel.__name__: panel for panel in classes.CLASSES if "_PT_" in panel.__name__}
    assert "Select an avatar" in draw(panels["EFFIGY_PT_animate"])
    assert "Not connected" in draw(panels["EFFIGY_PT_backend"])
    assert "effigy.use_engine" in draw(panels["EFFIGY_PT_render"])
    for panel in panels.values():
        draw(panel)

    running = messages.JobInfo(
        "j1", "train", "Anna", "running", 40, 100, 12.5, {"l1": 0.02}, 95.0, "learning", report_folder="/r"
    )
    broken = messages.AvatarSummary("b", "Broken", "rgb_head", "", "", "", problem="Its weights are damaged.")
    good = messages.AvatarSummary("g", "Good", "rgb_head", "", "", "", metrics={"psnr_db": 31.5})
    state = LinkState(
        "tcp://127.0.0.1:47615",
        "connected",
        welcome=messages.Welcome(2, "0.1.0", "e", "", "", "cpu", "numba"),
        avatars=(broken, good),
        jobs=(running,),
        presets=messages.PresetList({"p": "a preset"}, {"demo_head": "a talking head"}),
        previews={"j1": messages.JobPreview("j1", 40, np.zeros((8, 16, 3), np.uint8))},
    )
    monkeypatch.setattr(type(CONNECTION), "state", property(lambda self: state))
    assert "cpu (numba)" in draw(panels["EFFIGY_PT_backend"])
    library = draw(panels["EFFIGY_PT_library"])
    assert {"Its weights are damaged.", "PSNR 31.5 dB"} <= set(library)
    train = draw(panels["EFFIGY_PT_train"])
    assert {"40 / 100, 1 min 35 s left", "picture", "Anna: running"} <= set(train)
    monkeypatch.undo()

    rig_object = rig_build.add_avatar(addon.context, people.detail(people.bust()))
    assert "effigy.key Key All" in draw(panels["EFFIGY_PT_animate"])
    face = draw(panels["EFFIGY_PT_face"], object=rig_object.children[0])
    assert {"Brow Down", "Mouth Smile", "Tongue Out", "Cheeks and Nose"} <= set(face)
    addon.context.window_manager.effigy.expression_filter = "smile"
    found = draw(panels["EFFIGY_PT_face"])
    assert "Mouth Smile" in found
    assert "Brow Down" not in found
    assert "aa" in draw(panels["EFFIGY_PT_visemes"])
    assert {"proxy_role", "is_visible"} <= set(draw(panels["EFFIGY_PT_rig"]))
    animation.world_from_hdri(addon.context.scene, animation.studio_light_files()["forest"])
    assert "World lights the avatars" in " ".join(draw(panels["EFFIGY_PT_relight"]))
    addon.ops.effigy.use_engine()
    assert addon.context.scene.render.engine == EffigyEngine.bl_idname
    assert "use_pass_mask" in draw(panels["EFFIGY_PT_render_passes"])


def test_scene_operators_pose_key_and_film(addon) -> None:
    scene = addon.context.scene
    rig_object = rig_build.add_avatar(addon.context, people.detail(people.bust()))
    addon.ops.effigy.demo_animation(frames=30)
    keys = rig_object.children[0].data.shape_keys
    assert scene.frame_end >= 30
    values = []
    for frame in (1, 8, 15, 22):
        scene.frame_set(frame)
        values.append([keys.key_blocks["mouthFunnel"].value, *rig_object.pose.bones["jaw"].rotation_quaternion])
    assert np.ptp(values, axis=0).max() > 0.05, "the performance moves"
    addon.ops.effigy.add_camera_path()
    places = []
    for frame in (scene.frame_start, scene.frame_end):
        scene.frame_set(frame)
        places.append(np.array(scene.camera.matrix_world.translation))
    assert np.linalg.norm(places[0] - places[1]) > 0.5
    addon.ops.effigy.rest_pose()
    np.testing.assert_allclose(rig_object.pose.bones["jaw"].rotation_quaternion, (1, 0, 0, 0), atol=1e-6)
    addon.ops.effigy.key(what="ALL")
    addon.ops.effigy.studio_light(light="city")
    assert scene.world.node_tree is not None
