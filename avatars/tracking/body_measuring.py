"""A tracked body beside the exact one that its video was made of: joints, their turns, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.templates.opening import embedded_template
from avatars.tracking.body_calibrating import TrueBody, true_body
from avatars.tracking.body_landmarks import MAIN_JOINTS
from avatars.tracking.measuring import angles_deg

Array = NDArray[np.float64]
SHOWN = ("pelvis", "spine3", "head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def measure_body_track(
    tracked: Capture, truth: Capture, pairs: Sequence[tuple[int, int]], boxes: tuple[int, int]
) -> dict[str, Any]:
    """Errors of a track. pairs: (image of `tracked`, of `truth`); boxes: left and top px of the crop, of full size.

    joints_mm: from the true main joints, both around the pelvis; after a similarity; as they stand in the camera.
    turns_deg: of the joints' frames in the camera.
    """
    body = embedded_template("body")
    found = [true_body(tracked, body, one) for one, _ in pairs]
    exact = [true_body(truth, body, other) for _, other in pairs]
    ours, theirs = (np.stack([one.joints[:MAIN_JOINTS] for one in bodies]) for bodies in (found, exact))
    around = np.linalg.norm((ours - ours[:, :1]) - (theirs - theirs[:, :1]), axis=2) * 1e3
    turns = angles_deg(_frames(found).transpose(0, 1, 3, 2) @ _frames(exact))
    overlaps = [_overlap(tracked, truth, one, other, boxes) for one, other in pairs]
    names = body.joint_names[:MAIN_JOINTS]
    rows = {name: [row for row, full in enumerate(names) if full.split("_")[-1] == name] for name in SHOWN}
    return {
        "pictures": len(pairs),
        "joints_mm": _mean(around),
        "joints_after_similarity_mm": _mean(np.array([similar_mm(a, b) for a, b in zip(ours, theirs, strict=True)])),
        "joints_in_camera_mm": _mean(np.linalg.norm(ours - theirs, axis=2) * 1e3),
        "turns_deg": _mean(turns[:, :MAIN_JOINTS]),
        "mask_iou": round(float(np.mean(overlaps)), 4),
        "by_joint": {
            name: {"joints_mm": _mean(around[:, part]), "turns_deg": _mean(turns[:, part])}
            for name, part in rows.items()
        },
    }


def _mean(values: Array) -> float:
    return round(float(values.mean()), 2)


def _frames(bodies: Sequence[TrueBody]) -> Array:
    return np.stack([one.frames for one in bodies])


def similar_mm(ours: Array, theirs: Array) -> float:
    """Mean distance of points [N, 3] m in mm after the best similarity (Umeyama 1991)."""
    middle, other = ours.mean(0), theirs.mean(0)
    left, scale, right = np.linalg.svd((ours - middle).T @ (theirs - other))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    size = (scale * signs).sum() / max(float(((ours - middle) ** 2).sum()), 1e-12)
    return float(np.linalg.norm(size * (ours - middle) @ (left * signs) @ right + other - theirs, axis=1).mean() * 1e3)


def _overlap(tracked: Capture, truth: Capture, one: int, other: int, corner: tuple[int, int]) -> float:
    """Of a picture stored at its own size and the part of the true one that it shows."""
    camera = tracked.cameras[0]
    left, top = corner
    ours = tracked.rgba(one)[..., 3] > 127
    theirs = truth.rgba(other)[top : top + camera.height_px, left : left + camera.width_px, 3] > 127
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1))
