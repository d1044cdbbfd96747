"""A fitted clip as an ordinary capture: poses of the template's bust before one camera that stands still.

A video says where the head is in the camera and nothing of the room. So the world is that of the mean head, upright;
the neck takes half of each turn and the head joint the rest; the shoulders follow the head's place without turning.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.opening import TemplateReference
from avatars.tracking.fitting import ClipFit
from avatars.tracking.landmark_model import JOINTS, LandmarkModel
from shared.rotations import axis_angles_from_matrices
from shared.template import TemplateArrays, joint_transforms, rest, rotation_matrices
from shared.types import Float64

NECK_SHARE = 0.5
ARMS_DOWN_RAD = {"collar": 0.14, "shoulder": 0.82}
TEST_BLOCKS, TEST_SHARE, FEW = 5, 0.1, 100
ABOVE, BELOW, BESIDE = 0.75, 1.0, 1.1
"""How much of the picture goes along: above the forehead, below the chin, to each side, in heights of the face."""


@dataclass(frozen=True)
class Crop:
    """A part of the video's pictures: its left upper corner and width px, and the width it is stored with; a square
    unless tall_px says another height."""

    left: int
    top: int
    side_px: int
    stored_px: int
    tall_px: int = 0

    @property
    def height_px(self) -> int:
        """Height in the video's pictures."""
        return self.tall_px or self.side_px

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height px it is stored with."""
        return self.stored_px, max(1, round(self.stored_px * self.height_px / self.side_px))

    def as_json(self) -> dict[str, int]:
        """JSON form."""
        made = {"left": self.left, "top": self.top, "side_px": self.side_px, "stored_px": self.stored_px}
        return made | ({"tall_px": self.tall_px} if self.tall_px else {})


def choose_crop(landmarks: NDArray[np.floating], size_px: tuple[int, int], most_px: int) -> Crop:
    """A square around all faces [F, N, 2] px with hair and shoulders, inside pictures of size_px (width, height)."""
    top, chin = landmarks[:, 10, 1], landmarks[:, 152, 1]
    tall = float(np.median(np.abs(chin - top)))
    low = np.array([landmarks[..., 0].min() - BESIDE * tall, landmarks[..., 1].min() - ABOVE * tall])
    high = np.array([landmarks[..., 0].max() + BESIDE * tall, landmarks[..., 1].max() + BELOW * tall])
    side = int(min(np.ceil((high - low).max()), *size_px))
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2])
    corner = np.clip(np.floor(middle - side / 2), 0, np.array(size_px) - side).astype(int)
    return Crop(int(corner[0]), int(corner[1]), side, min(side, most_px))


@dataclass(frozen=True, eq=False)
class TrackedMotion:
    """rotations: [T, J, 3] rad, translations: [T, 3] m, expressions: [T, E] of the bust; world_from_camera: [4, 4]."""

    rotations: NDArray[np.float32]
    translations: NDArray[np.float32]
    expressions: NDArray[np.float32]
    world_from_camera: Float64


def template_shape(model: LandmarkModel, fit: ClipFit) -> tuple[float, ...]:
    """Shape coefficients of the fitted identity, as captures write them."""
    if not model.shape_rows:
        return ()
    shape = np.zeros(max(model.shape_rows) + 1)
    shape[list(model.shape_rows)] = fit.identity
    return tuple(round(float(value), 5) for value in shape)


def tracked_motion(
    fit: ClipFit, rows: NDArray[np.int64], bust: TemplateArrays, reference: TemplateReference
) -> TrackedMotion:
    """The kept frames of a fit as poses of the bust."""
    state = fit.state.at(rows)
    mean = mean_rotation(state.rotation)
    expressions = np.clip(state.weights, 0, 1)
    rotations = bust_rotations(axis_angles_from_matrices(mean.T @ state.rotation), state.turns, bust)
    there = head_places(rotations, expressions, bust, reference)
    seen = state.place @ mean  # the camera's axes turned into the world's
    camera = np.median(there - seen, axis=0)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3], world_from_camera[:3, 3] = mean.T, camera
    translations = seen + camera - there
    return TrackedMotion(
        rotations.astype(np.float32),
        translations.astype(np.float32),
        expressions.astype(np.float32),
        world_from_camera,
    )


def mean_rotation(rotations: NDArray[np.float64]) -> Float64:
    """The rotation nearest to the mean of rotations [F, 3, 3]."""
    left, _, right = np.linalg.svd(rotations.mean(0))
    found: Float64 = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    return found


def bust_rotations(turn: Float64, turns: Float64, bust: TemplateArrays) -> Float64:
    """[F, J, 3] rad of the bust whose head is turned by [F, 3] rad in the world, with jaw and eyes [F, 6] rad."""
    neck = rotation_matrices(NECK_SHARE * turn)
    head = neck.transpose(0, 2, 1) @ rotation_matrices(turn)
    rotations = np.zeros((len(turn), len(bust.joint_names), 3))
    rotations[:, bust.joint("neck")] = NECK_SHARE * turn
    rotations[:, bust.joint("head")] = axis_angles_from_matrices(head)
    for place, name in enumerate(JOINTS):
        rotations[:, bust.joint(name), 0] = turns[:, 2 * place]
        rotations[:, bust.joint(name), 2] = turns[:, 2 * place + 1]
    for joint, angle in ARMS_DOWN_RAD.items():
        rotations[:, bust.joint(f"left_{joint}"), 1] = angle
        rotations[:, bust.joint(f"right_{joint}"), 1] = -angle
    return rotations


def head_places(
    rotations: Float64, expressions: Float64, bust: TemplateArrays, reference: TemplateReference
) -> Float64:
    """[F, 3] m, where the head joint of the untranslated bust is in poses [F, J, 3] rad with expressions [F, E]."""
    resting = rest(bust, preset=reference.preset, shape=reference.shape)[1]
    joints = resting + np.tensordot(expressions, bust.joint_expression_dirs.astype(np.float64), axes=1)
    head = bust.joint("head")
    return np.stack(
        [
            joint_transforms(turned, at, bust.parents)[1][head, :3, 3]
            for turned, at in zip(rotations, joints, strict=True)
        ]
    )


def splits(count: int) -> tuple[str, ...]:
    """'train' or 'test' of so many frames: the last tenth of each of five equal stretches, or of the whole if few."""
    blocks = TEST_BLOCKS if count >= FEW else 1
    within = np.arange(count) * blocks % count if count else np.zeros(0)
    return tuple("test" if part >= (1 - TEST_SHARE) * count else "train" for part in within)


def capture_files(
    motion: TrackedMotion,
    bust: TemplateArrays,
    reference: TemplateReference,
    crop: Crop,
    focal_px: float,
    centre_px: tuple[float, float],
    images: list[dict[str, Any]],
    about: Mapping[str, Any],
    confidence: NDArray[np.float32] | None = None,
) -> dict[str, bytes]:
    """`capture.json` and `parameters.npz` of a capture (docs/formats.md) of a bust or a whole body.

    focal and centre: px of the video's pictures. images: entries of capture.json. about: name, subject,
    licence, fps, generator. confidence: [F] in 0..1, None where the tracker does not say.
    """
    width, height = crop.stored_size
    scale, down = width / crop.side_px, height / crop.height_px
    K = np.array(
        [
            [focal_px * scale, 0, (centre_px[0] - crop.left) * scale],
            [0, focal_px * down, (centre_px[1] - crop.top) * down],
            [0, 0, 1],
        ]
    )
    parameters = io.BytesIO()
    np.savez_compressed(
        parameters,
        rotations=motion.rotations,
        translations=motion.translations,
        expressions=motion.expressions,
        K=K[None],
        world_from_camera=motion.world_from_camera[None],
        **({} if confidence is None else {"confidence": np.asarray(confidence, np.float32)}),
    )
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": about["name"],
        "kind": "body" if bust.view == "body" else "head",
        "subject": about["subject"],
        "licence": about["licence"],
        "synthetic": False,
        "tracked": True,
        "template": reference.as_json(),
        "joint_names": list(bust.joint_names),
        "expression_names": list(bust.expression_names),
        "width_px": width,
        "height_px": height,
        "fps": about["fps"],
        "cameras": [{"name": "video"}],
        "images": images,
        "generator": dict(about["generator"]),
    }
    return {"parameters.npz": parameters.getvalue(), "capture.json": json.dumps(document, indent=1).encode()}
