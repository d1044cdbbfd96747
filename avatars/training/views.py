"""From where each picture of a capture looks at the head, and which held-out pictures are worth looking at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from shared.template import joint_transforms, rest

BIN_DEG = 15
HEADS = ("head", "neck")
"""The joint that carries the face: FLAME has no other than the neck."""
TELLING = 0.1
"""How far an expression must differ between pictures for one of them to be named after it."""
FEATURES = {
    "blink": ("eyeBlinkLeft", "eyeBlinkRight", "eyelid_left", "eyelid_right"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "brows": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "pucker": ("mouthPucker", "mouthFunnel"),
}


def view_angles_deg(capture: Capture, images: Sequence[int]) -> NDArray[np.float64]:
    """Yaw and pitch [M, 2] of the camera seen from the head: 0, 0 looks into the face; positive yaw from its left."""
    arrays = capture.template.open()
    _, joints = rest(arrays, preset=capture.template.preset, shape=np.array(capture.template.shape, np.float32))
    head = next((arrays.joint_names.index(name) for name in HEADS if name in arrays.joint_names), 0)
    angles = []
    for index in images:
        image = capture.images[index]
        _, model_from_joint = joint_transforms(
            capture.motion.rotations[image.frame], joints, arrays.parents, capture.motion.translations[image.frame]
        )
        place = capture.cameras[image.camera].world_from_camera[:3, 3] - model_from_joint[head, :3, 3]
        x, y, z = model_from_joint[head, :3, :3].T @ place
        angles.append((np.degrees(np.arctan2(x, -y)), np.degrees(np.arctan2(z, np.hypot(x, y)))))
    return np.array(angles, np.float64).reshape(-1, 2)


def frontal_image(capture: Capture, images: Sequence[int]) -> int:
    """The one of `images` that looks most into the face."""
    return images[int(np.linalg.norm(view_angles_deg(capture, images), axis=1).argmin())]


def coverage(angles_deg: NDArray[np.float64]) -> dict[str, float]:
    """Range of yaw and pitch, and how many 15-degree cells of that range hold at least one picture."""
    if not len(angles_deg):
        return {}
    low, high = angles_deg.min(0), angles_deg.max(0)
    cells = np.floor(angles_deg / BIN_DEG).astype(int)
    span = cells.max(0) - cells.min(0) + 1
    return {
        "yaw_min_deg": round(float(low[0]), 1),
        "yaw_max_deg": round(float(high[0]), 1),
        "pitch_min_deg": round(float(low[1]), 1),
        "pitch_max_deg": round(float(high[1]), 1),
        "cells_filled": len(np.unique(cells, axis=0)),
        "cells": int(span.prod()),
    }


def notable_images(capture: Capture, images: Sequence[int], most: int) -> list[tuple[int, str]]:
    """Up to `most` of `images` and what is notable about each: mouth, eyes, brows, side views, then others."""
    angles = view_angles_deg(capture, images)
    frames = [capture.images[index].frame for index in images]
    frontal = -np.abs(angles[:, 0]) / 90
    scores: dict[str, NDArray[np.float64]] = {}
    mouth = np.zeros(len(images))
    if "jaw" in capture.joint_names:
        mouth += np.linalg.norm(capture.motion.rotations[frames, capture.joint_names.index("jaw")], axis=1) * 3
    if "jawOpen" in capture.expression_names:
        mouth += capture.motion.expressions[frames, capture.expression_names.index("jawOpen")]
    active = np.abs(capture.motion.expressions[frames]).sum(1) if capture.expression_names else np.zeros(len(images))
    if np.ptp(mouth) > TELLING:  # a body that keeps its mouth shut is neither
        scores["mouth open"] = mouth + 0.3 * frontal
        scores["neutral"] = -mouth - 0.3 * active + 0.3 * frontal
    for name, parts in FEATURES.items():
        rows = [capture.expression_names.index(part) for part in parts if part in capture.expression_names]
        if rows:
            value = capture.motion.expressions[frames][:, rows].mean(1)
            if np.ptp(value) > TELLING:
                scores[name] = value + 0.3 * frontal
    scores["from its left"], scores["from its right"] = angles[:, 0], -angles[:, 0]
    chosen: list[tuple[int, str]] = []
    for name, score in scores.items():
        order = [row for row in np.argsort(-score, kind="stable") if images[row] not in [index for index, _ in chosen]]
        if order:
            chosen.append((images[order[0]], name))
    others = [index for index in images if index not in [picked for picked, _ in chosen]]
    missing = min(max(most - len(chosen), 0), len(others))
    spread = np.unique(np.linspace(0, len(others) - 1, missing).round().astype(int)) if missing else []
    return (chosen + [(others[row], "") for row in spread])[:most]
