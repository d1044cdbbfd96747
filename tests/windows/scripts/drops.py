"""Files dragged from the desktop onto the 3D view: an HDRI, a motion and an avatar's folder, each where it belongs.

Words: the avatar, and OUT as the machine outside names it (the backend reads the dropped avatar there).
"""

import shutil
import subprocess
from pathlib import Path

import bpy
import numpy as np

SOURCE = Path("/mnt/inside/drag_source.py")
SKIES = "**/studiolights/world/*.exr"


def drop(w, path):
    """Drag a file onto the middle of the 3D view, as a desktop does; what the dragging program complained of."""
    region = w.region()
    x, y = region.x + region.width // 2, w.window.height - 1 - (region.y + region.height // 2)
    drag = subprocess.Popen(["python3", str(SOURCE), str(path), str(x), str(y)], stderr=subprocess.PIPE, text=True)
    while drag.poll() is None:
        yield 0.05
    yield 0.3
    return drag.stderr.read().strip()


def outside_of(w):
    """The folder of results under the name that it has outside, where the backend is."""
    outside = Path(w.arguments[1])
    if not outside.exists():
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.symlink_to(w.out)
    return outside


def fits(w, name, area):
    """Whether a file handler takes drops onto an editor."""
    with bpy.context.temp_override(window=w.window, screen=w.window.screen, area=w.area(area)):
        return bool(getattr(bpy.types, f"EFFIGY_FH_{name}").poll_drop(bpy.context))


def images_of_world():
    """Names of the pictures that light the scene."""
    nodes = bpy.context.scene.world.node_tree.nodes
    return [node.image.name for node in nodes if node.type == "TEX_ENVIRONMENT" and node.image]


def main(w):
    """Steps for tests/windows/test_panels.py."""
    connection = w.addon("services.connection").CONNECTION
    curves = w.addon("services.curves")
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=w.arguments[0])
    yield from w.wait_for(lambda: any(item.type == "ARMATURE" for item in bpy.data.objects), "the avatar", 60)
    avatar = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    names = ("avatar", "hdri", "motion", "video")
    w.results["fits"] = {name: [fits(w, name, "VIEW_3D"), fits(w, name, "OUTLINER")] for name in names}
    w.results["complaints"] = complaints = []

    # a motion, which nothing else of Blender's takes: keyed at once
    joints = w.addon("services.rig_info").rig_of(avatar).joint_names
    turns = np.zeros((5, len(joints), 3), np.float32)
    turns[:, joints.index("head"), 2] = 0.1 * np.arange(5)
    np.savez(w.out / "nod.npz", rotations=turns, translations=np.zeros((5, 3)), expressions=np.zeros((5, 0)),
             joint_names=np.array(joints), expression_names=np.array([], dtype="U1"), fps=24.0)  # fmt: skip
    complaints.append((yield from drop(w, w.out / "nod.npz")))
    yield from w.wait_for(lambda: curves.curves_of(avatar), "the dropped motion's keys", 30)
    w.results["keys"] = max(len(curve.keyframe_points) for curve in curves.curves_of(avatar))

    # a picture, for which Blender offers a choice
    sky = next(iter(Path(bpy.utils.resource_path("LOCAL")).glob(SKIES)), None)
    shutil.copy(sky or next(Path("/usr/share/blender").glob(SKIES)), w.out / "sky.exr")
    complaints.append((yield from drop(w, w.out / "sky.exr")))
    w.grab("drop_hdri")
    yield from w.press("L")  # Light Avatars with HDRI
    yield from w.wait_for(images_of_world, "the dropped light", 20)
    w.results["world"] = images_of_world()

    # an avatar's folder, under the name that it has outside
    outside, before = outside_of(w), {row.avatar_id for row in connection.state.avatars}
    complaints.append((yield from drop(w, outside / "Dropped.avatar")))
    w.grab("drop_avatar")
    yield from w.press("RET")
    new = lambda: [row.avatar_id for row in connection.state.avatars if row.avatar_id not in before]  # noqa: E731
    (came,) = yield from w.wait_for(new, "the dropped avatar in the library", 120)
    with w.override():
        bpy.ops.effigy.trash_avatar("EXEC_DEFAULT", avatar_id=came)
    yield from w.wait_for(lambda: not new(), "it to be gone again", 20)
    w.results["faults"] = [fault.sentence + fault.detail for fault in w.addon("logic.faults").GUARDS.log.newest()]
