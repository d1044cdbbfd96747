"""One fit of the template's skeleton to a whole clip of a body: shape shared, poses tied to their neighbours.

Gauss-Newton over pixels of landmarks (heavy-tailed) and the detector's places in space, with joint limits and rest
poses as priors; the shape by a Schur complement, then the frames by a block-tridiagonal solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_landmarks import BODY, HAND, LEFT_HAND, MAIN_JOINTS, RIGHT_HAND, ray_rotations
from avatars.tracking.body_limits import limits_of
from avatars.tracking.body_model import BodyModel, BodyState, PosedBody
from avatars.tracking.chain import solve_chain
from avatars.tracking.landmark_model import left_jacobian, pinhole_derivative
from shared.errors import BadCapture
from shared.rotations import axis_angles_from_matrices
from shared.template import rotation_matrices

Array = NDArray[np.float64]
Tell = Callable[[float], None]
CHUNK = 24
TORSO = ("pelvis", "left_hip", "right_hip", "spine3", "neck", "left_shoulder", "right_shoulder")
LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
UNLIKELY = 1 / 0.06**2
"""Weight per rad^2 beyond a joint's limits."""


@dataclass(frozen=True)
class BodyFitSettings:
    """How a clip is fitted. space_share: of the detector's places in space, whose errors are alike from frame to frame.
    smooth: 0 leaves frames alone. alike: of the frames' number that counts against the prior of the shape. height_m: of
    the person, 0 unknown. step_*: change between two frames of a 25th of a second that counts as one sigma."""

    shape_rounds: int = 8
    frame_rounds: int = 5
    smooth: float = 4.0
    space_share: float = 0.5
    far_m: float = 2.5
    shape_spread: float = 1.0
    alike: float = 1.0
    hand_space_m: float = 0.012
    height_m: float = 0.0
    height_spread_m: float = 0.01
    step_place_m: float = 0.02
    step_turn_rad: float = 0.10
    step_finger_rad: float = 0.15


@dataclass(frozen=True, eq=False)
class BodyFit:
    """A fitted clip. shape: [S] of the model's modes. residual_m: [F] median distance of the body's landmarks seen from
    those fitted, in the image plane at the body's depth; NaN where there was none."""

    state: BodyState
    shape: Array
    focal_px: float
    residual_m: Array


