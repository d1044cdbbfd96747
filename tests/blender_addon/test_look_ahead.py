"""Frames asked for before their turn: the same pictures, and never one of a scene that has changed meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import bpy
import pytest

from blender_addon import batch
from blender_addon.services import look_ahead
from blender_addon.services.look_ahead import LOOK_AHEAD
from blender_addon.services.rig_info import avatar_of, proxy_of

FRAMES = 5


def animate(scene: Any) -> Any:
    """A head that turns by keys, smiles by a driver and is looked at by a constraint, and a camera that moves."""
    avatar = next(avatar_of(item) for item in scene.objects if avatar_of(item) is not None)
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.resolution_x = scene.render.resolution_y = 16
    scene.render.image_settings.file_format = "PNG"
    bone = avatar.pose.bones["head"]
    bone.rotation_mode = "XYZ"
    for frame, turn in ((1, -0.4), (FRAMES, 0.4)):
        bone.rotation_euler.z = turn
        bone.keyframe_insert("rotation_euler", frame=frame)
        scene.camera.data.lens = 50 + 4 * frame
        scene.camera.data.keyframe_insert("lens", frame=frame)
    key = proxy_of(avatar).data.shape_keys.key_blocks[1]
    key.driver_add("value").driver.expression = "frame * 0.1"
    follower = bpy.data.objects.new("Follower", None)
    scene.collection.objects.link(follower)
    follower.driver_add("location", 0).driver.expression = "sin(frame) * 0.05"
    avatar.constraints.new("COPY_LOCATION").target = follower
    return avatar


def rendered(scene: Any, folder: Path) -> list[bytes]:
    """The pixels of the animation's frames; what comes before them in a PNG holds the time it was rendered at."""
    scene.render.filepath = str(folder / "####")
    bpy.ops.render.render(animation=True)
    return pixels_in(folder)


def pixels_in(folder: Path) -> list[bytes]:
    return [path.read_bytes().partition(b"IDAT")[2] for path in sorted(folder.glob("*.png"))]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the backend says it can be at, to be chosen: one of a single machine says 1."""

    def choose(count: int) -> None:
        LOOK_AHEAD.taken = 0
        monkeypatch.setattr(LOOK_AHEAD._ahead, "count", lambda *_: setattr(LOOK_AHEAD._ahead, "workers", count))

    return choose


def test_frames_are_the_same_and_were_there_before_their_turn(
    scene_with_avatar: Any, tmp_path: Path, workers: Any
) -> None:
    scene = scene_with_avatar.context.scene
    animate(scene)
    before = set(threading.enumerate())
    alone = rendered(scene, tmp_path / "alone")
    assert LOOK_AHEAD.taken == 0, "this backend can be at one picture"
    assert len(set(alone)) == FRAMES
    workers(2)
    assert rendered(scene, tmp_path / "ahead") == alone
    assert LOOK_AHEAD.taken == FRAMES - 1
    assert not {one.name for one in set(threading.enumerate()) - before if one.name.startswith("effigy-ahead")}
    assert not LOOK_AHEAD._ahead.places()

    LOOK_AHEAD.taken = 0
    assert batch.run(["--frames", "2,4-5", "--output", str(tmp_path / "batch" / "####")]) == 0
    assert pixels_in(tmp_path / "batch") == [alone[1], alone[3], alone[4]]
    assert LOOK_AHEAD.taken == 2, "the command knows which of its frames comes next"

    scene.render.use_motion_blur, scene.effigy.motion_blur_samples = True, 2
    workers(1)
    blurred = rendered(scene, tmp_path / "blurred")
    workers(3)
    assert rendered(scene, tmp_path / "blurred ahead") == blurred != alone
    assert LOOK_AHEAD.taken == FRAMES - 1


def test_a_scene_that_changes_meanwhile_never_gets_an_old_picture(
    scene_with_avatar: Any, tmp_path: Path, workers: Any
) -> None:
    scene = scene_with_avatar.context.scene
    neck = animate(scene).pose.bones["neck"]
    neck.rotation_mode = "XYZ"

    def change(scene: Any, *_: Any) -> None:
        neck.rotation_euler.x = 0.5 if scene.frame_current >= 4 else 0.0

    workers(2)
    unchanged = rendered(scene, tmp_path / "unchanged")
    bpy.app.handlers.render_pre.append(change)
    try:
        workers(1)
        alone = rendered(scene, tmp_path / "alone")
        workers(2)
        assert rendered(scene, tmp_path / "ahead") == alone
    finally:
        bpy.app.handlers.render_pre.remove(change)
    assert [one == other for one, other in zip(alone, unchanged, strict=True)] == [True] * 3 + [False] * 2
    assert 0 < LOOK_AHEAD.taken < FRAMES - 1, "some were right, some were refused"


def test_it_is_left_alone_where_looking_would_leave_a_trace(
    scene_with_avatar: Any, tmp_path: Path, workers: Any
) -> None:
    scene = scene_with_avatar.context.scene
    avatar = animate(scene)
    assert look_ahead.is_steady(scene)
    seen: list[int] = []

    def follows(scene: Any, *_: Any) -> None:
        seen.append(scene.frame_current)

    bpy.app.handlers.frame_change_post.append(follows)
    try:
        workers(2)
        rendered(scene, tmp_path)
    finally:
        bpy.app.handlers.frame_change_post.remove(follows)
    assert LOOK_AHEAD.taken == 0
    assert seen[:FRAMES] == list(range(1, FRAMES + 1)), "whoever follows the frames sees them in order, each once"
    proxy_of(avatar).modifiers.new("Cloth", "CLOTH")
    assert not look_ahead.is_steady(scene)
