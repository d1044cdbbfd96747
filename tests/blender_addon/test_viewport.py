"""Asking for viewport pictures: when, how large, over a real backend, across its death; and what belongs to a scene."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

import bpy
import numpy as np
import pytest

from blender_addon.logic import view_maths
from blender_addon.logic.settings import Settings
from blender_addon.logic.view_maths import SCALES, next_pace
from blender_addon.services import animation
from blender_addon.services.backend import new_client
from blender_addon.viewport import contents, overlay
from blender_addon.viewport.banner import wrap
from blender_addon.viewport.frames import PASS, FrameThread, Wish
from blender_addon.viewport.plan import STILL_AFTER_S, Plan, scaled
from shared import messages
from shared.packed import unpack

from .conftest import start_backend

SIZE = (48, 40)


def wait_for(condition, timeout_s: float = 120.0):
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return value


def content() -> contents.Content:
    bpy.context.view_layer.update()
    return contents.Contents().of(bpy.context.scene, bpy.context.view_layer, overlay.choose_light)


def wish(view: str = "v", turn: float = 0.0) -> Wish:
    """What a view in front of the scene's avatar would wish for."""
    actors = content().actors
    centre = actors[0].centre_m
    place = centre + np.array([np.sin(turn), -np.cos(turn), 0.3]) * 1.2
    forward = (centre + (0, 0, 0.25) - place) / np.linalg.norm(centre + (0, 0, 0.25) - place)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    world_from_view = np.eye(4)
    world_from_view[:3] = np.stack([right, np.cross(right, forward), -forward, place], 1)
    window = np.array([[2.2, 0, 0, 0], [0, 2.2, 0, 0], [0, 0, -1, -0.02], [0, 0, -1, 0]], float)
    camera = view_maths.view_camera(np.linalg.inv(world_from_view), window, SIZE, [centre], [actors[0].reach_m])
    instances = tuple(contents.instance(actor) for actor in actors)
    request = messages.RenderRequest(
        view, instances, *SIZE, camera.K[None], camera.world_from_camera[None], camera.near_m, camera.far_m, (PASS,)
    )
    return Wish(view, bpy.context.scene.name_full, (turn,), camera, request)


@pytest.fixture
def thread(scene_with_avatar, backend):
    made = FrameThread(lambda: new_client(Settings(address=backend.address), "test viewport"), backend.address)
    yield made
    made.close()
    assert not [t for t in threading.enumerate() if t.name == "effigy-viewport"]


def test_the_newest_wish_wins_and_every_view_gets_its_own(thread) -> None:
    wait_for(lambda: thread.status == "connected")
    wishes = [wish(turn=0.01 * step) for step in range(30)]  # making one takes as long as rendering one
    beside = wish("other", turn=-0.5)
    for one in wishes:
        thread.want(one)
        thread.want(beside)
    final = wait_for(lambda: (p := thread.picture("v")) and p.wish.stamp == (0.29,) and p)
    other = wait_for(lambda: thread.picture("other"))
    assert final.number < 30, "older wishes were passed over"
    colour, depth = unpack(final.packed, final.wish.camera.near_m, final.wish.camera.far_m)
    row, column = SIZE[1] // 2 - final.corner_px[1], SIZE[0] // 2 - final.corner_px[0]
    assert colour[row, column, 3] > 0.9
    assert 0.8 < depth[row, column, 0] < 1.6
    assert other.packed.shape != final.packed.shape or np.abs(other.packed - final.packed).max() > 0
    thread.forget(["v"])
    assert thread.picture("v") is None
    assert thread.picture("other") is other


def test_a_large_picture_comes_through_shared_memory_unchanged(thread) -> None:
    asked = wish()
    k = np.array([[900.0, 0, 320], [0, 900.0, 240], [0, 0, 1]])
    camera = replace(asked.camera, width_px=640, height_px=480, K=k)
    request = replace(asked.request, width_px=640, height_px=480, K=k[None])
    thread.want(replace(asked, camera=camera, request=request))
    picture = wait_for(lambda: thread.picture("v"))
    assert 100 < picture.packed.shape[0] <= 480
    assert picture.packed.max() > 2**20


def test_a_backend_that_dies_leaves_the_last_picture_and_is_found_again(scene_with_avatar, home) -> None:
    first = start_backend(home)
    thread = FrameThread(lambda: new_client(Settings(address=first.address), "test viewport"), first.address)
    try:
        thread.want(wish())
        last = wait_for(lambda: thread.picture("v"))
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait()
        wait_for(lambda: thread.status == "lost")
        assert "No backend answers" in thread.problem or "lost the connection" in thread.problem
        assert thread.picture("v") is last
        begin = time.monotonic()
        thread.want(wish(turn=0.2))
        assert time.monotonic() - begin < 3, "wishing never waits"
        second = start_backend(home, first.address)
        back = time.monotonic()
        wait_for(lambda: thread.status == "connected")
        found_s = time.monotonic() - back
        wait_for(lambda: thread.picture("v").wish.stamp == (0.2,))
        print(f"found again {found_s:.2f} s after its return, first picture {time.monotonic() - back:.2f} s")
        assert found_s < 30
        second.stop()
    finally:
        thread.close()


