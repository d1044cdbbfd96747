"""Avatars in real 3D views: what hides them and what they hide; loss of the backend; a playblast.

Words: the avatar, then shadings (see shadings.py).
"""

import os
import time
from pathlib import Path

import bpy
from mathutils import Vector
from shadings import show
from stage import Stage, add_avatar, is_skin, near


def signal_outside(w, name):
    """Ask the test outside for something, and wait until it is done."""
    (w.out / name).touch()
    yield from w.wait_for(lambda: not (w.out / name).exists(), name, 60)


def main(w):
    """Steps for tests/windows/test_viewport.py."""
    yield from add_avatar(w, w.arguments[0])
    stage = Stage(w)
    scene, shading, eye = bpy.context.scene, w.space.shading, w.space.region_3d
    yield from stage.settle("solid")
    yield 0.5
    w.grab("solid")
    proxy = next(item for item in bpy.data.objects if item.type == "MESH" and item.data.effigy_proxy)
    w.results["proxy_hidden"] = proxy.hide_get()

    # late pictures are moved at once, and replaced
    before = w.pixel(*w.place_of(stage.points["face"]))
    eye.view_location = stage.face + Vector((0.06, 0, 0.03))
    yield 0.15
    w.results["moved"] = [before, w.pixel(*w.place_of(stage.points["face"]))]
    yield from stage.settle("panned")

    eye.view_perspective = "ORTHO"
    yield from stage.settle("orthographic")
    eye.view_perspective = "PERSP"
    yield from show(stage, w.arguments[1:])

    # hidden is hidden
    stage.rig.hide_set(True)
    yield from w.wait_for(
        lambda: (
            near(w.pixel(*w.place_of(stage.points["face"])), (255, 0, 255))
            or not is_skin(w.pixel(*w.place_of(stage.points["face"])))
        ),
        "the hidden avatar to go",
        20,
    )
    stage.rig.hide_set(False)

    # a second view of the same scene
    with w.override():
        bpy.ops.screen.area_split(direction="VERTICAL", factor=0.5)
    yield 0.5
    yield from w.wait_for(lambda: len(stage.overlay.views) == 2 and stage.all_sharp(), "two views", 60)
    areas = [area for area in w.window.screen.areas if area.type == "VIEW_3D"]
    w.results["two_views"] = [w.pixel(*w.place_of(stage.points["face"], area)) for area in areas]
    w.grab("two_views")
    with bpy.context.temp_override(window=w.window, area=areas[1], screen=w.window.screen):
        bpy.ops.screen.area_close()
    yield 0.5

    # the backend goes and comes back
    yield from signal_outside(w, "kill_backend")
    yield from w.wait_for(lambda: stage.overlay.thread.status == "lost", "the loss to be noticed", 20)
    yield from w.redraw()
    w.results["while_lost"] = stage.colours()
    w.results["banner"] = [stage.overlay.problem(view) for view in stage.overlay.views.values()]
    w.grab("lost")
    yield from signal_outside(w, "start_backend")
    begin = time.monotonic()
    yield from w.wait_for(lambda: stage.overlay.thread.status == "connected", "the return", 20)
    w.results["found_again_s"] = time.monotonic() - begin
    eye.view_location = stage.face
    yield from stage.settle("back")
    w.results["picture_again_s"] = time.monotonic() - begin

    # the engine's own view
    with w.override():
        bpy.ops.effigy.use_engine()
    background = next(node for node in scene.world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.0, 0.3, 0.0, 1.0)
    shading.type = "RENDERED"
    yield 0.5
    yield from w.wait_for(stage.all_sharp, "the engine's view", 60)
    yield from w.wait_for(lambda: is_skin(stage.colours()["face"]), "the face in the engine's view", 20)
    w.results["rendered"] = stage.colours()
    w.grab("rendered")
    shading.type = "SOLID"

    # a playblast with the avatar in it
    scene.camera.matrix_world = eye.view_matrix.inverted()
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 320, 240, 100
    scene.frame_start, scene.frame_end = 1, 2
    w.space.overlay.show_overlays = False
    for kind in ("PNG", "MP4"):
        target = str(w.out / f"playblast_{kind}")
        with w.override():
            w.results[f"playblast_{kind}"] = list(bpy.ops.effigy.playblast("EXEC_DEFAULT", kind=kind, filepath=target))
        yield 0.2
    w.results["files"] = sorted(os.listdir(w.out / "playblast_PNG")) + [p.name for p in Path(w.out).glob("*.mp4")]
    w.results["faults"] = [fault.sentence for fault in stage.faults.newest()]
    times = stage.overlay.times
    w.results["median_ms"] = {kind: sorted(values)[len(values) // 2] for kind, values in times.items() if values}
    w.results["upload_ms"] = next(iter(stage.overlay.views.values())).painter.uploaded_ms
