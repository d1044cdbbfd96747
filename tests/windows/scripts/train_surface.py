"""A signed-distance body, trained from the Train panel: name typed, Train clicked, watched, added by its job's button.

python -m tests.windows run tests/windows/scripts/train_surface.py -- NAME
"""

import math

import bpy
from mathutils import Euler, Vector


def main(w):
    """Steps for tests/windows/test_mesh.py. Words: the new avatar's name."""
    connection = w.addon("services.connection").CONNECTION
    yield from w.wait_for(lambda: connection.state and connection.state.presets, "the backend's presets", 60)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    training = bpy.context.scene.effigy.training
    training.source, training.capture, training.preset = "EMBEDDED", "demo_body", "surface_tiny"
    w.only_panels("EFFIGY_PT_train")
    yield from w.show_sidebar()
    yield 0.5
    yield from w.type_into("training.name", w.arguments[0])
    w.grab("surface_form")
    yield from w.click_button("effigy.start_training")
    (job,) = yield from w.wait_for(lambda: connection.state.jobs, "the job", 20)
    yield from w.wait_for(lambda: job.job_id in connection.state.previews, "its first picture", 120)
    yield from w.redraw()
    w.grab("surface_training")
    w.results["seen_learning"] = [float(value) for value in state_picture(connection, job).reshape(-1, 4).mean(0)]

    def newest():
        return next(item for item in connection.state.jobs if item.job_id == job.job_id)

    yield from w.wait_for(lambda: newest().state not in ("queued", "running"), "the training", 180)
    w.results["job"] = [newest().state, newest().message]
    yield from w.redraw()
    w.grab("surface_done")
    yield from w.click_button("effigy.add_avatar")
    yield from w.wait_for(lambda: bpy.context.object and bpy.context.object.type == "ARMATURE", "the avatar", 60)
    eye = w.space.region_3d
    eye.view_location, eye.view_distance = Vector((0.6, 0, 0.9)), 4.2
    eye.view_rotation = Euler((math.radians(86), 0, math.radians(8))).to_quaternion()
    yield from w.redraw()
    views = w.addon("viewport.overlay").OVERLAY.views
    yield from w.wait_for(lambda: any(view.sharp for view in views.values()), "the avatar's picture", 60)
    yield 0.5
    w.grab("surface_avatar")
    rig = bpy.context.object
    chest = rig.matrix_world @ rig.pose.bones["spine2"].head + Vector((0, -0.2, 0))
    w.results["chest"], w.results["beside"] = w.pixels(w.place_of(chest), w.place_of(chest + Vector((-0.9, 0, 0))))
    w.results["faults"] = [fault.sentence + fault.detail for fault in w.addon("logic.faults").GUARDS.log.newest()]


def state_picture(connection, job):
    """The newest picture of a job as numbers [H, W, 4]."""
    import numpy as np

    picture = np.asarray(connection.state.previews[job.job_id].image)
    return picture if picture.shape[-1] == 4 else np.concatenate((picture, np.ones_like(picture[..., :1])), -1)
