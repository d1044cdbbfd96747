"""Where hair, brows and the neckline lie, in coordinates of the head that fit every identity.

Head coordinates: (side, front, up), the rest position relative to the point between the eyes, in units of the distance
between the eye centres (about 63 mm). side is +x (the person's left), front is towards the nose (-y), up is +z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._shared import template
from .noise import smoothstep, value_noise
from .surface import Array


@dataclass(frozen=True, eq=False)
class HeadFrame:
    """Origin [3] m between the eyes and the unit length in m."""

    origin: Array
    unit_m: float

    def coordinates(self, points: Array) -> Array:
        """World rest positions [..., 3] m to head coordinates [..., 3] (side, front, up)."""
        return ((points - self.origin) / self.unit_m) @ np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]])

    def positions(self, coordinates: Array) -> Array:
        """Head coordinates to rest positions in m."""
        return coordinates @ np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]]) * self.unit_m + self.origin


def head_frame(arrays: template.TemplateArrays, joints: Array) -> HeadFrame:
    """The head frame of rest joints [J, 3]."""
    left, right = joints[arrays.joint("left_eye")], joints[arrays.joint("right_eye")]
    return HeadFrame((left + right) / 2, float(np.linalg.norm(left - right)))


# Height of the hairline over the angle around the vertical axis of the skull: 0 is the forehead, pi/2 the ear.
_HAIRLINE = (  # (angle, height)
    (0.00, 1.02),
    (0.20, 1.05),
    (0.40, 1.10),
    (0.55, 1.02),
    (0.68, 0.80),
    (0.80, 0.52),
    (0.92, 0.30),
    (1.02, 0.08),
    (1.16, -0.30),
    (1.30, -0.36),
    (1.38, 0.10),
    (1.50, 0.26),
    (1.75, 0.20),
    (1.90, -0.20),
    (2.10, -0.70),
    (2.45, -1.05),
    (3.15, -1.15),
)
_SKULL_CENTRE_FRONT = -1.35


def hairline_margin(coordinates: Array) -> Array:
    """How far inside the hairline head coordinates [..., 3] are, in head units; negative outside."""
    side, front, up = np.moveaxis(coordinates, -1, 0)
    angle = np.arctan2(np.abs(side), front - _SKULL_CENTRE_FRONT)
    angles, heights = np.array(_HAIRLINE).T
    return up - np.interp(angle, angles, heights)


def hair_density(coordinates: Array) -> Array:
    """0..1 share of full hair density: a soft, irregular line that is a little denser at the sides."""
    margin = hairline_margin(coordinates)
    wobble = 0.10 * (value_noise(coordinates, 3.0, 5) - 0.5) + 0.10 * (value_noise(coordinates, 9.0, 6) - 0.5)
    return smoothstep(-0.05, 0.17, margin + wobble) * (coordinates[..., 2] > -1.6)


def brow_coordinates(coordinates: Array) -> tuple[Array, Array]:
    """(along, across) of the nearer eyebrow: along is 0 at the inner end, 1 at the tail; across in head units."""
    along = (np.abs(coordinates[..., 0]) - 0.20) / 0.74
    middle = np.interp(along, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.270, 0.305, 0.340, 0.352, 0.310, 0.215])
    return along, coordinates[..., 2] - middle


def brow_density(coordinates: Array) -> Array:
    """0..1 density of the eyebrow: full in the first two thirds, thin and narrow towards the tail."""
    along, across = brow_coordinates(coordinates)
    half_width = np.interp(along, [0.0, 0.12, 0.5, 0.75, 1.0], [0.040, 0.058, 0.056, 0.042, 0.020])
    ends = smoothstep(-0.06, 0.16, along) * smoothstep(1.06, 0.90, along)
    front = coordinates[..., 1] > -0.6
    return np.exp(-((across / half_width) ** 2) * 1.2) * ends * front


def neckline_level(coordinates: Array) -> Array:
    """Signed height below the neckline of a crew-neck shirt in head units: positive is covered by the shirt."""
    side, front, up = np.moveaxis(coordinates, -1, 0)
    line = np.interp(front, [-2.9, -2.0, -1.2, -0.6], [-2.44, -2.64, -2.92, -3.24])
    return line + 0.10 * side**2 - up
