"""The scene of the viewport's scripts: a face, a box before its left half, a box behind its right half."""

import math

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
    """The scene and what should be seen where."""

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
        seen = self.w.pixels(*(self.w.place_of(point) for point in self.points.values()))
        return dict(zip(self.points, seen, strict=True))

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
