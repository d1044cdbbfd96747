"""Millimetres read as metres (told by how far the cameras stand from the person), and too few views."""

from __future__ import annotations

import numpy as np

from avatars.captures.capture import Capture
from avatars.captures.options import OPTIONS
from shared.errors import BadCapture
from shared.template import rest

FEWEST_VIEWS = 4
STUDIO_M, CLOSEST_M = 50.0, 0.3
"""No body is recorded from farther away, or from nearer."""


def check_distances(capture: Capture) -> None:
    """Refuse a body whose cameras stand farther from it, or nearer, than any can. Raises BadCapture."""
    if capture.kind != "body" or not capture.cameras or not len(capture.motion):
        return
    places = np.stack([camera.world_from_camera[:3, 3] for camera in capture.cameras])
    far = float(np.median(np.linalg.norm(places - pelvis(capture), axis=1)))
    if not CLOSEST_M < far < STUDIO_M:
        raise millimetres(f"capture {capture.name}", far)


def check_views(capture: Capture) -> None:
    """Refuse a body that too few training pictures show for a surface to be made of them. Raises BadCapture."""
    count = len(capture.split("train"))
    if count < FEWEST_VIEWS:
        raise BadCapture(
            f"capture {capture.name} has too few views for a surface",
            found=f"{count} training pictures",
            expected=f"at least {FEWEST_VIEWS}, from several sides",
            do="Record more cameras, or the person turning before one",
        )


def pelvis(capture: Capture) -> np.ndarray:
    """[3] m: where the root joint is, in the middle of the recording."""
    arrays = capture.template.open()
    _, joints = rest(arrays, preset=capture.template.preset, shape=np.array(capture.template.shape, np.float32))
    middle: np.ndarray = joints[0] + np.median(capture.motion.translations, 0)
    return middle


def millimetres(where: str, far_m: float) -> BadCapture:
    """The error for cameras that stand `far_m` from the person."""
    too_far = far_m >= STUDIO_M
    unit = "mm" if too_far else "m"
    return BadCapture(
        f"the cameras of {where} stand {far_m:,.3g} m from the person",
        found="millimetres read as metres, it seems" if too_far else "metres read as millimetres, it seems",
        expected=f"{CLOSEST_M:g} to {STUDIO_M:.0f} m",
        do=f'Put {{"camera_units": "{unit}"}} into {OPTIONS}, or write places and translations in metres',
    )
