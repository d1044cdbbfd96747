"""A face followed while it is filmed: every frame from those before it, none from those to come.

A look of two or three seconds with a calm face begins it: how the head sits before the camera and where this person's
landmarks lie beside the template's are fitted to it once, as for a clip. Then each frame takes two Gauss-Newton steps
from the one before, tied to it, and what goes out is smoothed. The head's shape stays the template's: landmarks say
little of it, and an avatar learns its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avatars.templates.opening import TemplateReference
from avatars.tracking.fitting import ClipFitter, FitSettings
from avatars.tracking.judging import FAR_RESIDUAL_M, JUMP_FACES, RESIDUAL_TIMES, SECOND_FACE, WIDEST_YAW_DEG
from avatars.tracking.landmark_model import TURNS, FrameState, LandmarkModel
from avatars.tracking.smoothing import OneEuro
from avatars.tracking.tracked_capture import bust_rotations, head_places, mean_rotation, tracked_motion
from shared.rotations import axis_angles_from_matrices
from shared.template import TemplateArrays
from shared.types import Float64, Pose

Array = NDArray[np.float64]
FEWEST_AT_START = 8
LOST_S = 0.4
"""A frame so long after the last one begins anew."""


@dataclass(frozen=True)
class LiveSettings:
    """start_s, start_frames: how long the calm look is and how many of its pictures are fitted. rounds: Gauss-Newton
    steps of a frame; first_rounds: of one that nothing leads to. cutoff_hz, quickness: of the one-Euro filter, for
    turns (rad), places (m) and weights alike."""

    start_s: float = 2.5
    start_frames: int = 24
    rounds: int = 2
    first_rounds: int = 6
    cutoff_hz: float = 2.5
    quickness: tuple[float, float, float] = (4.0, 40.0, 4.0)
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(keyframes=12, keyframe_rounds=4, personal_rounds=1, frame_rounds=2)
    )


@dataclass(frozen=True, eq=False)
class LivePose:
    """One followed frame. pose: of the bust; world_from_camera: [4, 4]; residual_m: as in ClipFit."""

    time_s: float
    pose: Pose
    world_from_camera: Float64
    residual_m: float


class LiveFitter:
    """Follows one face in pictures of a camera that stands still.

    model: made with a detector's response, without identity modes. size_px: width and height. After `start_s` of faces
    `started` is true; `dropped` counts frames that gave no pose, by the reasons of `judging.REASONS` (and 'start').
    """

    def __init__(
        self,
        model: LandmarkModel,
        bust: TemplateArrays,
        reference: TemplateReference,
        size_px: tuple[int, int],
        focal_px: float,
        settings: LiveSettings = LiveSettings(),
    ) -> None:
        self.model, self.bust, self.reference, self.settings = model, bust, reference, settings
        self.size_px, self.focal_px = size_px, focal_px
        self.dropped: Counter[str] = Counter()
        self.start_landmarks: Array = np.zeros((0, len(model.points), 2))
        self._looks: list[tuple[float, Array]] = []
        self._fitter: ClipFitter | None = None
        self._usual_m = 0.0
        self._mean, self._world_from_camera = np.eye(3), np.eye(4)
        self._last: tuple[FrameState, Array, float] | None = None
        turn, place, weight = settings.quickness
        quickness = np.repeat([turn, place, turn, weight], [3, 3, TURNS, len(model.expression_names)])
        self._smooth = OneEuro(np.full(len(quickness), settings.cutoff_hz), quickness)

    @property
    def started(self) -> bool:
        """Whether the calm look is over."""
        return self._fitter is not None

    @property
    def start_share(self) -> float:
        """How much of the calm look is done, 0 to 1."""
        if self.started or not self._looks:
            return float(self.started)
        return min(1.0, (self._looks[-1][0] - self._looks[0][0]) / max(self.settings.start_s, 1e-6))

    def add(self, landmarks: NDArray[np.floating] | None, time_s: float, second: float = 0.0) -> LivePose | None:
        """The pose in a picture whose largest face has landmarks [N, 2] px (None, or NaN: no face), or None.

        second: size of another face as a share of this one's. Raises nothing for what a camera can show.
        """
        reason = self._unusable(landmarks, second)
        if reason or landmarks is None:
            self.dropped[reason] += 1
            return None
        points = np.asarray(landmarks, np.float64)[:, :2]
        if self._fitter is None:
            self._look(points, time_s)
            return None
        return self._follow(self._fitter, points, time_s)

    def _unusable(self, landmarks: NDArray[np.floating] | None, second: float) -> str:
        if landmarks is None or not np.isfinite(landmarks).all():
            return "no_face"
        if second > SECOND_FACE:
            return "two_faces"
        beside = landmarks[:, :2].min() < 0 or (landmarks[:, :2].max(0) > self.size_px).any()
        return "beside" if beside else ""

    # --- the calm look -----------------------------------------------------------------------------------------------
    def _look(self, points: Array, time_s: float) -> None:
        settings = self.settings
        self.dropped["start"] += 1
        if self._looks and not 0 <= time_s - self._looks[-1][0] <= 4 * LOST_S:
            self._looks.clear()  # someone went away, or another one came
        self._looks.append((time_s, points))
        if time_s - self._looks[0][0] < settings.start_s or len(self._looks) < FEWEST_AT_START:
            return
        rows = np.unique(np.linspace(0, len(self._looks) - 1, settings.start_frames).round().astype(np.int64))
        times = np.array([self._looks[row][0] for row in rows])
        landmarks = np.stack([self._looks[row][1] for row in rows])
        self._looks = []
        self.model.offsets = np.zeros_like(self.model.points)
        centre_px = self.size_px[0] / 2, self.size_px[1] / 2
        fitter = ClipFitter(self.model, landmarks, centre_px, self.focal_px, times, settings=settings.fit)
        fit = fitter.run()
        facing = -fit.state.rotation[:, :, 1]
        usual = float(np.median(fit.residual_m))
        turned = np.degrees(np.abs(np.arctan2(facing[:, 0], -facing[:, 2]))).max() > WIDEST_YAW_DEG
        if turned or not usual < FAR_RESIDUAL_M:
            self.dropped["profile" if turned else "misfit"] += len(rows)
            return  # looks again
        motion = tracked_motion(fit, np.arange(len(rows)), self.bust, self.reference)
        self._mean, self._world_from_camera = mean_rotation(fit.state.rotation), motion.world_from_camera
        self._usual_m, self.start_landmarks = usual, landmarks
        self._last = fit.state.at(slice(-1, None)), landmarks[-1], float(times[-1])
        self._fitter = fitter

    # --- after it ----------------------------------------------------------------------------------------------------
    def _follow(self, fitter: ClipFitter, points: Array, time_s: float) -> LivePose | None:
        before = self._before(points, time_s)
        if before is None:
            self._smooth.forget()
        gap_s = time_s - self._last[2] if self._last is not None else 0.0
        rounds = self.settings.first_rounds if before is None else self.settings.rounds
        state, residual_m = fitter.follow(points, before, gap_s, rounds)
        reason = self._astray(state, residual_m)
        if reason:
            self.dropped[reason] += 1
            self._last = None if reason == "misfit" else (state, points, time_s)
            return None
        self._last = state, points, time_s
        turn = axis_angles_from_matrices(self._mean.T @ state.rotation)
        values = np.concatenate((turn, state.place, state.turns, np.clip(state.weights, 0, 1)), 1)[0]
        turn, place, turns, weights = np.split(self._smooth.smoothed(values, time_s)[None], (3, 6, 6 + TURNS), axis=1)
        rotations = bust_rotations(turn, turns, self.bust)
        there = head_places(rotations, weights, self.bust, self.reference)
        translation = place @ self._mean + self._world_from_camera[:3, 3] - there
        pose = Pose(*(part[0].astype(np.float32) for part in (rotations, translation, weights)))
        return LivePose(time_s, pose, self._world_from_camera, residual_m)

    def _before(self, points: Array, time_s: float) -> FrameState | None:
        """The state that leads to this frame, None where the face jumped or was away."""
        if self._last is None or not 0 < time_s - self._last[2] <= LOST_S:
            return None
        moved = float(np.linalg.norm(points.mean(0) - self._last[1].mean(0)))
        return None if moved > JUMP_FACES * float(np.ptp(points, axis=0).max()) else self._last[0]

    def _astray(self, state: FrameState, residual_m: float) -> str:
        values = np.concatenate((state.place, state.turns, state.weights), 1)
        if not (np.isfinite(values).all() and residual_m < max(FAR_RESIDUAL_M, RESIDUAL_TIMES * self._usual_m)):
            return "misfit"
        facing = -state.rotation[0, :, 1]
        yaw_deg = abs(float(np.degrees(np.arctan2(facing[0], -facing[2]))))
        return "profile" if yaw_deg > WIDEST_YAW_DEG else ""
