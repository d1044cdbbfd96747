"""One fit for a whole clip: identity and focal length over keyframes, then every frame tied to its neighbours.

Gauss-Newton throughout. Keyframes share their unknowns by a Schur complement; the frames of the clip are a chain
(`chain.py`). Landmarks count by the detector's measured covariance where it is known; else each by its own spread, with
Cauchy weights and as if only a share of them were independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.chain import solve_chain
from avatars.tracking.first_pose import first_poses
from avatars.tracking.landmark_model import POSE, TURNS, FrameState, LandmarkModel
from shared.errors import BadCapture
from shared.rotations import axis_angles_from_matrices

Array = NDArray[np.float64]
Tell = Callable[[float], None]
More = Callable[[int], tuple[Array, Array] | None]
"""What else is known of a frame: J^T W J [U, U] and J^T W e [U] to be added to its equations."""
UNSEEN = ("eyeLook", "tongueOut", "mouthClose")
"""Expressions that begin so are never fitted: eyes turn by their joints, the others move no landmark."""
RIGID_LANDMARKS = 150
CHUNK = 48


@dataclass(frozen=True)
class FitSettings:
    """How a clip is fitted. Spreads are standard deviations: of priors at rest, and of a change in a 25th of a second.

    independent_share: of landmarks without a measured covariance. floor_m: added to the measured one. personal_m: how
    far a person's landmarks may lie beside the template's. keyframes: that share identity and focal length.
    smooth: 0 leaves frames alone; larger ties them more. focal_spread: of log focal, where it is not known.
    """

    keyframes: int = 60
    keyframe_rounds: int = 6
    personal_rounds: int = 2
    frame_rounds: int = 6
    smooth: float = 0.5
    focal_spread: float = 0.1
    floor_m: float = 0.003
    personal_m: float = 0.0015
    independent_share: float = 0.12
    jaw_spread_rad: tuple[float, float] = (0.2, 0.05)
    gaze_spread_rad: float = 0.35
    action_spread: float = 0.35
    jaw_open_spread: float = 0.1
    identity_spread: float = 0.7
    step_turn_rad: float = 0.03
    step_place_m: float = 0.005
    step_jaw_rad: float = 0.05
    step_gaze_rad: float = 0.12
    step_action: float = 0.2


@dataclass(frozen=True, eq=False)
class ClipFit:
    """A fitted clip. identity: [K] of the model's modes; offsets: [N, 3] m of this person's landmarks; residual_m: [F]
    median distance of the landmarks seen from those fitted, in the image plane at the head's depth, NaN where a frame
    had none."""

    state: FrameState
    identity: Array
    focal_px: float
    offsets: Array
    residual_m: Array


class _Noise:
    """How much each landmark counts: turns derivatives and residuals px into weighted normal equations."""

    def __init__(self, model: LandmarkModel, settings: FitSettings) -> None:
        self.own, self.modes, self.share = 1 / np.maximum(model.where.spread_m, 4e-4) ** 2, None, 1.0
        self.spread_m = np.maximum(model.where.spread_m, 4e-4)
        if model.response is None:
            self.share = settings.independent_share
            return
        own = model.response.own + settings.floor_m**2
        small = model.response.modes / own[:, None]
        inner = np.eye(small.shape[1]) + model.response.modes.T @ small
        self.own_rows = 1 / own
        self.modes = small @ np.linalg.inv(np.linalg.cholesky(inner)).T  # inverse covariance: own_rows - modes modes^T

    def normal(self, derivative: Array, residual: Array, m_per_px: Array) -> tuple[Array, Array]:
        """J^T S J [F, U, U] and J^T S r [F, U] of derivatives [F, N, 2, U] and residuals [F, N, 2] in px."""
        frames, count, _, size = derivative.shape
        rows = derivative.reshape(frames, 2 * count, size) * m_per_px[:, None, None]
        error = residual.reshape(frames, 2 * count, 1) * m_per_px[:, None, None]
        if self.modes is None:
            distance = np.linalg.norm(residual, axis=2) * m_per_px[:, None]
            weight = self.share * self.own / (1 + (distance / (2.5 * self.spread_m)) ** 2)
            scaled = rows * np.repeat(weight, 2, axis=1)[..., None]
            turned = scaled.transpose(0, 2, 1)
            return turned @ rows, (turned @ error)[..., 0]
        scaled = (rows * self.own_rows[:, None]).transpose(0, 2, 1)
        left, right = rows.transpose(0, 2, 1) @ self.modes, self.modes.T @ error
        return scaled @ rows - left @ left.transpose(0, 2, 1), (scaled @ error - left @ right)[..., 0]

    def landmark_weights(self, distance_m: Array) -> Array:
        """[F, N] weights per m^2 of landmarks taken one by one."""
        return self.share * self.own / (1 + (distance_m / (2.5 * self.spread_m)) ** 2)


class ClipFitter:
    """Fits landmarks [F, N, 2] px of one person (rows of NaN: not seen) seen by a camera that stands still.

    centre_px: principal point. times_s: [F] of the frames. cuts: [F - 1], true where a frame does not follow from the
    one before. focal_known: the focal length is kept. Raises BadCapture where no frame shows a face.
    """

    def __init__(
        self,
        model: LandmarkModel,
        landmarks: Array,
        centre_px: tuple[float, float],
        focal_px: float,
        times_s: Array,
        *,
        focal_known: bool = True,
        cuts: NDArray[np.bool_] | None = None,
        settings: FitSettings = FitSettings(),
    ) -> None:
        self.model, self.settings, self.centre_px = model, settings, centre_px
        self.landmarks = np.asarray(landmarks, np.float64)[..., :2]
        self.seen = np.isfinite(self.landmarks).all((1, 2))
        if not self.seen.any():
            raise BadCapture("No picture shows a face", do="Film the face from the front, larger and in better light")
        self.focal_px = self.first_focal_px = focal_px
        self.focal_known = focal_known
        self.identity = np.zeros(model.identity_size)
        self.noise = _Noise(model, settings)
        names, count = model.expression_names, len(model.expression_names)
        spread = np.full(count, settings.action_spread)
        spread[names.index("jawOpen")] = settings.jaw_open_spread  # the joint opens the mouth
        spread[[row for row, name in enumerate(names) if name.startswith(UNSEEN)]] = 1e-5
        gaze = [settings.gaze_spread_rad] * 4
        self.prior = 1 / np.concatenate(([1e3] * POSE, settings.jaw_spread_rad, gaze, spread)) ** 2
        step = [settings.step_turn_rad] * 3 + [settings.step_place_m] * 3 + [settings.step_jaw_rad] * 2
        gap_s = np.maximum(np.diff(np.asarray(times_s, np.float64)), 1e-3)
        self.step = np.concatenate((step, [settings.step_gaze_rad] * 4, [settings.step_action] * count)) ** 2
        tied = np.ones(len(gap_s)) if cuts is None else 1.0 - np.asarray(cuts, np.float64)
        self.ties = settings.smooth * (tied / (25 * gap_s) ** 2)[:, None] / self.step
        self.state = self._started()

    def _started(self) -> FrameState:
        """Every frame by itself; frames without a face take the pose of the nearest one with."""
        rigid = np.argsort(self.model.where.spread_m - self.model.rigid_weights)[:RIGID_LANDMARKS]
        weights = self.model.rigid_weights[rigid] / np.maximum(self.model.where.spread_m[rigid], 1e-3) ** 2
        points = self.model.points + self.model.offsets + np.tensordot(self.identity, self._identity_modes(), 1)
        rows = np.flatnonzero(self.seen)
        rotation, place = first_poses(
            points[rigid], self.landmarks[rows][:, rigid], self.focal_px, self.centre_px, weights
        )
        nearest = np.abs(np.arange(len(self.seen))[:, None] - rows).argmin(1)
        frames = len(self.seen)
        return FrameState(
            rotation[nearest],
            place[nearest],
            np.zeros((frames, TURNS)),
            np.zeros((frames, len(self.model.expression_names))),
        )

    def _identity_modes(self) -> Array:
        return self.model.modes[: self.model.identity_size]

    def run(self, tell: Tell = lambda share: None) -> ClipFit:
        """The whole fit; `tell` hears the share that is done."""
        settings = self.settings
        seen = np.flatnonzero(self.seen)
        keys = seen[np.unique(np.linspace(0, len(seen) - 1, min(settings.keyframes, len(seen))).astype(np.int64))]
        rounds = settings.keyframe_rounds + 3 * settings.personal_rounds
        work = rounds * len(keys) + settings.frame_rounds * len(self.seen)
        done = 0
        for _ in range(settings.keyframe_rounds):
            self._keyframe_round(keys)
            done += len(keys)
            tell(done / work)
        for _ in range(settings.personal_rounds):
            self._personal_round(keys)
            for _ in range(3):
                self._keyframe_round(keys)
                done += len(keys)
                tell(done / work)
        self.state = self._started()
        for _ in range(settings.frame_rounds):
            self.frame_round()
            done += len(self.seen)
            tell(done / work)
        return self.found()

    def found(self) -> ClipFit:
        """The fit as it is now."""
        return ClipFit(self.state, self.identity, self.focal_px, self.model.offsets, self.residuals())

    def _prior(self, state: FrameState) -> tuple[Array, Array]:
        """Weights [F, U] and pulls [F, U] towards rest, much stronger outside of what a face can do."""
        values = np.concatenate((np.zeros((len(state), POSE)), state.turns, state.weights), 1)
        weight, target = np.broadcast_to(self.prior, values.shape).copy(), np.zeros_like(values)
        actions = slice(POSE + TURNS, None)
        low, high = values[:, actions] < 0, values[:, actions] > 1
        weight[:, actions][low] = np.maximum(weight[:, actions][low], 1 / 0.02**2)
        weight[:, actions][high] = 1 / 0.05**2
        target[:, actions][high] = 1.0
        closed = values[:, POSE] < 0
        weight[closed, POSE] = 1 / 0.01**2
        return weight, weight * (target - values)

    def _equations(self, index: NDArray[np.int64], *, shared: bool) -> tuple[Array, Array]:
        """Normal equations [f, U (+ K + 1), …] of some frames with priors; frames without a face have these alone."""
        part = self.state.at(index)
        found = self.model.linearised(part, self.identity, self.focal_px, self.centre_px, shared=shared)
        derivative = found.of_frame
        if found.of_shared is not None:
            derivative = np.concatenate((derivative, found.of_shared), -1)
        seen = self.seen[index]
        residual = np.where(seen[:, None, None], self.landmarks[index] - found.pixels, 0.0)
        scale = found.points[..., 2].mean(1) / self.focal_px * seen
        matrix, right = self.noise.normal(derivative, residual, scale)
        weight, pull = self._prior(part)
        rows = np.arange(self.model.frame_size)
        matrix[:, rows, rows] += weight
        right[:, rows] += pull
        return matrix, right

    def _keyframe_round(self, keys: NDArray[np.int64]) -> None:
        size, shared = self.model.frame_size, self.model.identity_size + 1
        middle, reduced = np.zeros((shared, shared)), np.zeros(shared)
        parts = []
        for first in range(0, len(keys), CHUNK):
            index = keys[first : first + CHUNK]
            matrix, right = self._equations(index, shared=True)
            own, cross = matrix[:, :size, :size], matrix[:, :size, size:]
            solved = np.linalg.solve(own, np.concatenate((cross, right[:, :size, None]), 2))
            turned = cross.transpose(0, 2, 1) @ solved
            middle += matrix[:, size:, size:].sum(0) - turned[..., :-1].sum(0)
            reduced += right[:, size:].sum(0) - turned[..., -1].sum(0)
            parts.append((index, solved))
        prior = np.full(shared, 1 / self.settings.identity_spread**2)
        prior[-1] = 1e12 if self.focal_known else 1 / self.settings.focal_spread**2
        values = np.append(self.identity, np.log(self.focal_px / self.first_focal_px))
        step = np.linalg.solve(middle + np.diag(prior), reduced - prior * values)
        for index, solved in parts:
            self.state = self.state.put(index, self.state.at(index).moved(solved[..., -1] - solved[..., :-1] @ step))
        self.identity = self.identity + step[:-1]
        self.focal_px *= float(np.exp(np.clip(step[-1], -0.3, 0.3)))

    def follow(
        self, landmarks: Array, before: FrameState | None, gap_s: float, rounds: int
    ) -> tuple[FrameState, float]:
        """State of one more frame [N, 2] px, gap_s after `before`, and its `ClipFit.residual_m`.

        Tied to `before` alone (None: from a first guess), the clip's identity, offsets and focal length being kept.
        The fitter is that frame's afterwards. This is the same Gauss-Newton step as the clip's, a filter instead of a
        chain.
        """
        self.landmarks, self.seen = np.asarray(landmarks, np.float64)[None, :, :2], np.ones(1, np.bool_)
        self.state = self._started() if before is None else before
        rows, only = np.arange(self.model.frame_size), np.zeros(1, np.int64)
        ties = (
            np.zeros(len(rows)) if before is None else self.settings.smooth / (25 * max(gap_s, 1e-3)) ** 2 / self.step
        )
        for _ in range(rounds):
            matrix, right = self._equations(only, shared=False)
            if before is not None:
                matrix[0, rows, rows] += ties
                right[0] -= ties * _changes(before, self.state)[0]
            self.state = self.state.moved(np.linalg.solve(matrix, right[..., None])[..., 0])
        return self.state, float(self.residuals()[0])

    def _personal_round(self, keys: NDArray[np.int64]) -> None:
        """Move each landmark to where this person's lies, all keyframes together."""
        part = self.state.at(keys)
        pixels, points = self.model.project(part, self.identity, self.focal_px, self.centre_px)
        derivative = self.model.of_offsets(part, self.identity, self.focal_px)
        error = self.landmarks[keys] - pixels
        scale = points[..., 2].mean(1)[:, None] / self.focal_px
        weight = (self.noise.landmark_weights(np.linalg.norm(error, axis=2) * scale) * scale**2)[..., None, None]
        turned = derivative.transpose(0, 1, 3, 2) * weight * self.settings.independent_share
        near = 1 / self.settings.personal_m**2
        matrix = (turned @ derivative).sum(0) + near * np.eye(3)
        right = (turned @ error[..., None])[..., 0].sum(0) - near * self.model.offsets
        self.model.offsets = self.model.offsets + np.linalg.solve(matrix, right[..., None])[..., 0]

    def frame_round(self, more: More = lambda row: None) -> None:
        """One Gauss-Newton step of all frames, tied to their neighbours, the clip's shared unknowns being kept."""
        frames, size = len(self.seen), self.model.frame_size
        blocks, right = np.zeros((frames, size, size)), np.zeros((frames, size))
        for first in range(0, frames, CHUNK):
            index = np.arange(first, min(first + CHUNK, frames))
            blocks[index], right[index] = self._equations(index, shared=False)
        for row in range(frames):
            added = more(row)
            if added is not None:
                blocks[row] += added[0]
                right[row] += added[1]
        rows = np.arange(size)
        if frames > 1:
            pull = self.ties * _changes(self.state.at(slice(None, -1)), self.state.at(slice(1, None)))
            blocks[:-1, rows, rows] += self.ties
            blocks[1:, rows, rows] += self.ties
            right[:-1] += pull
            right[1:] -= pull
        self.state = self.state.moved(solve_chain(blocks, right, self.ties))

    def residuals(self) -> Array:
        """[F] m: `ClipFit.residual_m`."""
        found = np.full(len(self.seen), np.nan)
        for first in range(0, len(found), CHUNK):
            index = np.arange(first, min(first + CHUNK, len(found)))
            pixels, points = self.model.project(self.state.at(index), self.identity, self.focal_px, self.centre_px)
            distance = np.linalg.norm(self.landmarks[index] - pixels, axis=2)
            found[index] = np.median(distance, axis=1) * points[..., 2].mean(1) / self.focal_px
        return found


def _changes(before: FrameState, after: FrameState) -> Array:
    """[F, U] from each of some frames to another."""
    turned = axis_angles_from_matrices(after.rotation @ before.rotation.transpose(0, 2, 1))
    parts = (after.place - before.place, after.turns - before.turns, after.weights - before.weights)
    return np.concatenate((turned, *parts), 1)
