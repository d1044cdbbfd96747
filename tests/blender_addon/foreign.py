"""Armatures of other rigs, built from the names their makers document, with an A pose and a walk of random turns."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Quaternion, Vector

from shared import template

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
SIDES = ("left", "right")


def _by_side(table: dict[str, str], left: str, right: str) -> dict[str, str]:
    return {f"{s}_{j}": n.format(mark) for j, n in table.items() for s, mark in (("left", left), ("right", right))}


_MIXAMO = {
    **{"hip": "{}UpLeg", "knee": "{}Leg", "ankle": "{}Foot", "foot": "{}ToeBase"},
    **{"collar": "{}Shoulder", "shoulder": "{}Arm", "elbow": "{}ForeArm", "wrist": "{}Hand"},
}
NAMES: dict[str, dict[str, str]] = {
    "Mixamo": {
        joint: f"mixamorig:{name}"
        for joint, name in {
            **{
                "pelvis": "Hips",
                "spine1": "Spine",
                "spine2": "Spine1",
                "spine3": "Spine2",
                "neck": "Neck",
                "head": "Head",
            },
            **_by_side(_MIXAMO, "Left", "Right"),
            **_by_side({f"{f}{n}": f"{{}}Hand{f.title()}{n}" for f in FINGERS for n in (1, 2, 3)}, "Left", "Right"),
        }.items()
    },
    "CMU": {
        **{
            "pelvis": "Hips",
            "spine1": "LowerBack",
            "spine2": "Spine",
            "spine3": "Spine1",
            "neck": "Neck",
            "head": "Head",
        },
        **_by_side(_MIXAMO, "Left", "Right"),
    },
    "Rigify": {  # of the human meta-rig
        **{"pelvis": "spine", "spine1": "spine.001", "spine2": "spine.002", "spine3": "spine.003"},
        **{"neck": "spine.004", "head": "spine.006"},
        **_by_side({"hip": "thigh.{}", "knee": "shin.{}", "ankle": "foot.{}", "foot": "toe.{}"}, "L", "R"),
        **_by_side({"collar": "shoulder.{}", "shoulder": "upper_arm.{}", "elbow": "forearm.{}"}, "L", "R"),
        **_by_side({"wrist": "hand.{}"}, "L", "R"),
        **_by_side({f"thumb{n}": f"thumb.0{n}.{{}}" for n in (1, 2, 3)}, "L", "R"),
        **_by_side({f"{f}{n}": f"f_{f}.0{n}.{{}}" for f in FINGERS[1:] for n in (1, 2, 3)}, "L", "R"),
    },
    "SMPL": {},  # the joints' own names, filled in below
    "SMPL (L_, R_)": {
        **{n: f"f_avg_{n.title()}" for n in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")},
        **_by_side(
            {
                n: f"f_avg_{{}}_{n.title()}"
                for n in ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
            },
            "L",
            "R",
        ),
    },
    "Poser": {
        **{"pelvis": "Hips", "spine3": "Chest", "neck": "Neck", "head": "Head"},
        **_by_side({"hip": "{}Hip", "knee": "{}Knee", "ankle": "{}Ankle", "collar": "{}Collar"}, "Left", "Right"),
        **_by_side({"shoulder": "{}Shoulder", "elbow": "{}Elbow", "wrist": "{}Wrist"}, "Left", "Right"),
    },
    "Unreal": {
        **{"pelvis": "pelvis", "spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03"},
        **{"neck": "neck_01", "head": "head"},
        **_by_side({"hip": "thigh_{}", "knee": "calf_{}", "ankle": "foot_{}", "foot": "ball_{}"}, "l", "r"),
        **_by_side({"collar": "clavicle_{}", "shoulder": "upperarm_{}", "elbow": "lowerarm_{}"}, "l", "r"),
        **_by_side({"wrist": "hand_{}"}, "l", "r"),
    },
}


def build(style: str, human: template.TemplateArrays, *, arms_down: float = 0.8, scale: float = 1.0, prefix: str = ""):
    """An armature object of that style in an A pose, its bones rolled anyhow, linked to the scene."""
    names = NAMES[style] or {name: name for name in human.joint_names}
    turns = np.zeros((len(human.joint_names), 3))
    turns[human.joint("left_shoulder"), 1], turns[human.joint("right_shoulder"), 1] = arms_down, -arms_down
    turns[human.joint("left_hip"), 1], turns[human.joint("right_hip"), 1] = -0.1, 0.1
    _, posed = template.joint_transforms(turns, human.joints, human.parents)
    places = (posed[:, :3, 3] - (0, 0, -0.95)) * scale
    data = bpy.data.armatures.new(style)
    rig = bpy.data.objects.new(f"{style} rig", data)
    bpy.context.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rng = np.random.default_rng(len(style))
    made: dict[str, object] = {}
    for index, joint in enumerate(human.joint_names):
        if joint not in names:
            continue
        bone = data.edit_bones.new(prefix + names[joint])
        below = [i for i, p in enumerate(human.parents) if p == index and human.joint_names[i] in names]
        middle = [i for i in below if human.joint_names[i].endswith(("middle1", "spine3", "neck"))]
        if below:
            tail = places[(middle or below)[0]]
        else:
            parent = int(human.parents[index])
            tail = places[index] + 0.4 * (places[index] - places[parent])
        bone.head, bone.tail = places[index].tolist(), tail.tolist()
        bone.roll = float(rng.uniform(-3, 3))
        parent = int(human.parents[index])
        while parent >= 0 and human.joint_names[parent] not in made:
            parent = int(human.parents[parent])
        if parent >= 0:
            bone.parent = made[human.joint_names[parent]]
        made[joint] = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig, {joint: prefix + name for joint, name in names.items()}


def animate(rig, frames: int = 6, seed: int = 3, size: float = 0.5, travel=(0.3, -0.8, 0.1)) -> None:
    """Key random turns on every bone and a way of the root."""
    rng = np.random.default_rng(seed)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
        axis = rng.normal(size=3)
        turn = float(rng.normal(0, size))
        for frame in range(1, frames + 1):
            bone.rotation_quaternion = Quaternion(Vector(axis), turn * frame / frames)
            bone.keyframe_insert("rotation_quaternion", frame=frame)
            if bone.parent is None:
                bone.location = bone.bone.matrix_local.to_3x3().inverted() @ (Vector(travel) * (frame - 1))
                bone.keyframe_insert("location", frame=frame)
    rig.animation_data.action.name = "Foreign"


def directions(rig, pairs) -> np.ndarray:
    """Unit vectors between the heads of pairs of bones, in the world, as evaluated."""
    evaluated = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    world = np.array(evaluated.matrix_world)
    heads = {n: (world @ [*evaluated.pose.bones[n].head, 1.0])[:3] for pair in pairs for n in pair}
    vectors = np.array([heads[b] - heads[a] for a, b in pairs])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