class BodyFitter:
    """Fits detections of one person before a camera that stands still.

    used: [F] frames whose detections count; the others are bridged. cuts: [F - 1], true where a frame does not follow
    from the one before. Raises BadCapture where no frame shows a body.
    """

    def __init__(
        self,
        model: BodyModel,
        found: BodyDetections,
        used: NDArray[np.bool_],
        centre_px: tuple[float, float],
        focal_px: float,
        times_s: Array,
        *,
        cuts: NDArray[np.bool_] | None = None,
        settings: BodyFitSettings = BodyFitSettings(),
    ) -> None:
        if not used.any():
            raise BadCapture("No picture shows a whole person", do="Film the whole body, in even light")
        self.model, self.found, self.used, self.settings = model, found, used, settings
        self.centre_px, self.focal_px = centre_px, focal_px
        self.shape = np.zeros(len(model.shape_rows))
        self.pixels = np.nan_to_num(found.points[..., :2].astype(np.float64))
        self.weights = self._pixel_weights()
        self.rays = ray_rotations(self.pixels[:, 23:25].mean(1), focal_px, centre_px)
        world = np.nan_to_num(found.world.astype(np.float64))
        self.space = (self.rays[:, None] @ model.where.joints_of(world[:, :BODY])[..., None])[..., 0]
        self.hands = (self.rays[:, None] @ world[:, BODY:, :, None])[..., 0]
        self.limits = limits_of(model.names)
        fingers = [name[-1] in "123" and "spine" not in name for name in np.array(model.names)[model.free]]
        turns = np.where(fingers, settings.step_finger_rad, settings.step_turn_rad)
        step = np.concatenate(([settings.step_place_m] * 3, np.repeat(turns, 3)))
        gap_s = np.maximum(np.diff(np.asarray(times_s, np.float64)), 1e-3)
        tied = np.ones(len(gap_s)) if cuts is None else 1.0 - np.asarray(cuts, np.float64)
        self.ties = settings.smooth * (tied / (25 * gap_s) ** 2)[:, None] / step**2
        self.state = self._started()

    def _pixel_weights(self) -> Array:
        """[F, 75] per m^2, without the distance's own weight; 0 for what is not seen."""
        sure = np.clip(np.nan_to_num(self.found.points[..., 2].astype(np.float64)), 0, 1) ** 2
        sure *= self.used[:, None]
        weights: Array = sure / self.model.where.spread_m**2
        return weights

    def _started(self) -> BodyState:
        """Torso by the best rotation, limbs along the detector's bones, each frame by itself; then bridged."""
        model, names = self.model, list(self.model.names)
        count = len(self.used)
        rest = model.arrays.joints.astype(np.float64)
        torso = [names.index(name) for name in TORSO]
        rotations = rotation_matrices(np.broadcast_to(self.limits.rest, (count, len(names), 3)))
        left, _, right = np.linalg.svd(np.einsum("fja,jb->fab", self.space[:, torso], rest[torso] - rest[0]))
        turn = np.ones((count, 3))
        turn[:, 2] = np.linalg.det(left @ right)
        rotations[:, 0] = (left * turn[:, None]) @ right
        for joint, child in LIMBS:
            for side in ("left", "right"):
                self._swing(rotations, names.index(f"{side}_{joint}"), names.index(f"{side}_{child}"))
        posed = model.posed(BodyState(np.zeros((count, 3)), rotations), self.shape)
        place = np.zeros((count, 3))
        rows = np.flatnonzero(self.used)
        for row in rows:
            place[row] = self._placed(posed.points[row], row)
        nearest = rows[np.abs(np.arange(count)[:, None] - rows).argmin(1)]
        return BodyState(place[nearest], rotations[nearest])

    def _swing(self, rotations: Array, joint: int, child: int) -> None:
        """Turn a joint the shortest way so that its bone points as the detector says."""
        frames = self.model.posed(BodyState(np.zeros((len(rotations), 3)), rotations), self.shape).frames
        above = frames[:, self.model.parents[joint]]
        seen = (above.transpose(0, 2, 1) @ (self.space[:, child] - self.space[:, joint])[..., None])[..., 0]
        bone = self.model.bones[child]
        for row in np.flatnonzero(self.used):
            a, b = bone / np.linalg.norm(bone), seen[row] / max(float(np.linalg.norm(seen[row])), 1e-9)
            axis = np.cross(a, b)
            sine, cosine = float(np.linalg.norm(axis)), float(a @ b)
            if sine > 1e-6:
                rotations[row, joint] = rotation_matrices(axis / sine * np.arctan2(sine, cosine))

    def _placed(self, points: Array, row: int) -> Array:
        """Where the pelvis must be for points [75, 3] around it to be seen where they are (linear)."""
        seen = (self.pixels[row, :BODY] - np.asarray(self.centre_px)) / self.focal_px
        weight = np.sqrt(self.weights[row, :BODY] * self.model.where.spread_m[:BODY] ** 2)[:, None]
        rows = np.zeros((BODY, 2, 3))
        rows[:, 0, 0] = rows[:, 1, 1] = 1
        rows[:, :, 2] = -seen
        right = seen * points[:BODY, 2:] - points[:BODY, :2]
        solved = np.linalg.lstsq((rows * weight[..., None]).reshape(-1, 3), (right * weight).ravel(), rcond=None)[0]
        place: Array = solved if solved[2] > 0.2 else np.array([0.0, 0.0, 3.0])
        return place

    def run(self, tell: Tell = lambda share: None) -> BodyFit:
        """The whole fit; `tell` hears the share that is done."""
        settings = self.settings
        work = settings.shape_rounds + settings.frame_rounds
        for turn in range(settings.shape_rounds):
            self._shape_round(damping=10.0 ** (1 - turn))
            tell((turn + 1) / work)
        for turn in range(settings.frame_rounds):
            self._frame_round()
            tell((settings.shape_rounds + turn + 1) / work)
        return BodyFit(self.state, self.shape, self.focal_px, self.residuals())

    def _equations(self, index: NDArray[np.int64]) -> tuple[Array, Array]:
        """Normal equations [f, U + S, …] of some frames, priors of the frames included."""
        part, model = self.state.at(index), self.model
        posed = model.posed(part, self.shape, derivatives=True)
        assert posed.of_points is not None
        flat = pinhole_derivative(posed.points, self.focal_px) @ posed.of_points
        pixels = self.focal_px * posed.points[..., :2] / posed.points[..., 2:] + np.asarray(self.centre_px)
        error = self.pixels[index] - pixels
        depth = part.place[:, 2] / self.focal_px
        distance = np.linalg.norm(error, axis=2) * depth[:, None]
        far = self.settings.far_m * model.where.spread_m
        weight = self.weights[index] * depth[:, None] ** 2 / (1 + (distance / far) ** 2)
        size = flat.shape[-1]
        rows, wrong = flat.reshape(len(index), -1, size), error.reshape(len(index), -1)
        scaled = rows * np.repeat(weight, 2, axis=1)[..., None]
        matrix, right = scaled.transpose(0, 2, 1) @ rows, (scaled.transpose(0, 2, 1) @ wrong[..., None])[..., 0]
        for more, pull in (self._of_space(index, posed), self._of_hands(index, posed)):
            matrix += more
            right += pull
        self._add_priors(part, matrix, right)
        return matrix, right

    def _of_space(self, index: NDArray[np.int64], posed: PosedBody) -> tuple[Array, Array]:
        """Places of the main joints around the pelvis, each with its own spread along and across the ray."""
        assert posed.of_joints is not None
        into = self.rays[index].transpose(0, 2, 1)[:, None]
        relative = posed.joints[:, :MAIN_JOINTS] - posed.joints[:, :1]
        rows = into @ (posed.of_joints - posed.of_joints[:, :1])
        error = (into @ (self.space[index] - relative)[..., None])[..., 0]
        weight = self.settings.space_share * self.used[index, None, None] / self.model.where.joint_spread_m**2
        weight = weight / (1 + (np.linalg.norm(error / self.model.where.joint_spread_m, axis=2)[..., None] / 4) ** 2)
        return _normal(rows, error, weight)

    def _of_hands(self, index: NDArray[np.int64], posed: PosedBody) -> tuple[Array, Array]:
        """Places of a hand's landmarks around its wrist."""
        assert posed.of_points is not None
        parts = []
        for place, hand in enumerate((LEFT_HAND, RIGHT_HAND)):
            seen = self.hands[index, place * HAND : (place + 1) * HAND]
            seen = seen - seen[:, :1]
            points = posed.points[:, hand] - posed.points[:, hand][:, :1]
            rows = posed.of_points[:, hand] - posed.of_points[:, hand][:, :1]
            sure = self.found.points[index, hand, 2].astype(np.float64) * self.used[index, None]
            weight = np.broadcast_to(np.nan_to_num(sure)[..., None], points.shape) / self.settings.hand_space_m**2
            error = np.where(weight > 0, seen - points, 0.0)
            far = (np.linalg.norm(error, axis=2)[..., None] / (2.5 * self.settings.hand_space_m)) ** 2
            parts.append(_normal(rows, error, 0.3 * weight / (1 + far)))
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]

    def _add_priors(self, part: BodyState, matrix: Array, right: Array) -> None:
        """Rest poses, and walls at the joints' limits, on the axis-angle vectors of the free joints but the pelvis."""
        joints = self.model.free[1:]
        vectors = axis_angles_from_matrices(part.rotations[:, joints])
        low, high = self.limits.low[joints], self.limits.high[joints]
        inside = np.clip(vectors, low, high)
        beyond = (vectors != inside) * UNLIKELY
        weight = 1 / self.limits.spread[joints] ** 2 + beyond
        pull = (self.limits.rest[joints] - vectors) / self.limits.spread[joints] ** 2 + beyond * (inside - vectors)
        # a small turn d from the left changes the vector by the inverse of the left Jacobian times d
        through = np.linalg.inv(left_jacobian(vectors))
        turned = through.transpose(0, 1, 3, 2)
        blocks = turned @ (weight[..., None] * through)
        pulls = (turned @ pull[..., None])[..., 0]
        for place in range(len(joints)):
            at = slice(6 + 3 * place, 9 + 3 * place)
            matrix[:, at, at] += blocks[:, place]
            right[:, at] += pulls[:, place]

    def _shape_round(self, damping: float) -> None:
        size, shared = self.model.frame_size, len(self.shape)
        rows = np.arange(size)
        used = np.flatnonzero(self.used)
        # the detector errs alike in all pictures, so more of them do not make a shape as much surer
        prior = max(1.0, self.settings.alike * len(used)) / self.settings.shape_spread**2
        middle, reduced = prior * np.eye(shared), -prior * self.shape
        parts: list[tuple[NDArray[np.int64], Array]] = []
        if self.settings.height_m > 0:
            height, slope = self.model.height(self.shape)
            sure = len(used) / self.settings.height_spread_m**2
            middle += sure * np.outer(slope, slope)
            reduced += sure * slope * (self.settings.height_m - height)
        for first in range(0, len(used), CHUNK):
            index = used[first : first + CHUNK]
            matrix, right = self._equations(index)
            matrix[:, rows, rows] *= 1 + 0.01 * damping
            matrix[:, rows, rows] += damping
            cross = matrix[:, :size, size:]
            solved = np.linalg.solve(matrix[:, :size, :size], np.concatenate((cross, right[:, :size, None]), 2))
            turned = cross.transpose(0, 2, 1) @ solved
            middle += matrix[:, size:, size:].sum(0) - turned[..., :-1].sum(0)
            reduced += right[:, size:].sum(0) - turned[..., -1].sum(0)
            parts.append((index, solved))
        step = np.linalg.solve(middle + damping * np.eye(shared), reduced)
        for index, solved in parts:
            self._put(index, solved[..., -1] - solved[..., :-1] @ step)
        self.shape = self.shape + step

    def _put(self, index: NDArray[np.int64], step: Array) -> None:
        """Move frames by steps of at most half a radian a joint."""
        largest = np.abs(step[:, 3:]).max(1, keepdims=True)
        part = self.model.moved(self.state.at(index), step * np.minimum(1, 0.5 / np.maximum(largest, 1e-9)))
        place, rotations = self.state.place.copy(), self.state.rotations.copy()
        place[index], rotations[index] = part.place, part.rotations
        self.state = BodyState(place, rotations)

    def _frame_round(self) -> None:
        frames, size = len(self.used), self.model.frame_size
        blocks, right = np.zeros((frames, size, size)), np.zeros((frames, size))
        for first in range(0, frames, CHUNK):
            index = np.arange(first, min(first + CHUNK, frames))
            matrix, values = self._equations(index)
            blocks[index], right[index] = matrix[:, :size, :size], values[:, :size]
        rows = np.arange(size)
        blocks[:, rows, rows] += 1e-3
        if frames > 1:
            pull = self.ties * self._changes()
            blocks[:-1, rows, rows] += self.ties
            blocks[1:, rows, rows] += self.ties
            right[:-1] += pull
            right[1:] -= pull
        self._put(np.arange(frames), solve_chain(blocks, right, self.ties))

    def _changes(self) -> Array:
        """[F - 1, U] from each frame to the next."""
        turned = self.state.rotations[:, self.model.free]
        change = axis_angles_from_matrices(turned[1:] @ turned[:-1].swapaxes(-1, -2))
        return np.concatenate((np.diff(self.state.place, axis=0), change.reshape(len(change), -1)), 1)

    def residuals(self) -> Array:
        """[F] m: `BodyFit.residual_m`."""
        posed = self.model.posed(self.state, self.shape)
        pixels = self.focal_px * posed.points[..., :2] / posed.points[..., 2:] + np.asarray(self.centre_px)
        distance = np.linalg.norm(self.pixels - pixels, axis=2)[:, :BODY]
        found: Array = np.median(distance, axis=1) * self.state.place[:, 2] / self.focal_px
        return np.where(self.used, found, np.nan)


def _normal(rows: Array, error: Array, weight: Array) -> tuple[Array, Array]:
    """J^T W J and J^T W r of derivatives [f, N, 3, U], residuals and weights [f, N, 3]."""
    count, size = len(rows), rows.shape[-1]
    flat, scaled = rows.reshape(count, -1, size), (rows * weight[..., None]).reshape(count, -1, size)
    turned = scaled.transpose(0, 2, 1)
    return turned @ flat, (turned @ error.reshape(count, -1, 1))[..., 0]
