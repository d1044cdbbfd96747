"""Standard 3D Gaussian splatting PLY files, and the columns they share with GaussianAvatars' (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.formats.ply import columns, float_table, numbered, read_ply, write_ply
from avatars.formats.splats import Splats
from avatars.gaussians.spherical_harmonics import coefficients_of
from shared.errors import BadAvatar

POINT, NORMAL, OPACITY = ("x", "y", "z"), ("nx", "ny", "nz"), ("opacity",)
COLOUR, SCALE, ROTATION = numbered("f_dc", 3), numbered("scale", 3), numbered("rot", 4)
REST_COLUMNS = 45
"""Files always hold the columns of degree 3, as most viewers expect; higher bands than there are stay zero."""


def splat_table(splats: Splats, further: Sequence[tuple[Sequence[str], NDArray[Any]]] = ()) -> NDArray[Any]:
    """Splats as the vertices of a PLY, with further float columns after the standard ones."""
    count = len(splats)
    rest = np.zeros((count, 3, REST_COLUMNS // 3), np.float32)  # channel-major: all of red, then green, then blue
    rest[:, :, : splats.sh.shape[1] - 1] = splats.sh[:, 1:].transpose(0, 2, 1)
    return float_table(
        [
            (POINT, splats.positions),
            (NORMAL, np.zeros((count, 3), np.float32)),
            (COLOUR, splats.sh[:, 0]),
            (numbered("f_rest", REST_COLUMNS), rest.reshape(count, -1)),
            (OPACITY, splats.logits[:, None]),
            (SCALE, splats.log_scales),
            (ROTATION, splats.rotations),
            *further,
        ]
    )


def splats_from_table(table: NDArray[Any], path: Path) -> Splats:
    """The standard columns of a PLY as splats; the degree follows from how many f_rest columns there are.

    Raises BadAvatar.
    """
    count = sum(name.startswith("f_rest_") for name in table.dtype.names or ())
    known = {3 * (coefficients_of(degree) - 1): degree for degree in range(4)}
    if count not in known:
        raise BadAvatar(
            f"{path} holds colours of an unknown degree",
            found=f"{count} columns f_rest_*",
            expected=", ".join(map(str, known)),
        )
    rest = columns(table, numbered("f_rest", count), path).reshape(len(table), 3, count // 3).transpose(0, 2, 1)
    return Splats(
        positions=columns(table, POINT, path),
        rotations=columns(table, ROTATION, path),
        log_scales=columns(table, SCALE, path),
        logits=columns(table, OPACITY, path)[:, 0],
        sh=np.ascontiguousarray(np.concatenate((columns(table, COLOUR, path)[:, None], rest), 1)),
    )


def write_splat_ply(path: Path, splats: Splats, comments: Sequence[str] = ()) -> None:
    """Write a PLY that 3D Gaussian splatting viewers open. The caller makes it atomic. Raises EnvironmentFailed."""
    write_ply(path, splat_table(splats), comments)


def read_splat_ply(path: Path) -> Splats:
    """The splats of a PLY, in the file's own axes. Raises BadAvatar."""
    return splats_from_table(read_ply(Path(path)), Path(path))
