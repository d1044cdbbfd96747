"""Measures where a detector's landmarks of a body lie on the template, from pictures whose bodies are known exactly.

Pictures need not follow each other; several people in many poses from all sides are wanted. Each counts twice, once in
a mirror, so that left and right agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_landmarks import (
    BODY,
    MAIN_JOINTS,
    POINTS,
    BodyLandmarks,
    mirrored_points,
    point_owners,
    ray_rotations,
)
from shared.template import TemplateArrays, joint_transforms, rest

Array = NDArray[np.float64]
RIDGE = 1.0
ROUNDS, ROBUST_M = 6, 0.03
SURE = 0.4
LEAST_SPREAD_M, MOST_SPREAD_M = 0.008, 0.08
FLIP = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class TrueBody:
    """One body, exactly, in the camera's axes. joints: [J, 3] m; frames: [J, 3, 3] camera from joint; focal_px,
    centre_px of the picture."""

    joints: Array
    frames: Array
    focal_px: float
    centre_px: tuple[float, float]


def true_body(capture: Capture, arrays: TemplateArrays, index: int) -> TrueBody:
    """Of picture `index`."""
    image = capture.images[index]
    camera, motion = capture.cameras[image.camera], capture.motion
    _, joints = rest(arrays, preset=capture.template.preset, shape=np.array(capture.template.shape, np.float32))
    world = joint_transforms(motion.rotations[image.frame], joints, arrays.parents, motion.translations[image.frame])[1]
    placed = np.linalg.inv(camera.world_from_camera) @ world
    centre = float(camera.K[0, 2]), float(camera.K[1, 2])
    return TrueBody(placed[:, :3, 3], placed[:, :3, :3], float(camera.K[0, 0]), centre)


def mirrored_body(body: TrueBody, arrays: TemplateArrays) -> TrueBody:
    """The same in a mirror; its principal point is taken to be 0."""
    names = list(arrays.joint_names)
    other = [names.index(_other_side(name)) for name in names]
    return TrueBody(body.joints[other] * FLIP, FLIP[:, None] * body.frames[other] * FLIP, body.focal_px, (0.0, 0.0))


def _other_side(name: str) -> str:
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def calibrate_bodies(
    bodies: Sequence[TrueBody],
    found: BodyDetections,
    person: Sequence[int],
    arrays: TemplateArrays,
    provenance: Mapping[str, Any],
) -> BodyLandmarks:
    """The table, from detections of as many pictures. person: whose each is, to measure on people not learned from."""
    owners = point_owners()
    places = np.array([arrays.joint(name) for name in owners])
    seen = found.seen
    all_bodies, pixels, sure, world, whose = [], [], [], [], []
    mirror = mirrored_points()
    for row in np.flatnonzero(seen):
        body = bodies[row]
        flat = found.points[row].astype(np.float64)
        flat[:, :2] -= np.asarray(body.centre_px)
        space = found.world[row, :BODY].astype(np.float64)
        for one, points, depth in (
            (body, flat, space),
            (mirrored_body(body, arrays), flat[mirror] * [-1, 1, 1], space[mirror[:BODY]] * FLIP),
        ):
            all_bodies.append(one)
            pixels.append(points[:, :2])
            sure.append(points[:, 2])
            world.append(depth)
            whose.append(person[row])
    offsets, spread = _offsets(all_bodies, np.array(pixels), np.array(sure), places)
    target = np.stack([_around(body, points) for body, points in zip(all_bodies, pixels, strict=True)])
    terms = np.concatenate((np.array(world).reshape(len(world), -1), np.ones((len(world), 1))), 1)
    solved, apart = _regressed(terms, target, np.array(whose))
    return BodyLandmarks(
        owners, offsets, np.clip(spread, LEAST_SPREAD_M, MOST_SPREAD_M), solved, apart, arrays.digest, provenance
    )


def _around(body: TrueBody, pixels: Array) -> Array:
    """[22, 3] m of the main joints around the pelvis, along the ray to the detector's hips."""
    ray = ray_rotations(pixels[None, 23:25].mean(1), body.focal_px, (0.0, 0.0))[0]
    found: Array = (body.joints[:MAIN_JOINTS] - body.joints[0]) @ ray
    return found


def _offsets(bodies: Sequence[TrueBody], pixels: Array, sure: Array, places: NDArray[np.int64]) -> tuple[Array, Array]:
    """[75, 3] m and spread [75] m by robust least squares of each landmark's pixels at its joint's depth."""
    joints, frames = np.stack([b.joints for b in bodies]), np.stack([b.frames for b in bodies])
    focal = np.array([b.focal_px for b in bodies])
    offsets, spread = np.zeros((POINTS, 3)), np.full(POINTS, MOST_SPREAD_M)
    for point in range(POINTS):
        rows = np.flatnonzero(np.isfinite(pixels[:, point]).all(1) & (sure[:, point] > SURE))
        if len(rows) < 20:
            continue
        owner = places[point]
        for _ in range(ROUNDS):
            at = joints[rows, owner] + frames[rows, owner] @ offsets[point]
            depth = at[:, 2:]
            ray = pixels[rows, point] / focal[rows, None]
            error = ray * depth - at[:, :2]
            derivative = frames[rows, owner][:, :2] - ray[..., None] * frames[rows, owner][:, 2:]
            distance = np.linalg.norm(error, axis=1)
            weight = (1 / (1 + (distance / ROBUST_M) ** 2))[:, None, None]
            turned = (derivative * weight).transpose(0, 2, 1)
            matrix = (turned @ derivative).sum(0) + 2.0 * np.eye(3)
            right = (turned @ error[..., None])[..., 0].sum(0) - 2.0 * offsets[point]
            offsets[point] = offsets[point] + np.linalg.solve(matrix, right)
        spread[point] = float(np.sqrt((np.minimum(distance, 3 * ROBUST_M) ** 2).mean() / 2))
    return offsets, spread


def _regressed(terms: Array, target: Array, whose: NDArray[np.int64]) -> tuple[Array, Array]:
    """[terms, 66] by ridge, and [22, 3] m of its error on people left out."""
    flat = target.reshape(len(target), -1)

    def solve(rows: NDArray[np.bool_]) -> Array:
        matrix = terms[rows].T @ terms[rows] + RIDGE * np.eye(terms.shape[1])
        found: Array = np.linalg.solve(matrix, terms[rows].T @ flat[rows])
        return found

    wrong = np.zeros_like(flat)
    people = np.unique(whose)
    for one in people:
        kept = whose != one if len(people) > 1 else np.ones(len(whose), np.bool_)
        wrong[whose == one] = terms[whose == one] @ solve(kept) - flat[whose == one]
    middle = np.quantile(np.abs(wrong), 0.68, axis=0).reshape(MAIN_JOINTS, 3)
    return solve(np.ones(len(terms), np.bool_)), np.maximum(middle, 0.01)
