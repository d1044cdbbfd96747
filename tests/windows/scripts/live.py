"""A face followed live drives the avatar in the window and is recorded; a video dropped onto the view is tracked.

Words: the avatar, and OUT as the machine outside names it (the backend reads the dropped video there). The backend's
tracker is the stand-in of tests/stand_in_tracker.py.
"""

import bpy
from drops import drop, outside_of


def main(w):
    """Steps for tests/windows/test_panels.py."""
    connection = w.addon("services.connection").CONNECTION
    performing = w.addon("services.performing").PERFORMING
    curves, guards = w.addon("services.curves"), w.addon("logic.faults").GUARDS
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=w.arguments[0])
    yield from w.wait_for(lambda: any(item.type == "ARMATURE" for item in bpy.data.objects), "the avatar", 60)
    avatar = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    bpy.context.view_layer.objects.active = avatar
    w.only_panels("EFFIGY_PT_train")
    yield from w.show_sidebar()
    w.grab("live_before")
    bpy.ops.ed.undo_push(message="before the performance")
    with w.override():
        bpy.ops.effigy.follow_live("INVOKE_DEFAULT")
    yield from w.wait_for(lambda: performing.shown > 3, "poses of the camera", 60)
    with w.override():
        bpy.ops.effigy.record_live("INVOKE_DEFAULT")
    begun = performing.shown
    yield from w.wait_for(lambda: performing.shown > begun + 20, "a performance", 30)
    w.grab("live_driving")
    with w.override():
        bpy.ops.effigy.record_live("INVOKE_DEFAULT")
    found = curves.curves_of(avatar)
    w.results["keys"] = max((len(curve.keyframe_points) for curve in found), default=0)
    w.results["bones"] = sorted({curve.data_path.split('"')[1] for curve in found})
    with w.override():
        bpy.ops.effigy.stop_following("INVOKE_DEFAULT")
    yield from w.wait_for(lambda: performing.performer is None, "the end", 20)

    complaint = yield from drop(w, outside_of(w) / "Talk.mp4")
    w.grab("drop_video")
    yield from w.press("T")  # Track Video, beside Blender's own offer
    yield 0.5
    w.grab("track_video")
    yield from w.press("RET")
    training = bpy.context.scene.effigy.training
    yield from w.wait_for(lambda: training.folder.endswith("Talk_capture"), "the tracked capture", 60)
    yield 1.0
    w.grab("live_tracked")
    w.results["complaint"] = complaint
    w.results["faults"] = [fault.sentence + fault.detail for fault in guards.log.newest()]
