"""A tracked head as FLAME's parameters, for who owns FLAME: shape, expressions, jaw, eyes and pose from the surface.

The template's neutral face is met by FLAME's (closest points; shape and a rigid motion), which fixes what lies on what.
Then each picture's expression follows from the posed surface in one linear solve; jaw and eyes turn as the template's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatars.captures.capture import Capture
from avatars.captures.flame_axes import to_flame
from avatars.formats.flame_params import EXPRESSIONS, SHAPES, FlameParams
from shared.errors import BadTemplate
from shared.rotations import axis_angles_from_matrices
from shared.template import TemplateArrays, joint_transforms, rest, rotation_matrices, skin

Array = NDArray[np.float64]
ROUNDS, FAR_M, RIDGE, POINT_M = 12, 0.02, 1.0, 0.002
SHAPES_USED, EXPRESSIONS_USED = 60, 50
BEHIND_EYES_M, ABOVE_EYES_M = 0.03, 0.05


@dataclass(frozen=True, eq=False)
class FlameFit:
    """params: of every frame of the capture. face: FLAME's vertices that were fitted; on: our vertices they lie on;
    neutral_mm: how far apart both neutral faces are in the mean; apart_mm: [F] the same of the posed ones."""

    params: FlameParams
    face: NDArray[np.int64]
    on: NDArray[np.int64]
    neutral_mm: float
    apart_mm: Array


def fit_flame(capture: Capture, flame: TemplateArrays) -> FlameFit:
    """FLAME's parameters of a capture of our own template. Raises BadTemplate for a template that is not FLAME's."""
    if "jaw" not in flame.joint_names or not any(name.startswith("exp0") for name in flame.expression_names):
        raise BadTemplate(f"the template {flame.template_id!r} is not FLAME's", expected="an installed FLAME template")
    ours = capture.template.open()
    numbers = {"preset": capture.template.preset, "shape": np.array(capture.template.shape, np.float32)}
    neutral, joints = rest(ours, **numbers)
    target, other = _face(ours, neutral, joints), _face(flame, flame.vertices, flame.joints)
    shape, rotation, move, on, apart = _neutral(
        neutral[target].astype(np.float64), flame, other, _eyes(ours, joints) - _eyes(flame, flame.joints)
    )
    on = target[on]
    resting, resting_joints = rest(flame, shape=shape.astype(np.float32))
    left = neutral[on] @ rotation.T + move - resting[other]  # what the shapes do not reach, moved along
    head = ours.joint("head")
    frames = len(capture.motion)
    rows = [flame.expression_names.index(f"exp{k:03d}") for k in range(EXPRESSIONS_USED)]
    expr, places = np.zeros((frames, EXPRESSIONS), np.float32), np.zeros((frames, 3))
    turned, jaws, eyes = np.zeros((frames, 3)), np.zeros((frames, 3)), np.zeros((frames, 6))
    errors = np.zeros(frames)
    for frame in range(frames):
        vectors, expressions = capture.motion.rotations[frame], capture.motion.expressions[frame]
        posed, posed_joints = rest(ours, **numbers, expression=expressions)
        skinning, world = joint_transforms(vectors, posed_joints, ours.parents, capture.motion.translations[frame])
        points = skin(posed[on], ours.weights[on], skinning).astype(np.float64)
        # FLAME's axes at rest from the world: back through the head, then as the neutral faces lie
        back = world[head, :3, :3].T
        wanted = ((points - world[head, :3, 3]) @ back.T + joints[head]) @ rotation.T + move - left
        own = np.zeros((len(flame.joint_names), 3))
        for name in ("jaw", "left_eye", "right_eye"):
            own[flame.joint(name)] = vectors[ours.joint(name)]
        weights = _expression(flame, resting, resting_joints, own, other, rows, wanted)
        found = _posed(flame, resting, resting_joints, own, other, rows, weights)
        errors[frame] = np.linalg.norm(found - wanted, axis=1).mean() * 1e3
        expr[frame, :EXPRESSIONS_USED] = weights
        whole = world[head, :3, :3] @ rotation.T
        shift = world[head, :3, 3] - world[head, :3, :3] @ joints[head] - whole @ move
        root = resting_joints[flame.joint("root")]
        turned[frame] = axis_angles_from_matrices(whole)
        places[frame] = shift - root + whole @ root
        jaws[frame], eyes[frame, :3], eyes[frame, 3:] = (
            to_flame(own[flame.joint(name)]) for name in ("jaw", "left_eye", "right_eye")
        )
    full = np.zeros(SHAPES, np.float32)
    full[: len(shape)] = shape
    params = FlameParams(
        full,
        expr,
        *(to_flame(turned).astype(np.float32), np.zeros((frames, 3), np.float32)),
        *(jaws.astype(np.float32), eyes.astype(np.float32), to_flame(places).astype(np.float32)),
    )
    return FlameFit(params, other, on, apart, errors)


def _eyes(arrays: TemplateArrays, joints: NDArray[np.floating]) -> Array:
    found: Array = joints[[arrays.joint("left_eye"), arrays.joint("right_eye")]].astype(np.float64).mean(0)
    return found


def _face(arrays: TemplateArrays, vertices: NDArray[np.floating], joints: NDArray[np.floating]) -> NDArray[np.int64]:
    """Skin of the face: before the eyes and a little behind, from the chin to the forehead; no eyeballs."""
    eye = _eyes(arrays, joints)
    moving = [arrays.joint(name) for name in ("left_eye", "right_eye")]
    names = [name for name in ("head", "jaw", "neck") if name in arrays.joint_names]
    own = arrays.weights[:, [arrays.joint(name) for name in names]].sum(1)
    still = (arrays.weights[:, moving].sum(1) < 0.01) & (own > 0.9)
    chin = vertices[:, 2] > eye[2] - 0.13
    front = (vertices[:, 1] < eye[1] + BEHIND_EYES_M) & (vertices[:, 2] < eye[2] + ABOVE_EYES_M)
    found = np.flatnonzero(still & chin & front)
    if "skin" in arrays.faces:
        found = np.intersect1d(found, arrays.group_vertices("skin"))
    return found.astype(np.int64)


def _neutral(
    points: Array, flame: TemplateArrays, face: NDArray[np.int64], apart: Array
) -> tuple[Array, Array, Array, NDArray[np.int64], float]:
    """Shape [60], rotation and move that take our neutral `points` onto FLAME's face, which of them each of FLAME's
    vertices `face` lies on, and the mean distance mm. apart: our eyes less FLAME's."""
    count = min(SHAPES_USED, len(flame.shape_names))
    basis = flame.shape_dirs[:count][:, face].astype(np.float64)
    start = flame.vertices[face].astype(np.float64)
    shape, rotation, move = np.zeros(count), np.eye(3), -apart
    for _ in range(ROUNDS):
        laid = points @ rotation.T + move
        now = start + np.tensordot(shape, basis, 1)
        distance, on = cKDTree(laid).query(now)
        weight = 1 / (1 + (distance / FAR_M) ** 2) / POINT_M**2
        target = laid[on]
        middle = (weight[:, None] * target).sum(0) / weight.sum()
        arm = target - middle
        turn = np.zeros((len(face), 3, 3))  # of the target by a small rotation
        turn[:, 0, 1], turn[:, 0, 2], turn[:, 1, 2] = arm[:, 2], -arm[:, 1], arm[:, 0]
        turn -= turn.transpose(0, 2, 1)
        rows = np.concatenate((basis.transpose(1, 2, 0), -turn, -np.tile(np.eye(3), (len(face), 1, 1))), 2)
        flat = rows.reshape(-1, count + 6)
        scaled = flat * np.repeat(weight, 3)[:, None]
        prior = np.concatenate((np.full(count, RIDGE), np.zeros(6)))
        error = (target - now).ravel()
        right = scaled.T @ error - prior * np.concatenate((shape, np.zeros(6)))
        step = np.linalg.solve(scaled.T @ flat + np.diag(prior + 1e-9), right)
        shape = shape + step[:count]
        small = rotation_matrices(step[count : count + 3])
        rotation = small @ rotation
        move = small @ (move - middle) + middle + step[count + 3 :]
    laid = points @ rotation.T + move
    distance, on = cKDTree(laid).query(start + np.tensordot(shape, basis, 1))
    return shape, rotation, move, on.astype(np.int64), float(distance.mean() * 1e3)


