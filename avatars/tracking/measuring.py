"""A tracked capture beside the exact one that its video was made of: how far apart poses, faces and masks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.templates.opening import embedded_template
from avatars.tracking.calibrating import TrueView, true_view
from avatars.tracking.correspondences import Correspondences
from shared.template import TemplateArrays, rest

Array = NDArray[np.float64]
BINS_DEG = ((0, 15), (15, 30), (30, 50))
OPEN_LID = 0.4
MOVES = 0.05
UNTRACKED = ("eyeLook", "tongueOut", "mouthClose")
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def measure_track(
    tracked: Capture,
    truth: Capture,
    pairs: Sequence[tuple[int, int]],
    landmarks: Mapping[int, NDArray[np.float32]],
    where: Correspondences,
) -> dict[str, Any]:
    """Errors of a track. pairs: (image of `tracked`, of `truth`); landmarks: image of truth -> [N, 2] px detected.

    Rotations are given as they are and without one constant (which an avatar absorbs); faces after a similarity for
    each picture. `by_yaw` holds the same for pictures by how far the head is turned.
    """
    body = embedded_template("body")
    found = [true_view(tracked, body, one) for one, _ in pairs]
    exact = [true_view(truth, body, other) for _, other in pairs]
    yaw = np.array([abs(np.degrees(np.arctan2(-view.rotation[0, 1], view.rotation[2, 1]))) for view in exact])
    tables = _tables(found, exact, body)
    tables["landmarks_px"] = np.array(
        [_landmark_error(view, landmarks[other], where) for view, (_, other) in zip(exact, pairs, strict=True)]
    )
    tables["mask_iou"] = np.array([_mask_iou(tracked, truth, *pair) for pair in pairs])
    report = _summary(tables, found, exact, np.ones(len(pairs), np.bool_), body)
    report["by_yaw"] = {
        f"{low} to {high}": _summary(tables, found, exact, inside, body)
        for low, high in BINS_DEG
        if (inside := (yaw >= low) & (yaw < high)).sum() >= 8
    }
    return report


def _tables(found: Sequence[TrueView], exact: Sequence[TrueView], body: TemplateArrays) -> dict[str, Array]:
    """What is measured in each picture by itself."""
    between = np.stack([one.rotation.T @ other.rotation for one, other in zip(found, exact, strict=True)])
    left, _, right = np.linalg.svd(between.mean(0))
    face = face_vertices(body)
    return {
        "rotation_deg": angles_deg(between),
        "rotation_less_constant_deg": angles_deg((left @ right).T @ between),
        "jaw_deg": np.degrees([abs(one.jaw - other.jaw) for one, other in zip(found, exact, strict=True)]),
        "face_mm": np.array(
            [_apart_mm(one.vertices[face], other.vertices[face]) for one, other in zip(found, exact, strict=True)]
        ),
    }


def _summary(
    tables: Mapping[str, Array],
    found: Sequence[TrueView],
    exact: Sequence[TrueView],
    chosen: NDArray[np.bool_],
    body: TemplateArrays,
) -> dict[str, Any]:
    rows = np.flatnonzero(chosen)
    report: dict[str, Any] = {"pictures": len(rows)}
    report |= {name: round(float(table[rows].mean()), 3) for name, table in tables.items()}
    report["jaw_r"] = _r(np.array([found[row].jaw for row in rows]), np.array([exact[row].jaw for row in rows]))
    names = body.expression_names
    ours, theirs = (np.stack([views[row].expressions for row in rows]) for views in (found, exact))
    moving = [k for k, name in enumerate(names) if theirs[:, k].std() > MOVES and not name.startswith(UNTRACKED)]
    r = {names[k]: _r(ours[:, k], theirs[:, k]) for k in moving}
    report["expression_r"] = round(float(np.mean(list(r.values()))), 3) if r else 0.0
    report["expressions_above_0.7"] = sum(value > 0.7 for value in r.values())
    report["expressions"] = dict(sorted(r.items(), key=lambda item: -item[1]))
    lids = [names.index(name) for name in BLINKS]
    seeing = rows[theirs[:, lids].max(1) < OPEN_LID]
    if len(seeing) > 2:
        report |= _gaze([found[row] for row in seeing], [exact[row] for row in seeing])
    return report


def _gaze(found: Sequence[TrueView], exact: Sequence[TrueView]) -> dict[str, float]:
    """Between the gazes, relative to the head and without their mean; correlations sideways and up."""
    ours, theirs = (
        np.stack([_angles(view.rotation.T @ view.gaze.mean(0)) for view in views]) for views in (found, exact)
    )
    apart = (ours - ours.mean(0)) - (theirs - theirs.mean(0))
    return {
        "gaze_deg": round(float(np.degrees(np.linalg.norm(apart, axis=1)).mean()), 2),
        "gaze_yaw_r": _r(ours[:, 0], theirs[:, 0]),
        "gaze_pitch_r": _r(ours[:, 1], theirs[:, 1]),
    }


def _angles(direction: Array) -> Array:
    """Yaw and pitch rad of a direction in the head's axes, which face -y."""
    return np.array([np.arctan2(direction[0], -direction[1]), np.arcsin(direction[2] / np.linalg.norm(direction))])


def angles_deg(rotation: Array) -> Array:
    """[...] deg of rotations [..., 3, 3]."""
    found: Array = np.degrees(np.arccos(np.clip((np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
    return found


def face_vertices(body: TemplateArrays) -> NDArray[np.int64]:
    """The skin of the face: before the eyes' depth and a little behind, from the chin to the hairline."""
    vertices, joints = rest(body)
    weight = body.weights[:, [body.joint("head"), body.joint("jaw")]].sum(1)
    eye = joints[body.joint("left_eye")]
    front = (vertices[:, 1] < eye[1] + 0.05) & (vertices[:, 2] < eye[2] + 0.06)
    return np.intersect1d(np.flatnonzero((weight > 0.6) & front), body.group_vertices("skin"))


def _apart_mm(ours: Array, theirs: Array) -> float:
    """Mean distance after the best similarity (Umeyama 1991)."""
    middle, other = ours.mean(0), theirs.mean(0)
    left, scale, right = np.linalg.svd((ours - middle).T @ (theirs - other))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    size = (scale * signs).sum() / ((ours - middle) ** 2).sum()
    laid = size * (ours - middle) @ (left * signs) @ right + other
    return float(np.linalg.norm(laid - theirs, axis=1).mean() * 1e3)


def _landmark_error(view: TrueView, seen: NDArray[np.float32], where: Correspondences) -> float:
    points = (view.vertices[where.vertices] * where.weights[..., None]).sum(1)
    pixels = view.focal_px * points[:, :2] / points[:, 2:] + view.centre_px
    return float(np.linalg.norm(pixels - seen, axis=1).mean())


def _mask_iou(tracked: Capture, truth: Capture, one: int, other: int) -> float:
    """Of pictures of equal framing: the benchmark asks for no crop."""
    size = tracked.cameras[0].width_px, tracked.cameras[0].height_px
    ours, theirs = tracked.rgba(one)[..., 3] > 127, truth.rgba(other, size)[..., 3] > 127
    return float((ours & theirs).sum() / max((ours | theirs).sum(), 1))


def _r(ours: Array, theirs: Array) -> float:
    if ours.std() < 1e-9 or theirs.std() < 1e-9:
        return 0.0
    return round(float(np.corrcoef(ours, theirs)[0, 1]), 3)
