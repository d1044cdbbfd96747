"""Folds of cloth as a pure function of the pose: the same joint angles always give the same folds.

Every fold is a wave over the garment at rest whose height follows one drive, such as how far an elbow is bent. Cloth
is pushed along its rest normal before skinning, and a shirt's hem follows raised arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._shared import template
from .noise import smoothstep, value_noise
from .surface import Array

SIDES = (("left", 1.0), ("right", -1.0))
LIFT_M = 0.045
"""How far a shirt's side slides up with its arm."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Rest joints [J, 3] m by name, all that folds need to know of the body beneath."""

    joints: Mapping[str, Array]

    @staticmethod
    def of(arrays: template.TemplateArrays, joints: Array) -> Landmarks:
        """The landmarks of rest joints [J, 3] m in the template's order."""
        return Landmarks(dict(zip(arrays.joint_names, np.asarray(joints, np.float64))))


def drives(joint_names: tuple[str, ...], rotations: Array) -> dict[str, float]:
    """What the folds follow, from joint rotations [J, 3] rad: bends and twists in rad, arm heights in -1..1.

    elbow_SIDE, knee_SIDE >= 0; hip_SIDE: thigh lifted forwards; arm_SIDE: sine of the upper arm's height against the
    chest; twist, bow (forwards) and lean (to the left) of the spine.
    """
    turned = dict(zip(joint_names, template.rotation_matrices(rotations)))
    vectors = dict(zip(joint_names, np.asarray(rotations, np.float64)))
    found: dict[str, float] = {}
    for side, sign in SIDES:
        found[f"elbow_{side}"] = float(np.linalg.norm(vectors[f"{side}_elbow"]))
        found[f"knee_{side}"] = float(np.linalg.norm(vectors[f"{side}_knee"]))
        thigh = turned[f"{side}_hip"] @ np.array([0.0, 0.0, -1.0])
        found[f"hip_{side}"] = float(np.arctan2(-thigh[1], -thigh[2])) if thigh[2] < 0.99 else 0.0
        arm = turned[f"{side}_collar"] @ turned[f"{side}_shoulder"] @ np.array([sign, 0.0, 0.0])
        found[f"arm_{side}"] = float(arm[2])
    spine = sum(vectors[name] for name in ("spine1", "spine2", "spine3"))
    found["bow"], found["lean"], found["twist"] = float(spine[0]), float(spine[1]), float(spine[2])
    return found


def shirt_folds(points: Array, normals: Array, at: Landmarks, drive: Mapping[str, float]) -> Array:
    """Displacement [N, 3] m of a shirt at rest points [N, 3] with unit normals [N, 3]."""
    x, y, z = points.T
    crumple = value_noise(points, 24.0, 90) - 0.5
    height = 0.0035 * _wave(0.6 * z + 0.8 * np.abs(x) + 0.05 * crumple, 0.075) * _torso(points, at)
    slide = np.zeros(len(points))
    for side, sign in SIDES:
        mine = smoothstep(-0.05, 0.05, sign * x)
        elbow = sign * x - abs(at.joints[f"{side}_elbow"][0])
        inner = 0.30 + 0.70 * smoothstep(0.4, -0.7, normals[:, 1])
        ring = np.exp(-((elbow / 0.085) ** 2)) * mine
        bend = smoothstep(0.15, 2.0, drive[f"elbow_{side}"])
        height += 0.0120 * bend * ring * inner * _wave(elbow + 0.022 * crumple + 0.012 * normals[:, 2], 0.034)
        forearm = smoothstep(0.02, 0.12, elbow) * mine
        height += 0.0040 * (0.5 + bend) * forearm * _wave(elbow + 0.03 * crumple, 0.042)
        arm = drive[f"arm_{side}"]
        pit = at.joints[f"{side}_shoulder"] + np.array([-0.02 * sign, 0.0, -0.06])
        near_pit = np.exp(-(((points - pit) / np.array([0.11, 0.16, 0.12])) ** 2).sum(1))
        diagonal = 0.75 * sign * x + 0.66 * z + 0.03 * crumple
        height += 0.0100 * smoothstep(0.1, -0.95, arm) * near_pit * _wave(diagonal, 0.046)
        top = at.joints[f"{side}_shoulder"] + np.array([-0.03 * sign, 0.0, 0.07])
        near_top = np.exp(-(((points - top) / np.array([0.09, 0.12, 0.09])) ** 2).sum(1))
        height -= 0.0240 * smoothstep(-0.2, -0.95, arm) * near_top  # the shoulder sinks as the arm goes down
        height += 0.0085 * smoothstep(-0.1, 0.9, arm) * near_top * _wave(sign * x + 0.03 * crumple, 0.036)
        pulled = smoothstep(-0.2, 0.95, arm)
        flank = _torso(points, at) * smoothstep(-0.10, 0.12, sign * x)
        height += 0.0060 * pulled * flank * _wave(sign * x - 0.45 * z + 0.03 * crumple, 0.052)
        slide += LIFT_M * pulled * flank
    waist = np.exp(-(((z - at.joints["spine1"][2]) / 0.17) ** 2)) * (np.abs(x) < 0.3)
    around = 0.16 * np.arctan2(x, -(y - at.joints["spine1"][1]))
    twist = drive["twist"]
    slant = z - 0.9 * np.sign(twist) * around
    height += 0.0150 * smoothstep(0.08, 0.75, abs(twist)) * waist * _wave(slant + 0.03 * crumple, 0.060)
    front = smoothstep(0.2, -0.6, normals[:, 1])
    curled = drive["bow"] + 0.35 * max(drive["hip_left"] + drive["hip_right"], 0.0) / 2
    height += 0.0130 * smoothstep(0.10, 1.0, curled) * waist * front * _wave(z + 0.025 * crumple, 0.052)
    for sign in (1.0, -1.0):
        flank = smoothstep(0.1, 0.7, sign * normals[:, 0])
        leaning = smoothstep(0.05, 0.5, sign * drive["lean"])
        height += 0.0120 * leaning * waist * flank * _wave(z + 0.025 * crumple, 0.048)
    moved = height[:, None] * normals
    moved[:, 2] += slide
    return moved


