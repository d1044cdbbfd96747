"""Edit an avatar by words with mouse and keyboard, watch it, compare before and after, keep the version, go back.

    python -m tests.windows run tests/windows/scripts/edit.py --library FOLDER -- AVATAR [CHILD]

With CHILD, an edited version that the library has already, nothing is edited: versions and comparison alone.
"""

import bpy
from mathutils import Euler, Vector
from panels import add_avatar

NONSENSE, WORDS, STEPS = "zzqq", "bronze", 60


def same(seen, wanted):
    """Whether two colours (0 to 255) are equal but for rounding."""
    return max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 2


def version_points(w, rig):
    """Window places on the left and the right cheek of the avatar, either side of the view's middle."""
    head = rig.matrix_world @ rig.pose.bones["head"].head
    eye = w.space.region_3d
    eye.view_location = head + Vector((0, -0.1, 0.03))
    eye.view_distance = 0.55
    eye.view_rotation = Euler((1.5708, 0, 0)).to_quaternion()
    return [head + Vector((side * 0.04, -0.1, 0.02)) for side in (-1, 1)]


def compare(w, rig, after):
    """Colours of both cheeks: all before, all after, half and half; then the version is kept and taken back."""
    overlay = w.addon("viewport.overlay").OVERLAY
    window = bpy.context.window_manager.effigy_panels
    w.space.shading.light, w.space.overlay.show_bones = "FLAT", False
    points = version_points(w, rig)

    def parts():
        return [part for view in overlay.views.values() for part in (view, view.other) if part is not None]

    def settled():
        yield 0.6
        yield from w.wait_for(lambda: parts() and all(part.sharp for part in parts()), "both pictures", 60)
        yield 0.6

    def cheeks():
        return w.pixels(*(w.place_of(point) for point in points))

    with w.override():
        bpy.ops.effigy.wipe(avatar_id=after)
    w.results["pair"] = [window.wipe_before, window.wipe_after]
    for name, at in (("before", 1.0), ("after", 0.0), ("half", 0.5)):
        window.wipe_at = at
        yield from settled()
        w.results[name] = cheeks()
    w.grab("edit_wipe")
    asked = overlay.thread.changes
    window.wipe_at = 0.4
    yield from w.redraw()
    w.results["pictures_for_moving_the_line"] = overlay.thread.changes - asked
    with w.override():
        bpy.ops.effigy.wipe(avatar_id=after)
    w.results["wipe_ended"] = not window.wipe
    key = rig.pose.bones["head"]
    key.keyframe_insert("rotation_quaternion", frame=1)
    before = rig.data.effigy.avatar_id
    with w.override():
        bpy.ops.effigy.show_version(avatar_id=after)
    yield from w.wait_for(lambda: rig.data.effigy.avatar_id == after, "the version to be kept", 30)
    yield from w.wait_for(lambda: same(cheeks()[0], w.results["after"][0]), "its picture", 30)
    w.results["kept"], w.results["keys"] = cheeks(), len(w.addon("services.curves").curves_of(rig))
    w.only_panels("EFFIGY_PT_edit")
    yield from w.redraw()
    yield 0.6
    w.grab("edit_kept")
    yield from w.click_button("effigy.revert_version")
    yield from w.wait_for(lambda: rig.data.effigy.avatar_id == before, "the version to be taken back", 30)
    yield from w.wait_for(lambda: same(cheeks()[0], w.results["before"][0]), "its picture", 30)
    w.results["reverted"] = cheeks()


def edit(w, rig):
    """The edit by words; the id of the new version."""
    connection = w.addon("services.connection").CONNECTION
    window, wanted = bpy.context.window_manager.effigy_panels, bpy.context.scene.effigy_edit
    shown = rig.data.effigy.avatar_id
    yield from w.wait_for(lambda: shown in connection.state.editors, "the editors", 60)
    w.results["editors"] = [editor.name for editor in connection.state.editors[shown].editors]
    wanted.iterations = STEPS
    yield from w.type_into("effigy_edit.prompt", NONSENSE)
    yield from w.click_button("effigy.start_edit")
    yield from w.wait_for(lambda: window.edit_problem, "the refusal", 30)
    w.results["problem"] = window.edit_problem + window.edit_known
    yield from w.redraw()
    yield 0.5
    w.grab("edit_refused")
    with w.override():
        bpy.ops.effigy.dismiss()  # the notice, for the scripts after this one
    yield from w.press("ESC")  # Blender's own box with the same sentence, which 5.2 keeps before the sidebar
    yield from w.redraw()
    yield 0.6  # the parts below the notice move up
    yield from w.type_into("effigy_edit.prompt", WORDS)
    w.results["prompt"], w.results["problem_after_typing"] = wanted.prompt, window.edit_problem
    yield from w.click_button("effigy.start_edit")

    def job():
        return next((job for job in connection.state.jobs if job.kind == "edit"), None)

    yield from w.wait_for(lambda: job() is not None, "the job", 30)
    yield from w.wait_for(lambda: job().job_id in connection.state.previews or job().state == "done", "a preview", 120)
    w.results["previewed"] = job().job_id in connection.state.previews
    yield from w.redraw()
    yield 0.6
    w.grab("edit_running")
    yield from w.wait_for(lambda: job().state not in ("queued", "running"), "the end of the edit", 240)
    w.results["job"] = [job().state, job().message]
    made = job().avatar_id
    yield from w.wait_for(lambda: any(avatar.avatar_id == made for avatar in connection.state.avatars), "it listed", 30)
    yield from w.wait_for(lambda: made in connection.state.infos, "its picture", 30)
    yield from w.redraw()
    yield 0.6
    w.grab("edit_done")
    return made


def main(w):
    """Steps for tests/windows/test_panels.py. Words: the avatar; and an edited version, where there is one already."""
    guards = w.addon("logic.faults").GUARDS
    overlay = w.addon("viewport.overlay").OVERLAY
    rig = yield from add_avatar(w, w.arguments[0])
    w.only_panels("EFFIGY_PT_edit")
    yield from w.show_sidebar()
    yield from w.wait_for(lambda: any(view.sharp for view in overlay.views.values()), "the avatar's picture", 60)
    if len(w.arguments) > 1 and "/" not in w.arguments[1]:
        after = w.arguments[1]
        w.grab("edit_panel")
    else:
        after = yield from edit(w, rig)
    yield from compare(w, rig, after)
    w.results["faults"] = [fault.sentence + fault.detail for fault in guards.log.newest() if NONSENSE not in str(fault)]
    guards.log.clear()  # the refusal was wanted; scripts after this one look for faults of their own
