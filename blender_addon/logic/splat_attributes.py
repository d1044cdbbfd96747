"""Posed Gaussians as the attributes of a Blender point cloud of the kind GAUSSIAN_SPLAT, and writing them. numpy only.

Names, domains and meaning are those of Blender 5.3's own PLY and SPZ importers: `position` and `scale` (linear standard
deviations) as vectors, `rotation` as a quaternion w x y z, `radiance:base` as the constant harmonic's r, g, b and the
opacity in 0..1, `radiance:sh_0` and on one vector of r, g, b for each higher harmonic. Blender adds 0.5 to the sum of
the harmonics, takes it as display-encoded sRGB and decodes it: just what avatars learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import messages

Float32 = NDArray[np.float32]
KIND = "GAUSSIAN_SPLAT"
HIGHER = "radiance:sh_"
MEMBERS = {"FLOAT_VECTOR": "vector", "QUATERNION": "value", "FLOAT4": "vector"}
"""What Blender calls the values of an attribute's type (as 5.2.2 has them)."""


def attributes(cloud: messages.GaussianCloud) -> dict[str, tuple[str, Float32]]:
    """Attribute name -> its type in Blender and flat float32 values, ready for `foreach_set`."""

    base = np.concatenate([cloud.harmonics[:, 0], cloud.opacities[:, None]], axis=1)
    found = {
        "position": ("FLOAT_VECTOR", cloud.means),
        "scale": ("FLOAT_VECTOR", cloud.scales),
        "rotation": ("QUATERNION", cloud.quats),
        "radiance:base": ("FLOAT4", base),
    }
    for index in range(1, cloud.harmonics.shape[1]):
        found[f"{HIGHER}{index - 1}"] = ("FLOAT_VECTOR", cloud.harmonics[:, index])
    # A plain float32 array takes Blender's fast path; other layouts are read value by value.
    return {name: (kind, np.ascontiguousarray(part, np.float32).reshape(-1)) for name, (kind, part) in found.items()}


def fill(data: Any, cloud: messages.GaussianCloud) -> None:
    """Make a PointCloud hold a cloud: count, kind and attributes; attributes that no longer belong are removed."""
    count = len(cloud.means)
    data.resize(count)
    if hasattr(data, "type") and data.type != KIND:
        data.type = KIND
    wanted = attributes(cloud)
    for name in [each.name for each in data.attributes if each.name.startswith(HIGHER) and each.name not in wanted]:
        data.attributes.remove(data.attributes[name])
    for name, (kind, values) in wanted.items():
        attribute = data.attributes.get(name)
        if attribute is not None and (attribute.data_type != kind or attribute.domain != "POINT"):
            data.attributes.remove(attribute)
            attribute = None
        if attribute is None:
            attribute = data.attributes.new(name, kind, "POINT")
        if count:
            attribute.data.foreach_set(MEMBERS[kind], values)
    data.update_tag()


def three_points() -> messages.GaussianCloud:
    """A small cloud to try a Blender with."""
    return messages.GaussianCloud(
        "test",
        np.eye(3, dtype=np.float32),
        np.tile(np.float32([1, 0, 0, 0]), (3, 1)),
        np.full((3, 3), 0.01, np.float32),
        np.full(3, 0.5, np.float32),
        np.zeros((3, 4, 3), np.float32),
    )
