"""The surface of a canonical field as a triangle mesh (marching cubes near it), the largest piece of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.relit_field.body import CanonicalBody
from avatars.relit_field.fields import Fields
from avatars.surface.extract import extract_surface, largest_piece

SLOPE = 1.5
"""Learned distances change faster than true ones in places."""


def field_mesh(
    fields: Fields, body: CanonicalBody, resolution: int, levels: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices [V, 3] m, canonical, and triangles [F, 3], outwards counter-clockwise.

    resolution: cells along the box's longest side. What touches the box's sides is closed there. Raises EffigyError
    where there is no surface yet.
    """
    found = extract_surface(
        lambda places: fields.distance(places, levels)[0],
        body.volume.low.cpu().numpy(),
        body.volume.high.cpu().numpy(),
        resolution,
        slope=SLOPE,
        at_box="close",
        device=fields.centre.device,
    )
    return largest_piece(*found.numpy())