def _posed(
    flame: TemplateArrays,
    resting: NDArray[np.floating],
    joints: NDArray[np.floating],
    turned: Array,
    face: NDArray[np.int64],
    rows: list[int],
    weights: Array,
) -> Array:
    """[N, 3] FLAME's face with expressions and joints turned, the head at rest; pose correctives included."""
    vertices = resting[face].astype(np.float64) + np.tensordot(weights, _dirs(flame, face, rows), 1)
    if flame.pose_dirs is not None:
        change = (rotation_matrices(turned)[1:] - np.eye(3)).ravel()
        vertices = vertices + np.tensordot(change, flame.pose_dirs[:, face].astype(np.float64), 1)
    moved = joints + np.tensordot(weights, flame.joint_expression_dirs[rows], 1)
    skinning, _ = joint_transforms(turned, moved, flame.parents)
    found: Array = skin(vertices, flame.weights[face], skinning).astype(np.float64)
    return found


def _dirs(flame: TemplateArrays, face: NDArray[np.int64], rows: list[int]) -> Array:
    found = np.zeros((len(rows), len(face), 3))
    place = {int(vertex): row for row, vertex in enumerate(flame.expression_vertices)}
    held = np.array([place.get(int(vertex), -1) for vertex in face])
    found[:, held >= 0] = flame.expression_dirs[rows][:, held[held >= 0]]
    return found


def _expression(
    flame: TemplateArrays,
    resting: NDArray[np.floating],
    joints: NDArray[np.floating],
    turned: Array,
    face: NDArray[np.int64],
    rows: list[int],
    wanted: Array,
) -> Array:
    """[50] weights by ridge, in units of the file's standard deviations."""
    still = _posed(flame, resting, joints, turned, face, rows, np.zeros(len(rows)))
    skinning, _ = joint_transforms(turned, joints, flame.parents)
    blended = np.tensordot(flame.weights[face].astype(np.float64), skinning[:, :3, :3], 1)
    moved = (blended[None] @ _dirs(flame, face, rows)[..., None])[..., 0].reshape(len(rows), -1)
    matrix = moved @ moved.T / POINT_M**2 + RIDGE * np.eye(len(rows))
    found: Array = np.linalg.solve(matrix, moved @ (wanted - still).ravel() / POINT_M**2)
    return found
