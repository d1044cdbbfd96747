"""A fitted clip of a body as an ordinary capture: poses of the template before one camera, feet on the floor.

A video does not say where up is. It is taken to be where the backs point to in the mean; the floor is where the lowest
soles are, and the origin is under the person's mean place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.templates.opening import TemplateReference
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_fitting import BodyFit
from avatars.tracking.body_landmarks import BODY
from avatars.tracking.body_model import BodyModel
from avatars.tracking.tracked_capture import Crop, TrackedMotion
from shared.rotations import axis_angles_from_matrices
from shared.template import TemplateArrays, joint_transforms, rest, skin

SOLE_M = 0.0
FLOOR_SHARE = 0.1
BESIDE, ABOVE, BELOW = 0.10, 0.14, 0.06
"""How much of the picture goes along beside the outermost landmarks, above and below, in heights of the body."""


def body_shape(model: BodyModel, fit: BodyFit) -> tuple[float, ...]:
    """Shape coefficients of the fitted person, as captures write them."""
    shape = np.zeros(max(model.shape_rows) + 1)
    shape[list(model.shape_rows)] = fit.shape
    return tuple(round(float(value), 5) for value in shape)


def choose_body_crop(found: BodyDetections, rows: NDArray[np.int64], size_px: tuple[int, int], most_px: int) -> Crop:
    """A part of the pictures that holds the whole person in all rows; its longer side is stored with `most_px`."""
    points = found.points[rows][:, :BODY, :2].astype(np.float64)
    tall = float(np.median(np.ptp(points[..., 1], axis=1)))
    low = points.min((0, 1)) - [BESIDE * tall, ABOVE * tall]
    high = points.max((0, 1)) + [BESIDE * tall, BELOW * tall]
    low, high = np.floor(np.maximum(low, 0)).astype(int), np.ceil(np.minimum(high, size_px)).astype(int)
    wide, high_px = int(high[0] - low[0]), int(high[1] - low[1])
    stored = max(1, round(wide * min(1.0, most_px / max(wide, high_px))))
    return Crop(int(low[0]), int(low[1]), wide, stored, high_px)


def body_motion(
    fit: BodyFit, rows: NDArray[np.int64], body: TemplateArrays, reference: TemplateReference
) -> TrackedMotion:
    """The kept frames of a fit as poses of the body."""
    state = fit.state.at(rows)
    upright = up_rotation(state.rotations[:, 0], state.rotations[:, body.joint("spine1")])
    place = state.place @ upright.T
    rotations = state.rotations.copy()
    rotations[:, 0] = upright @ rotations[:, 0]
    vectors = axis_angles_from_matrices(rotations)
    resting, joints = rest(body, preset=reference.preset, shape=np.array(reference.shape, np.float32))
    soles = body.group_vertices("skin")
    soles = soles[resting[soles, 2] < resting[soles, 2].min() + 0.08]
    lowest = np.empty(len(rows))
    for row in range(len(rows)):
        skinning, _ = joint_transforms(vectors[row], joints, body.parents, place[row] - joints[0])
        lowest[row] = skin(resting[soles], body.weights[soles], skinning)[:, 2].min()
    floor = float(np.quantile(lowest, FLOOR_SHARE)) - SOLE_M
    shift = np.array([-place[:, 0].mean(), -place[:, 1].mean(), -floor])
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3], world_from_camera[:3, 3] = upright, shift
    return TrackedMotion(
        vectors.astype(np.float32),
        (place + shift - joints[0]).astype(np.float32),
        np.zeros((len(rows), len(body.expression_names)), np.float32),
        world_from_camera,
    )


def up_rotation(pelvis: NDArray[np.float64], spine: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 3] world from camera: z along the mean of the backs of F bodies, y from the camera into the picture."""
    backs = (pelvis @ spine)[:, :, 2] + pelvis[:, :, 2]
    up = backs.mean(0) / max(float(np.linalg.norm(backs.mean(0))), 1e-9)
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    ahead /= np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), ahead, up])
