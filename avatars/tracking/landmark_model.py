"""The template reduced to a face detector's landmarks: where each lies, and how it moves with every unknown of a clip.

Unknowns of a frame, in the order of `FRAME_SIZE`: the head's turn (3, multiplied from the left) and place (3, m) in the
camera, then jaw, left eye and right eye about x and z (6, rad), then expressions. Shared by a clip: identity modes and
the focal length's logarithm. The head's own axes are the template's (z up, facing -y), its origin the head joint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.correspondences import Correspondences, DetectorResponse
from shared.errors import BadTemplate
from shared.template import TemplateArrays, rest, rotation_matrices

Array = NDArray[np.float64]
JOINTS = ("jaw", "left_eye", "right_eye")
AXES = (0, 2)
"""A jaw and an eye turn about x (open, down) and z (sideways)."""
TURNS = 6
POSE = 6


@dataclass(frozen=True, eq=False)
class FrameState:
    """Unknowns of F frames. rotation: [F, 3, 3] camera from head; place: [F, 3] m; turns: [F, 6]; weights: [F, E]."""

    rotation: Array
    place: Array
    turns: Array
    weights: Array

    def __len__(self) -> int:
        return len(self.place)

    def at(self, index: NDArray[np.int64] | slice) -> FrameState:
        """The same of some frames."""
        return FrameState(self.rotation[index], self.place[index], self.turns[index], self.weights[index])

    def moved(self, step: Array) -> FrameState:
        """The state after a step [F, 12 + E] in the unknowns."""
        return FrameState(
            rotation_matrices(step[:, :3]) @ self.rotation,
            self.place + step[:, 3:6],
            self.turns + step[:, 6:12],
            self.weights + step[:, 12:],
        )

    def put(self, index: NDArray[np.int64], part: FrameState) -> FrameState:
        """The state with some frames replaced."""
        made = FrameState(self.rotation.copy(), self.place.copy(), self.turns.copy(), self.weights.copy())
        for name in ("rotation", "place", "turns", "weights"):
            getattr(made, name)[index] = getattr(part, name)
        return made


@dataclass(frozen=True, eq=False)
class Linearised:
    """Landmarks px [F, N, 2], points in the camera [F, N, 3] m, derivatives [F, N, 2, 12 + E] and of the shared
    unknowns [F, N, 2, K + 1] (None unless asked for)."""

    pixels: Array
    points: Array
    of_frame: Array
    of_shared: Array | None


class LandmarkModel:
    """Landmarks of one template as functions of a clip's unknowns.

    identity_modes: how many `head_*` shape modes may vary. preset: identity to start from, "" the mean adult. response:
    what the detector makes of the template (None: it sees exactly the template's points). offsets: [N, 3] m, where this
    person's landmarks lie beside the template's.
    """

    def __init__(
        self,
        arrays: TemplateArrays,
        where: Correspondences,
        *,
        identity_modes: int = 8,
        preset: str = "",
        response: DetectorResponse | None = None,
    ) -> None:
        if arrays.digest != where.digest:
            raise BadTemplate(
                "The landmarks' places belong to another version of the template",
                found=f"digest {arrays.digest[:12]}",
                expected=where.digest[:12],
                do="Make them again: python -m backend.calibrate_tracker",
            )
        self.arrays, self.where, self.response = arrays, where, response
        self.preset = preset
        self.expression_names = arrays.expression_names
        self.shape_rows = tuple(i for i, name in enumerate(arrays.shape_names) if name.startswith("head_"))[
            :identity_modes
        ]
        joints = [arrays.joint(name) for name in ("head", *JOINTS)]
        used, inverse = np.unique(where.vertices, return_inverse=True)
        corners = inverse.reshape(where.vertices.shape)

        def at(values: NDArray[np.floating]) -> Array:
            """[..., N, 3] of values [..., used, 3]."""
            found: Array = (values.astype(np.float64)[..., corners, :] * where.weights[..., None]).sum(-2)
            return found

        vertices, centres = rest(arrays, preset=preset)
        origin = centres[joints[0]].astype(np.float64)
        expressions = np.zeros((len(arrays.expression_names), len(used), 3))
        touched, rows = np.isin(arrays.expression_vertices, used), np.searchsorted(used, arrays.expression_vertices)
        expressions[:, rows[touched]] = arrays.expression_dirs[:, touched]
        modes = [arrays.shape_dirs[list(self.shape_rows)][:, used], expressions]
        joint_modes = [arrays.joint_shape_dirs[list(self.shape_rows)], arrays.joint_expression_dirs]
        self.points = at(vertices[used] - origin)
        self.centres = centres[joints[1:]].astype(np.float64) - origin
        moved = np.concatenate(joint_modes)[:, joints].astype(np.float64)
        self.modes = at(np.concatenate(modes)) - moved[:, :1]
        self.centre_modes = moved[:, 1:] - moved[:, :1]
        weights = at(np.repeat(arrays.weights[used][:, joints[1:]].T[..., None], 3, axis=-1))[..., 0].T
        self.joint_weights = weights
        self.rigid_weights = 1 - weights.sum(1)
        if response is not None:
            self.points = self.points + response.offsets
            self.modes[len(self.shape_rows) :] += response.expressions
        self.offsets = np.zeros_like(self.points)

    @property
    def identity_size(self) -> int:
        """K, how many identity modes may vary."""
        return len(self.shape_rows)

    @property
    def frame_size(self) -> int:
        """12 + E."""
        return POSE + TURNS + len(self.expression_names)

    def joint_rotations(self, turns: Array) -> Array:
        """[F, 3, 3, 3] of jaw and eyes from turns [F, 6]."""
        return rotation_matrices(self._vectors(turns))

    @staticmethod
    def _vectors(turns: Array) -> Array:
        vectors = np.zeros((len(turns), len(JOINTS), 3))
        vectors[:, :, AXES] = turns.reshape(len(turns), len(JOINTS), 2)
        return vectors

    def _posed(self, state: FrameState, identity: Array) -> tuple[Array, Array, Array, Array]:
        """Unposed points [F, N, 3], centres [F, 3, 3], joint rotations, points in the head's axes [F, N, 3]."""
        every = np.concatenate((np.broadcast_to(identity, (len(state), len(identity))), state.weights), 1)
        still = self.points + self.offsets + np.tensordot(every, self.modes, 1)
        centres = self.centres + np.tensordot(every, self.centre_modes, 1)
        turned = self.joint_rotations(state.turns)
        posed = still * self.rigid_weights[:, None]
        for joint in range(len(JOINTS)):
            centre = centres[:, joint, None]
            posed = posed + self.joint_weights[:, joint, None] * (
                (still - centre) @ turned[:, joint].transpose(0, 2, 1) + centre
            )
        if self.response is not None:
            posed = posed + state.turns[:, 0, None, None] * self.response.jaw
            posed = posed + np.tensordot(view_terms(state.rotation), self.response.view, 1)
        return still, centres, turned, posed

    def project(
        self, state: FrameState, identity: Array, focal_px: float, centre_px: tuple[float, float]
    ) -> tuple[Array, Array]:
        """Landmarks px [F, N, 2] and points in the camera [F, N, 3] m."""
        points = self._posed(state, identity)[3] @ state.rotation.transpose(0, 2, 1) + state.place[:, None]
        return focal_px * points[..., :2] / points[..., 2:] + np.asarray(centre_px), points

    def linearised(
        self, state: FrameState, identity: Array, focal_px: float, centre_px: tuple[float, float], *, shared: bool
    ) -> Linearised:
        """Landmarks and their derivatives. The view's own terms of a response count as constant within a step."""
        still, centres, turned, posed = self._posed(state, identity)
        head = posed @ state.rotation.transpose(0, 2, 1)
        points = head + state.place[:, None]
        frames, count = points.shape[:2]
        pixels = focal_px * points[..., :2] / points[..., 2:] + np.asarray(centre_px)
        of_point = pinhole_derivative(points, focal_px)
        of_head = of_point @ state.rotation[:, None]
        found = np.empty((frames, count, 2, self.frame_size))
        found[..., 0:3] = -of_point @ cross_matrices(head)
        found[..., 3:6] = of_point
        through = self.rigid_weights[:, None, None] * np.eye(3)
        vectors = self._vectors(state.turns)
        for joint in range(len(JOINTS)):
            share = self.joint_weights[:, joint, None, None]
            arm = (still - centres[:, joint, None]) @ turned[:, joint].transpose(0, 2, 1)
            turn = -cross_matrices(arm) @ left_jacobian(vectors[:, joint])[:, None] * share
            found[..., POSE + 2 * joint : POSE + 2 * joint + 2] = (of_head @ turn)[..., AXES]
            through = through + share * turned[:, joint, None]
        if self.response is not None:
            found[..., POSE] += (of_head @ self.response.jaw[..., None])[..., 0]
        first = 0 if shared else self.identity_size
        of_modes = _per_landmark(of_head @ through, self.modes[first:])
        for joint in range(len(JOINTS)):
            left = self.joint_weights[:, joint, None, None] * (np.eye(3) - turned[:, joint])[:, None]
            of_modes += (of_head @ left) @ self.centre_modes[first:, joint].T
        split = self.identity_size - first
        found[..., POSE + TURNS :] = of_modes[..., split:]
        of_shared = None
        if shared:
            of_shared = np.concatenate((of_modes[..., :split], (pixels - np.asarray(centre_px))[..., None]), -1)
        return Linearised(pixels, points, found, of_shared)

    def of_offsets(self, state: FrameState, identity: Array, focal_px: float) -> Array:
        """[F, N, 2, 3] px per m: how each landmark follows its own offset."""
        _, _, turned, posed = self._posed(state, identity)
        points = posed @ state.rotation.transpose(0, 2, 1) + state.place[:, None]
        through = self.rigid_weights[:, None, None] * np.eye(3)
        for joint in range(len(JOINTS)):
            through = through + self.joint_weights[:, joint, None, None] * turned[:, joint, None]
        return pinhole_derivative(points, focal_px) @ state.rotation[:, None] @ through


def view_terms(rotation: Array) -> Array:
    """[F, 6] yaw, pitch, their squares and product, |yaw| of heads [F, 3, 3] (camera from head), rad."""
    facing = -rotation[:, :, 1]  # a head faces its own -y
    yaw = np.arctan2(facing[:, 0], -facing[:, 2])
    pitch = np.arcsin(np.clip(facing[:, 1], -1, 1))
    return np.stack([yaw, pitch, yaw**2, pitch**2, yaw * pitch, np.abs(yaw)], 1)


def pinhole_derivative(points: Array, focal_px: float) -> Array:
    """[..., 2, 3] px per m of points [..., 3] m before a camera."""
    inverse = 1 / points[..., 2]
    found = np.zeros((*points.shape[:-1], 2, 3))
    found[..., 0, 0] = found[..., 1, 1] = focal_px * inverse
    found[..., 2] = -focal_px * points[..., :2] * inverse[..., None] ** 2
    return found


def cross_matrices(vectors: Array) -> Array:
    """[..., 3, 3] with cross_matrices(a) @ b = a x b."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape, 3)


def left_jacobian(vectors: Array) -> Array:
    """[..., 3, 3] J with exp(r + d) = exp(J d) exp(r) to first order, of axis-angle vectors [..., 3] rad."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    cross = cross_matrices(vectors)
    first = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    second = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    return np.eye(3) + first * cross + second * (cross @ cross)


def _per_landmark(left: Array, modes: Array) -> Array:
    """[F, N, 2, M] of left [F, N, 2, 3] times modes [M, N, 3], as one product for each landmark."""
    frames, count = left.shape[:2]
    product = left.transpose(1, 0, 2, 3).reshape(count, frames * 2, 3) @ modes.transpose(1, 2, 0)
    return product.reshape(count, frames, 2, -1).transpose(1, 0, 2, 3)
