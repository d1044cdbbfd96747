"""Avatars in real 3D views: what hides them and what they hide, in every shading; loss of the backend; a playblast."""

import math
import os
import time
from pathlib import Path

import bpy
from mathutils import Euler, Vector

BOX = (1.0, 0.0, 1.0)
CLOSE = 40


def near(seen, wanted):
    """Whether two colours (0 to 255) are about the same."""
    return max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) < CLOSE


def is_skin(colour):
    """Whether a colour can be the face's."""
    red, green, blue = colour
    return red > green > blue - 10 and red > 90 and red - blue > 20


def box(name, size, place):
    """A cube that is BOX in every shading."""
    bpy.ops.mesh.primitive_cube_add(size=size, location=place)
    item = bpy.context.object
    item.name, item.color = name, (*BOX, 1)
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    shader = nodes.new("ShaderNodeEmission")
    shader.inputs["Color"].default_value = (*BOX, 1)
    output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
    material.node_tree.links.new(shader.outputs[0], output.inputs["Surface"])
    item.data.materials.append(material)
    item.select_set(False)


class Stage:
    """The scene: a face, a box before its left half, a box behind its right half."""

    def __init__(self, w):
        self.w = w
        self.overlay = w.addon("viewport.overlay").OVERLAY
        self.faults = w.addon("logic.faults").GUARDS.log
        self.rig = next(item for item in bpy.data.objects if item.type == "ARMATURE")
        head = self.rig.matrix_world @ self.rig.pose.bones["head"].head
        self.face = head + Vector((0, -0.1, 0.04))
        box("before", 0.12, self.face + Vector((-0.10, -0.12, 0)))
        box("behind", 0.3, self.face + Vector((0.12, 0.5, 0)))
        self.points = {
            "before": self.face + Vector((-0.07, -0.18, 0.0)),
            "face": self.face + Vector((0.035, 0, -0.02)),
            "behind": self.face + Vector((0.24, 0.35, 0)),
        }
        self.rig.data.pose_position = "POSE"
        shading = w.space.shading
        shading.light, shading.color_type = "FLAT", "OBJECT"
        w.space.overlay.show_bones = False
        w.space.region_3d.view_location = self.face
        w.space.region_3d.view_distance = 0.9
        w.space.region_3d.view_rotation = Euler((math.radians(90), 0, 0)).to_quaternion()
        bpy.context.scene.view_settings.view_transform = "Standard"

    def colours(self):
        """Colour of each point as it is on the screen."""
        return {name: self.w.pixel(*self.w.place_of(point)) for name, point in self.points.items()}

    def all_sharp(self):
        """Whether every view shows its final picture."""
        if self.faults.newest():
            raise AssertionError(self.faults.newest()[0].detail or self.faults.newest()[0].sentence)
        views = self.overlay.views.values()
        return views and all(view.sharp for view in views)

    def right(self):
        """Whether the boxes and the face are where they should be."""
        seen = self.colours()
        pink = tuple(255 * part for part in BOX)
        return near(seen["before"], pink) and near(seen["behind"], pink) and is_skin(seen["face"])

    def settle(self, what):
        """Until the picture is final and right; remembers what was seen."""
        yield 0.3
        yield from self.w.wait_for(self.all_sharp, f"the final picture: {what}", 60)
        try:
            yield from self.w.wait_for(self.right, f"the right colours: {what}", 40)
        finally:
            self.w.results[what] = self.colours()
            self.w.grab(what)


def add_avatar(w, avatar_id):
    """Connect and add the avatar."""
    connection = w.addon("services.connection").CONNECTION
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=avatar_id)
    yield from w.wait_for(lambda: any(item.type == "ARMATURE" for item in bpy.data.objects), "the avatar", 60)


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
    if "material" in w.arguments:
        shading.type = "MATERIAL"
        yield from stage.settle("material")
        shading.type = "SOLID"

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
