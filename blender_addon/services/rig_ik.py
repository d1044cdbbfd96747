"""Optional controls for inverse kinematics on an avatar's arms and legs, made of ordinary bones and constraints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bpy
from mathutils import Matrix, Vector

from .._shared import errors
from . import rig_shapes

CONSTRAINT = "Effigy IK"
LEAST_BEND_RAD = 0.06
"""A limb that is straight has no plane to bend in; it is bent this much about its hinge first."""

NEARLY_STRAIGHT = 0.05
"""The middle joint's distance from the line between the ends, in lengths of the limb, that says nothing of a plane."""


@dataclass(frozen=True)
class Limb:
    """A chain of two bones and what ends it. away: the model direction its middle joint points to."""

    label: str
    upper: str
    lower: str
    end: str
    away: tuple[float, float, float]
    bend: float

    @property
    def control(self) -> str:
        """Name of the bone that the limb's end follows."""
        return f"ik_{self.end}"

    @property
    def pole(self) -> str:
        """Name of the bone that the middle joint points to."""
        return f"pole_{self.lower}"


LIMBS = tuple(
    limb
    for side in ("left", "right")
    for limb in (
        Limb(f"{side.title()} Arm", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist", (0, 1, 0), LEAST_BEND_RAD),
        Limb(f"{side.title()} Leg", f"{side}_hip", f"{side}_knee", f"{side}_ankle", (0, -1, 0), -LEAST_BEND_RAD),
    )
)


def limbs_of(rig_object: Any) -> tuple[Limb, ...]:
    """The limbs an avatar has bones for."""
    bones = rig_object.data.bones
    return tuple(limb for limb in LIMBS if all(name in bones for name in (limb.upper, limb.lower, limb.end)))


def controlled(rig_object: Any) -> tuple[Limb, ...]:
    """The limbs that have controls now."""
    return tuple(limb for limb in limbs_of(rig_object) if limb.control in rig_object.data.bones)


def constraint_of(rig_object: Any, limb: Limb) -> Any | None:
    """The limb's inverse-kinematic constraint; its influence goes from keys (0) to controls (1)."""
    return rig_object.pose.bones[limb.lower].constraints.get(CONSTRAINT)


def add_controls(context: Any, rig_object: Any) -> int:
    """Add controls to every limb that has none, where the limbs are now; how many were added. Raises BadAvatar."""
    wanted = [limb for limb in limbs_of(rig_object) if limb not in controlled(rig_object)]
    if rig_object.data.library is not None or rig_object.data.override_library is not None:
        raise errors.BadAvatar(
            "Bones cannot be added to a linked armature", do="Add the controls in the file that it is linked from"
        )
    if not limbs_of(rig_object):
        raise errors.BadAvatar("This avatar has no arms or legs", expected="a body")
    with _editing(context, rig_object):
        for limb in wanted:
            _add_bones(rig_object.data.edit_bones, limb)
    for limb in wanted:
        _constrain(rig_object, limb, context.scene)
    context.view_layer.update()
    for limb in wanted:
        _snap(rig_object, limb)
    context.view_layer.update()
    return len(wanted)


def remove_controls(context: Any, rig_object: Any) -> int:
    """Remove all controls; the limbs stay as they are at this frame. How many limbs had some."""
    limbs = controlled(rig_object)
    posed = {name: rig_object.pose.bones[name].matrix.copy() for l in limbs for name in (l.upper, l.lower, l.end)}
    for limb in limbs:
        for name in (limb.lower, limb.end):
            bone = rig_object.pose.bones[name]
            found = bone.constraints.get(CONSTRAINT)
            if found is not None:
                found.driver_remove("influence")
                bone.constraints.remove(found)
    with _editing(context, rig_object):
        for limb in limbs:
            for name in (limb.control, limb.pole):
                bone = rig_object.data.edit_bones.get(name)
                if bone is not None:
                    rig_object.data.edit_bones.remove(bone)
    for limb in limbs:
        for name in (limb.upper, limb.lower, limb.end):  # from the trunk outwards: a bone's matrix needs its parent's
            rig_object.pose.bones[name].matrix = posed[name]
            context.view_layer.update()
    return len(limbs)


def set_influence(rig_object: Any, influence: float) -> bool:
    """All limbs to keys (0) or controls (1); whether that changed anything."""
    changed = False
    for limb in controlled(rig_object):
        found = constraint_of(rig_object, limb)
        if found is not None and found.influence != influence:
            found.influence, changed = influence, True
    return changed


@contextmanager
def _editing(context: Any, rig_object: Any) -> Iterator[None]:
    """Edit mode on this armature alone; mode, selection and active object come back."""
    before, active = context.mode, context.view_layer.objects.active
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    selected = list(context.selected_objects)
    for other in selected:
        other.select_set(False)
    rig_object.select_set(True)
    context.view_layer.objects.active = rig_object
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        yield
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
        rig_object.select_set(rig_object in selected)
        for other in selected:
            other.select_set(True)
        context.view_layer.objects.active = active
        if before == "POSE" and active is not None:
            bpy.ops.object.mode_set(mode="POSE")


def _add_bones(bones: Any, limb: Limb) -> None:
    end, middle = bones[limb.end], bones[limb.lower]
    control = bones.new(limb.control)
    control.head, control.tail, control.roll = end.head, end.tail, end.roll
    pole = bones.new(limb.pole)
    reach = (bones[limb.lower].tail - bones[limb.upper].head).length * 0.6
    pole.head = middle.head + Vector(limb.away) * reach
    pole.tail = pole.head + Vector((0, 0, 0.05))
    for bone in (control, pole):
        bone.use_deform = False


def _constrain(rig_object: Any, limb: Limb, scene: Any) -> None:
    bones, data = rig_object.pose.bones, rig_object.data
    chain = bones[limb.lower].constraints.new("IK")
    chain.name, chain.target, chain.subtarget = CONSTRAINT, rig_object, limb.control
    chain.pole_target, chain.pole_subtarget, chain.chain_count = rig_object, limb.pole, 2
    upper, lower, pole = (data.bones[name] for name in (limb.upper, limb.lower, limb.pole))
    chain.pole_angle = _pole_angle(upper, lower, pole.head_local)
    hold = bones[limb.end].constraints.new("COPY_ROTATION")
    hold.name, hold.target, hold.subtarget = CONSTRAINT, rig_object, limb.control
    driver = hold.driver_add("influence").driver
    driver.type = "SUM"
    variable = driver.variables.new()
    variable.targets[0].id = rig_object
    variable.targets[0].data_path = f'pose.bones["{limb.lower}"].constraints["{CONSTRAINT}"].influence'
    radius = 0.08 if "wrist" in limb.end else 0.1
    rig_shapes.set_shape(bones[limb.control], "cube", radius, scene, along=0.5, colour="THEME03")
    rig_shapes.set_shape(bones[limb.pole], "sphere", 0.03, scene, colour="THEME03")
    for name in (limb.control, limb.pole):
        rig_shapes.assign(data, data.bones[name], rig_shapes.CONTROLS)
        bones[name].lock_scale = (True, True, True)


def _pole_angle(upper: Any, lower: Any, pole: Vector) -> float:
    """What turns the chain's own x axis into the plane of the pole: the angle Blender's solver is told."""
    along = upper.tail_local - upper.head_local
    across = (lower.tail_local - upper.head_local).cross(pole - upper.head_local)
    wanted = across.cross(along)
    x_axis = upper.matrix_local.to_3x3().col[0]
    angle = x_axis.angle(wanted, 0.0)
    return -angle if x_axis.cross(wanted).dot(along) > 0 else angle


def _snap(rig_object: Any, limb: Limb) -> None:
    """Put the controls where the limb is posed, so that nothing moves when they take over."""
    bones = rig_object.pose.bones
    chain = constraint_of(rig_object, limb)
    chain.influence = 0.0
    bpy.context.view_layer.update()
    upper, middle, end = bones[limb.upper], bones[limb.lower], bones[limb.end]
    shoulder, joint, tip = upper.head.copy(), middle.head.copy(), end.head.copy()
    between = shoulder + (tip - shoulder) * 0.5
    out = joint - between
    straight = (tip - shoulder).normalized()
    out -= straight * out.dot(straight)
    if out.length < NEARLY_STRAIGHT * (tip - shoulder).length:  # bend it where the hinge bends
        if middle.rotation_mode == "QUATERNION":
            middle.rotation_quaternion = middle.rotation_quaternion @ Matrix.Rotation(limb.bend, 3, "X").to_quaternion()
        rest = upper.matrix @ upper.bone.matrix_local.inverted()
        out = rest.to_3x3() @ Vector(limb.away)
        bpy.context.view_layer.update()
    bones[limb.control].matrix = end.matrix.copy()
    reach = (bones[limb.pole].bone.head_local - middle.bone.head_local).length
    bones[limb.pole].matrix = Matrix.Translation(joint + out.normalized() * reach)
    chain.influence = 1.0
