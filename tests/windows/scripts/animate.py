"""Bring motions onto an avatar in the window: stopped by Esc, taken back, keyed with the mouse, followed live."""

import bpy
import numpy as np

FRAMES = 6000


def main(w):
    """Steps for tests/windows/test_panels.py."""
    connection = w.addon("services.connection").CONNECTION
    curves = w.addon("services.curves")
    yield from w.show_sidebar()
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library")
    bpy.ops.object.select_all(action="DESELECT")
    with w.override():
        bpy.ops.effigy.add_avatar("INVOKE_DEFAULT", avatar_id="tiny")
    yield from w.wait_for(lambda: any(o.type == "ARMATURE" for o in bpy.data.objects), "the avatar")

    def avatar():
        return next(o for o in bpy.data.objects if o.type == "ARMATURE" and o.data.effigy.avatar_id)

    w.only_panels("EFFIGY_PT_animate", without=("EFFIGY_PT_retarget", "EFFIGY_PT_reenact"))
    yield from w.redraw()
    names = w.addon("services.rig_info").rig_of(avatar()).joint_names
    path = str(w.out / "motion.npz")
    turns = np.zeros((FRAMES, len(names), 3), np.float32)
    turns[:, names.index("head"), 2] = 0.3 * np.sin(np.arange(FRAMES) / 20)
    turns[:, :, 0] += 0.01 * np.sin(np.arange(FRAMES) / 9)[:, None]
    np.savez(path, rotations=turns, translations=np.zeros((FRAMES, 3)), expressions=np.zeros((FRAMES, 0)),
             joint_names=np.array(names), expression_names=np.array([], dtype="U1"), fps=24.0)  # fmt: skip
    with w.override():
        bpy.ops.effigy.import_motion("INVOKE_DEFAULT", filepath=path, start=1)
    w.send("ESC", "PRESS", 300, 300)
    yield 0.5
    w.results["after_esc"] = len(curves.curves_of(avatar()))
    w.results["actions_after_esc"] = len(bpy.data.actions)
    bpy.ops.ed.undo_push(message="before the motion")
    with w.override():
        bpy.ops.effigy.import_motion("INVOKE_DEFAULT", filepath=path, start=1)
    yield from w.wait_for(lambda: curves.curves_of(avatar()), "the motion", 60)
    head = next(c for c in curves.curves_of(avatar()) if '"head"' in c.data_path)
    w.results["keys"] = len(head.keyframe_points)
    with w.override():
        bpy.ops.ed.undo()
    yield 0.2
    w.results["after_undo"] = len(curves.curves_of(avatar()))
    yield from w.click_button("effigy.face")
    yield 0.2
    with w.override():
        bpy.ops.effigy.sample_motion("INVOKE_DEFAULT", motion="talk", start=1)
    proxy = w.addon("services.rig_info").proxy_of
    yield from w.wait_for(lambda: curves.curves_of(proxy(avatar()).data.shape_keys), "the sample", 60)
    bpy.context.scene.frame_set(30)
    yield from w.redraw()
    w.results["jaw_or_face_moves"] = len(curves.curves_of(proxy(avatar()).data.shape_keys))
    w.grab("animate")