def trouser_folds(points: Array, normals: Array, at: Landmarks, drive: Mapping[str, float]) -> Array:
    """Displacement [N, 3] m of trousers at rest points [N, 3] with unit normals [N, 3]."""
    x, _, z = points.T
    crumple = value_noise(points, 24.0, 91) - 0.5
    height = np.zeros(len(points))
    for side, sign in SIDES:
        mine = smoothstep(-0.02, 0.03, sign * x)
        knee, ankle, hip = (at.joints[f"{side}_{name}"] for name in ("knee", "ankle", "hip"))
        over_shoe = np.exp(-(((z - ankle[2] - 0.035) / 0.055) ** 2)) * mine
        height += 0.0060 * over_shoe * _wave(z + 0.03 * crumple, 0.034)
        along = z - knee[2]
        ring = np.exp(-((along / 0.10) ** 2)) * mine
        back = 0.35 + 0.65 * smoothstep(-0.4, 0.6, normals[:, 1])
        bend = smoothstep(0.12, 1.9, drive[f"knee_{side}"])
        height += 0.0130 * bend * ring * back * _wave(along + 0.035 * crumple + 0.010 * normals[:, 0], 0.042)
        calf = smoothstep(-0.04, -0.14, along) * mine
        height += 0.0040 * (0.4 + bend) * calf * _wave(0.9 * along + 0.3 * sign * x + 0.05 * crumple, 0.075)
        lifted = smoothstep(0.10, 1.5, drive[f"hip_{side}"])
        groin = hip + np.array([0.0, -0.05, -0.02])
        near = np.exp(-(((points - groin) / np.array([0.12, 0.14, 0.11])) ** 2).sum(1)) * mine
        fan = 0.80 * (z - groin[2]) + 0.55 * sign * (x - groin[0]) + 0.03 * crumple
        height += 0.0120 * lifted * near * smoothstep(0.35, -0.5, normals[:, 1]) * _wave(fan, 0.044)
        behind = smoothstep(0.1, -0.5, drive[f"hip_{side}"])
        seat = np.exp(-(((z - hip[2] + 0.10) / 0.07) ** 2)) * smoothstep(0.0, 0.6, normals[:, 1]) * mine
        height += 0.0080 * behind * seat * _wave(z + 0.2 * np.abs(x) + 0.03 * crumple, 0.044)
    return height[:, None] * normals


def _wave(along_m: Array, length_m: float) -> Array:
    """Rounded ridges with narrower valleys, -0.4..0.6, every `length_m`."""
    return (0.5 + 0.5 * np.cos(2 * np.pi * along_m / length_m)) ** 1.4 - 0.4


def _torso(points: Array, at: Landmarks) -> Array:
    """1 on the trunk below the armpits, fading out towards the chest and the arms."""
    shoulder = at.joints["left_shoulder"]
    return smoothstep(shoulder[2] - 0.05, shoulder[2] - 0.28, points[:, 2]) * (np.abs(points[:, 0]) < 0.35)