def test_what_cannot_be_rendered_is_told_and_mended(thread) -> None:
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    digest, rig.data.effigy.digest = rig.data.effigy.digest, "0" * 64
    rig.data.update_tag()
    thread.want(wish())
    wait_for(lambda: thread.status == "refused")
    assert "tiny" in thread.problem
    rig.data.effigy.digest = digest
    rig.data.update_tag()
    thread.want(wish())
    wait_for(lambda: thread.picture("v"))
    assert (thread.status, thread.problem) == ("connected", "")


def test_contents_follow_poses_light_and_visibility(scene_with_avatar) -> None:
    first = content()
    assert len(first.actors) == 1
    assert content().actors[0].stamp == first.actors[0].stamp
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    rig.pose.bones["jaw"].rotation_quaternion = (0.99, 0.14, 0, 0)
    posed = content()
    assert posed.actors[0].stamp != first.actors[0].stamp
    rig.location.x += 1
    assert content().actors[0].centre_m[0] == pytest.approx(first.actors[0].centre_m[0] + 1, abs=1e-5)
    assert first.lights.picture is None
    animation.world_from_hdri(bpy.context.scene, animation.studio_light_files()["city"])
    assert content().lights.picture is not None
    rig.hide_set(True)
    assert content().actors == ()
    rig.hide_set(False)
    rig.scale = (1, 2, 1)
    assert "scaled unevenly" in content().problem


def test_only_changes_that_can_be_seen_are_read_again(scene_with_avatar) -> None:
    kept = contents.Contents()
    scene, layer = bpy.context.scene, bpy.context.view_layer

    def read() -> int:
        kept.of(scene, layer, overlay.choose_light)
        return kept.reads

    layer.update()
    assert read() == 1
    cube = bpy.data.objects.new("cube", bpy.data.meshes.new("cube"))
    scene.collection.objects.link(cube)
    marks = []

    def mark(_, depsgraph) -> None:
        kept.changed(depsgraph)
        marks.append([type(update.id).__name__ for update in depsgraph.updates])

    bpy.app.handlers.depsgraph_update_post.append(mark)
    try:
        layer.update()
        read()
        before = read()
        cube.location.x = 3
        layer.update()
        assert read() == before, marks
        next(o for o in bpy.data.objects if o.type == "ARMATURE").location.x = 1
        layer.update()
        assert read() == before + 1
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(mark)


@pytest.mark.parametrize("megabit_per_s", [20.0, 100.0, 1000.0])
def test_on_a_slow_line_pictures_get_smaller_until_motion_is_smooth(megabit_per_s: float) -> None:
    """A simulated line: 8 bytes a pixel, 20 ms there and back, a renderer of 100 ms a megapixel; a full HD view."""
    size, plan, pace = (1920, 1080), Plan(), 150.0
    for frame in range(40):
        scale = plan.scale(frame, frame * 0.01, size, pace)
        assert scale is not None
        width, height = scaled(size, scale)
        megapixels = width * height / 1e6
        taken_ms = 20 + 100 * megapixels + megapixels * 8e6 * 8 / (megabit_per_s * 1e3)
        pace = next_pace(pace, taken_ms, megapixels)
    assert taken_ms <= 200  # five pictures a second and more
    assert scale > SCALES[-1] or megabit_per_s == 20
    longest_ms, now_s = 0.0, 1.0
    while scale < 1.0:  # it stands still: sharper and sharper, each picture a few times as long as the last at most
        now_s += 0.05
        asked = plan.scale(39, now_s, size, pace)
        if asked is not None:
            assert asked > scale
            scale, before_ms = asked, longest_ms
            longest_ms = pace * 1920 * 1080 / 1e6 * asked**2
            assert longest_ms <= max(400.0, 16 * max(before_ms, 100.0))
    assert now_s < 15


def test_small_while_moving_whole_when_still() -> None:
    plan, size = Plan(), (1000, 800)
    assert plan.scale("a", 0.0, size, 1000.0) == 0.25
    assert plan.scale("a", 0.01, size, 1000.0) is None
    assert not plan.refinement_is_due(0.1)
    assert plan.scale("b", 0.1, size, 100.0) == 0.7
    assert plan.refinement_is_due(0.1 + STILL_AFTER_S)
    assert plan.scale("b", 0.1 + STILL_AFTER_S, size, 100.0) == 1.0
    assert plan.scale("b", 9.0, size, 100.0) is None
    assert not plan.refinement_is_due(9.0)
    assert plan.scale("c", 9.0, size, 10.0) == 1.0, "a quick backend draws the whole view while it moves"
    plan.again()
    assert plan.scale("c", 9.1, size, 10.0) == 1.0
    assert scaled((3, 100), 0.25) == (16, 25)


def test_no_part_of_an_avatar_reaches_beyond_its_ball() -> None:
    parents, rest = [-1, 0, 1, 1], [(0, 0, 0), (0, 0, 1), (0, 0, 1.5), (2, 0, 1)]
    assert view_maths.reach_m(parents, rest) == pytest.approx(3 + view_maths.MARGIN_M)


def test_text_is_wrapped_at_words() -> None:
    assert wrap("one two three", 7, len) == ["one two", "three"]
    assert wrap("unbreakable a", 3, len) == ["unbreakable", "a"]
    assert wrap("", 3, len) == [""]
