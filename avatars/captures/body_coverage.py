"""What a recording shows of a whole body: from which sides, and which joints bend; and what it never shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.captures.coverage import BIN_DEG, MOST_IMAGES, Coverage, evenly, measure_coverage
from shared.template import joint_transforms, rest, rotation_matrices

WIDEST_GAP_DEG = 75.0
"""Between two neighbouring cameras: the side in the middle of a wider gap is guessed."""
BENDS = {"elbow": 40.0, "knee": 30.0, "hip": 25.0}
LOWEST_ARM, HIGHEST_ARM = -0.7, 0.3
"""Sines of an arm's height against the chest that training should reach."""
TWIST_DEG = 12.0
FEW_POSES = 20
DIFFERENT_RAD = 0.03
SIDES = (("left", 1.0), ("right", -1.0))


def coverage_of(capture: Capture) -> Coverage:
    """Coverage of a head or a body, whichever was recorded. Raises BadTemplate."""
    return measure_body_coverage(capture) if capture.kind == "body" else measure_coverage(capture)


def measure_body_coverage(capture: Capture) -> Coverage:
    """Coverage of a body's training pictures, from its parameters alone. Raises BadTemplate.

    yaw: of the camera around the body, 0 in front, positive to its left. ranges: bends of joints in degrees, arm
    heights as sines (-1 hanging, 1 straight up). active: joints whose turns change by 10 degrees or more.
    """
    images = evenly(capture.split("train"), MOST_IMAGES)
    frames = sorted({capture.images[index].frame for index in images})
    angles = body_view_angles_deg(capture, images)
    ranges = bend_ranges(capture, frames)
    held_out = sorted({capture.images[index].frame for index in capture.split("test")})
    turned = np.degrees(capture.motion.rotations[frames])
    active = int((np.ptp(turned, axis=0).max(1) >= 10.0).sum()) if frames else 0
    missing = [*unseen_sides(angles[:, 0]), *_unseen_bends(ranges)]
    different = _different_poses(capture, list(capture.training_frames()))
    if different < FEW_POSES:
        missing.append(f"only {different} poses that differ: folds between them will be guessed")
    return Coverage(
        _histogram(angles[:, 0]),
        _histogram(angles[:, 1]),
        ranges,
        active,
        _beyond(capture, list(capture.training_frames()), held_out),
        tuple(missing),
    )


def body_view_angles_deg(capture: Capture, images: list[int]) -> NDArray[np.float64]:
    """Yaw and pitch [M, 2] of each image's camera seen from the pelvis."""
    arrays = capture.template.open()
    _, joints = rest(arrays, preset=capture.template.preset, shape=np.array(capture.template.shape, np.float32))
    angles = []
    for index in images:
        image = capture.images[index]
        _, model_from_joint = joint_transforms(
            capture.motion.rotations[image.frame], joints, arrays.parents, capture.motion.translations[image.frame]
        )
        place = capture.cameras[image.camera].world_from_camera[:3, 3] - model_from_joint[0, :3, 3]
        x, y, z = model_from_joint[0, :3, :3].T @ place
        angles.append((np.degrees(np.arctan2(x, -y)), np.degrees(np.arctan2(z, np.hypot(x, y)))))
    return np.array(angles, np.float64).reshape(-1, 2)


def bend_ranges(capture: Capture, frames: list[int]) -> dict[str, tuple[float, float]]:
    """1st and 99th percentile of what the main joints do in `frames`."""
    names, rotations = capture.joint_names, capture.motion.rotations[frames].astype(np.float64)
    values: dict[str, NDArray[np.float64]] = {}
    for side, sign in SIDES:
        for joint in BENDS:
            if f"{side}_{joint}" in names:
                turned = rotations[:, names.index(f"{side}_{joint}")]
                values[f"{side}_{joint}_deg"] = np.degrees(np.linalg.norm(turned, axis=1))
        if f"{side}_shoulder" in names and f"{side}_collar" in names:
            chain = rotation_matrices(rotations[:, names.index(f"{side}_collar")]) @ rotation_matrices(
                rotations[:, names.index(f"{side}_shoulder")]
            )
            values[f"{side}_arm_height"] = (chain @ np.array([sign, 0.0, 0.0]))[:, 2]
    spine = [names.index(name) for name in ("spine1", "spine2", "spine3") if name in names]
    if spine:
        whole = np.degrees(rotations[:, spine].sum(1))
        values["bow_deg"], values["lean_deg"], values["twist_deg"] = whole.T
    ends = {name: np.percentile(value, (1, 99)) for name, value in values.items() if len(value)}
    return {name: (round(float(low), 3), round(float(high), 3)) for name, (low, high) in ends.items()}


def unseen_sides(yaw_deg: NDArray[np.float64]) -> list[str]:
    """Sentences about gaps between cameras around the body."""
    if not len(yaw_deg):
        return []
    around = np.unique(np.round(np.sort(yaw_deg % 360), 1))
    gaps = np.diff(np.append(around, around[0] + 360))
    found = []
    for start, gap in zip(around, gaps, strict=True):
        if gap > WIDEST_GAP_DEG:
            middle = (start + gap / 2) % 360
            side = ("front", "left side", "back", "right side")[int(((middle + 45) % 360) // 90)]
            found.append(f"no camera within {gap:.0f} degrees around the {side}: it will be guessed")
    return found


def _unseen_bends(ranges: dict[str, tuple[float, float]]) -> list[str]:
    found = []
    for joint, wanted in BENDS.items():
        most = max(
            (ranges[f"{side}_{joint}_deg"][1] for side, _ in SIDES if f"{side}_{joint}_deg" in ranges), default=None
        )
        if most is not None and most < wanted:
            found.append(f"the {joint}s never bend beyond {most:.0f} degrees")
    arms = [ranges[f"{side}_arm_height"] for side, _ in SIDES if f"{side}_arm_height" in ranges]
    if arms and max(high for _, high in arms) < HIGHEST_ARM:
        found.append("the arms are never raised: folds at the shoulders will be guessed")
    if arms and min(low for low, _ in arms) > LOWEST_ARM:
        found.append("the arms never hang: what they hide is guessed")
    if "twist_deg" in ranges and np.ptp(ranges["twist_deg"]) < TWIST_DEG:
        found.append("the trunk hardly twists")
    return found


def _different_poses(capture: Capture, frames: list[int]) -> int:
    """How many of `frames` differ from the last one counted by more than 1.7 degrees a joint on average."""
    body = capture.motion.rotations[:, 1:22].reshape(len(capture.motion), -1)
    count, last = 0, None
    for frame in frames:
        if last is None or np.abs(body[frame] - body[last]).mean() > DIFFERENT_RAD:
            count, last = count + 1, frame
    return count


def _histogram(angles: NDArray[np.float64]) -> dict[int, int]:
    bins, counts = np.unique(np.floor(angles / BIN_DEG).astype(int) * BIN_DEG, return_counts=True)
    return {int(low): int(count) for low, count in zip(bins, counts, strict=True)}


def _beyond(capture: Capture, frames: list[int], held_out: list[int]) -> float:
    """Share of joint numbers of held-out frames outside the range of training."""
    body = capture.motion.rotations[:, 1:22].reshape(len(capture.motion), -1)
    if not held_out or not frames:
        return 0.0
    low, high = body[frames].min(0), body[frames].max(0)
    outside = (body[held_out] < low - 1e-3) | (body[held_out] > high + 1e-3)
    return round(float(outside.mean()), 4)
