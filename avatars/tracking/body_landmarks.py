"""Which joint each of a detector's landmarks of a body hangs on, where, and how sure its places are.

Measured on our own renders of other people than those a track is judged by (`body_calibrating.py`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.correspondences import landmark_arrays
from shared.errors import BadTemplate

FORMAT = "effigy-body-landmarks 1"
DATA = Path(__file__).parent / "data" / "body_landmarks.npz"
BODY, HAND = 33, 21
LEFT_HAND, RIGHT_HAND = slice(BODY, BODY + HAND), slice(BODY + HAND, BODY + 2 * HAND)
POINTS = BODY + 2 * HAND
MAIN_JOINTS = 22
"""The template's joints from the pelvis to the wrists come first; the detector's places in space tell of these."""
HEAD_POINTS = 11
LEGS_AND_ARMS = ("shoulder", "elbow", "wrist", "wrist", "wrist", "wrist", "hip", "knee", "ankle", "ankle", "foot")
"""Owners of MediaPipe's landmarks from 11 on, left and right in turn: …, pinky, index, thumb, hip, knee, ankle, heel,
toes. A hip hangs on the pelvis, a shoulder on its collar: the joints' own turns do not move them."""
STEADIER = {"shoulder": "{side}_collar", "hip": "pelvis"}
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
Array = NDArray[np.float64]


def point_owners() -> tuple[str, ...]:
    """Joint of each of the 75 landmarks: 33 of the body, 21 of the left hand, 21 of the right."""
    owners = ["head"] * HEAD_POINTS
    for part in LEGS_AND_ARMS:
        owners += [STEADIER.get(part, "{side}_" + part).format(side=side) for side in ("left", "right")]
    for side in ("left", "right"):
        owners.append(f"{side}_wrist")
        for finger in FINGERS:  # a finger's first landmark lies on its first joint, its last on its tip
            owners += [f"{side}_{finger}{bone}" for bone in (1, 2, 3, 3)]
    return tuple(owners)


def mirrored_points() -> NDArray[np.int64]:
    """Which landmark each is in a mirror."""
    head = (0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9)
    rest_of = [other for first in range(HEAD_POINTS, BODY, 2) for other in (first + 1, first)]
    hands = [*range(BODY + HAND, POINTS), *range(BODY, BODY + HAND)]
    return np.array([*head, *rest_of, *hands])


@dataclass(frozen=True, eq=False)
class BodyLandmarks:
    """owners: [75] joint names. offsets: [75, 3] m in the owner's frame. spread_m: [75] how far the detector's pixels
    scatter around them, at the body's depth. from_world: [33 * 3 + 1, 22 * 3] places of the main joints around the
    pelvis out of the detector's places in space and 1, both along the ray to the body; joint_spread_m: [22, 3] how far
    these are off (right, down, ahead). digest: of the template. provenance: what it was measured on."""

    owners: tuple[str, ...]
    offsets: Array
    spread_m: Array
    from_world: Array
    joint_spread_m: Array
    digest: str
    provenance: Mapping[str, Any]

    def joints_of(self, world: NDArray[np.floating]) -> Array:
        """[F, 22, 3] m of the detector's places [F, 33, 3]."""
        flat = np.concatenate((world.reshape(len(world), -1), np.ones((len(world), 1))), 1)
        found: Array = (flat @ self.from_world).reshape(len(world), MAIN_JOINTS, 3)
        return found


def read_body_landmarks(path: Path = DATA) -> BodyLandmarks:
    """From `body_landmark_file`. Raises BadTemplate for a missing or damaged one."""
    arrays = landmark_arrays(path, FORMAT)
    try:
        numbers = [arrays[name].astype(np.float64) for name in ("offsets", "spread_m", "from_world", "joint_spread_m")]
        shapes = [array.shape for array in numbers]
        if shapes != [(POINTS, 3), (POINTS,), (3 * BODY + 1, 3 * MAIN_JOINTS), (MAIN_JOINTS, 3)]:
            raise BadTemplate(f"{path.name} is damaged", found=str(shapes))
        return BodyLandmarks(point_owners(), *numbers, str(arrays["digest"]), json.loads(str(arrays["provenance"])))
    except (KeyError, ValueError) as error:
        raise BadTemplate(f"{path.name} is damaged", found=str(error)) from error


@lru_cache(maxsize=1)
def embedded_body_landmarks() -> BodyLandmarks:
    """Those that ship."""
    return read_body_landmarks()


def body_landmark_file(where: BodyLandmarks) -> bytes:
    """The file of `read_body_landmarks`."""
    made = io.BytesIO()
    np.savez_compressed(
        made,
        format=np.array(FORMAT),
        digest=np.array(where.digest),
        provenance=np.array(json.dumps(dict(where.provenance))),
        **{
            name: getattr(where, name).astype(np.float32)
            for name in ("offsets", "spread_m", "from_world", "joint_spread_m")
        },
    )
    return made.getvalue()


def ray_rotations(pixels: Array, focal_px: float, centre_px: tuple[float, float]) -> Array:
    """[F, 3, 3] that turn the camera's axes onto the ray through pixels [F, 2]: the detector sees a body as if the
    camera looked straight at it."""
    ray = np.concatenate(((pixels - np.asarray(centre_px)) / focal_px, np.ones((len(pixels), 1))), 1)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    right = np.cross(np.array([0.0, 1.0, 0.0]), ray)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack((right, np.cross(ray, right), ray), -1)
