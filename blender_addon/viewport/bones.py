"""An avatar's bones over its picture. Blender has drawn them already, but the picture covers them: drawn once more,
as wires of the bones' custom shapes in Blender's own colours, they can be seen and grabbed."""

from __future__ import annotations

from typing import Any

import gpu
import numpy as np
from mathutils import Matrix

from .. import compat

LINE_PX = 1.2


class Bones:
    """The lines of one view's avatars; made anew when what they come from changes."""

    def __init__(self) -> None:
        self._made_of: Any = None
        self._batch: Any = None

    def draw(self, context: Any, content: Any, names: list[str]) -> None:
        """Draw the bones of the named armatures where this view shows bones (in POST_VIEW: its matrices are loaded)."""
        overlay = context.space_data.overlay
        if not (overlay.show_overlays and overlay.show_bones):
            return
        layer = context.view_layer
        rigs = [layer.objects.get(name.partition(" [")[0]) for name in names]
        rigs = [
            rig
            for rig in rigs
            if rig is not None and rig.show_in_front and rig.visible_in_viewport_get(context.space_data)
        ]
        # Selecting and posing make a new content; the names and modes are the rest.
        made_of = (id(content), *((rig.name, rig.mode, rig.select_get(), rig == layer.objects.active) for rig in rigs))
        shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
        if made_of != self._made_of:
            self._made_of, self._batch = made_of, _batch(rigs, context)
        if self._batch is None:
            return
        gpu.state.blend_set("ALPHA")
        gpu.state.depth_test_set("NONE")
        shader.bind()
        shader.uniform_float("viewportSize", (context.region.width, context.region.height))
        shader.uniform_float("lineWidth", LINE_PX * context.preferences.system.pixel_size)
        self._batch.draw(shader)
        gpu.state.blend_set("NONE")


def _batch(rigs: list[Any], context: Any) -> Any:
    shapes: dict[Any, tuple[list[Any], list[Any]]] = {}  # many bones share a shape: matrices and colours of each
    for rig in rigs:
        evaluated = rig.evaluated_get(context.view_layer.depsgraph)
        world = evaluated.matrix_world
        colour_of = _Colours(rig, context)
        for bone, shown in zip(rig.pose.bones, evaluated.pose.bones, strict=True):
            shape = bone.custom_shape
            if shape is not None and compat.bone_is_shown(bone):
                matrices, colours = shapes.setdefault(shape, ([], []))
                matrices.append(world @ _place(shown))
                colours.append(colour_of(bone))
    points, colours = [], []
    for shape, (matrices, of_each) in shapes.items():
        ends, placed = _wire(shape), np.array(matrices, np.float32)
        points.append((ends @ placed[:, :3, :3].transpose(0, 2, 1) + placed[:, None, :3, 3]).reshape(-1, 3))
        colours.append(np.repeat(np.array(of_each, np.float32), len(ends), axis=0))
    if not points:
        return None
    # Not batch_for_shader: it takes the shader's word for the colour's length, which in 4.3 is wrong for lines.
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id="pos", comp_type="F32", len=3, fetch_mode="FLOAT")
    layout.attr_add(id="color", comp_type="F32", len=4, fetch_mode="FLOAT")
    ends = gpu.types.GPUVertBuf(layout, sum(map(len, points)))
    ends.attr_fill("pos", np.ascontiguousarray(np.concatenate(points), np.float32))
    ends.attr_fill("color", np.ascontiguousarray(np.concatenate(colours), np.float32))
    return gpu.types.GPUBatch(type="LINES", buf=ends)


def _wire(shape: Any) -> np.ndarray:
    """Both ends of every edge of a shape's mesh, [2 E, 3]."""
    mesh = shape.data
    vertices, edges = np.empty(len(mesh.vertices) * 3, np.float32), np.empty(len(mesh.edges) * 2, np.int32)
    mesh.vertices.foreach_get("co", vertices)
    mesh.edges.foreach_get("vertices", edges)
    return vertices.reshape(-1, 3)[edges]


def _place(bone: Any) -> Matrix:
    """From a custom shape's own axes to the armature's, as Blender places it."""
    at = bone.custom_shape_transform or bone
    size = bone.custom_shape_scale_xyz * (bone.length if bone.use_custom_shape_bone_size else 1.0)
    turn = bone.custom_shape_rotation_euler.to_matrix().to_4x4()
    return at.matrix @ Matrix.Translation(bone.custom_shape_translation) @ turn @ Matrix.Diagonal((*size, 1.0))


class _Colours:
    """Colours (red, green, blue, 1) of an armature's bones, as Blender's theme has them."""

    def __init__(self, rig: Any, context: Any) -> None:
        self._theme = context.preferences.themes[0]
        view = self._theme.view_3d
        self._active = rig.data.bones.active
        self._posing = rig.mode == "POSE"
        selected = rig.select_get()
        active = selected and rig == context.view_layer.objects.active
        self._object = _opaque(view.object_active if active else view.object_selected if selected else view.wire)
        self._pose = [_opaque(colour) for colour in (view.wire, view.bone_pose, view.bone_pose_active)]

    def __call__(self, bone: Any) -> tuple[float, ...]:
        """Of one pose bone."""
        if not self._posing:
            return self._object
        selected = compat.bone_is_selected(bone)
        state = (2 if self._active == bone.bone else 1) if selected else 0
        palette = bone.color.palette
        if not palette.startswith("THEME"):
            return self._pose[state]
        colours = self._theme.bone_color_sets[int(palette[5:]) - 1]
        return _opaque((colours.normal, colours.select, colours.active)[state])


def _opaque(colour: Any) -> tuple[float, ...]:
    return (*colour[:3], 1.0)
