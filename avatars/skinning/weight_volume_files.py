"""Weight volumes on disk: MMLPHuman's `lbs_weights_grid.npz` and AnimatableGaussians' `cano_weight_volume.npz`.

The solver behind both samples the middles of voxels, while their readers take the box for the places of the first and
last sample: up to half a voxel off (bodies page A.9). Files of ours have the box at the middles, so that such a reader
is right about them, and say so; others are moved to where the body's own weights say they belong.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.files import write_atomically
from avatars.skinning.weight_volume import WeightVolume
from shared.errors import BadTemplate
from shared.motions import MODEL_FROM_SMPL
from shared.npz import read_npz

MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 2 << 30, 4 << 30
OURS = "middles of voxels"
GRID_KEYS = ("grid", "bbox_min", "bbox_max")
ANIMATABLE_KEYS = ("diff_weight_volume", "volume_bounds")
WANTED = (*GRID_KEYS, "grid_dims", "grid_resolution", "box_at", *ANIMATABLE_KEYS, "center")
MOST_PROBES = 2000


def write_weight_volume(path: Path, volume: WeightVolume) -> None:
    """Write `lbs_weights_grid.npz` as MMLPHuman reads it: SMPL-X's axes (y up), grid [X, Y, Z, J].

    Raises EnvironmentFailed.
    """
    size = np.array(volume.grid.shape[:3])
    grid, low, high = _turned(volume.grid, volume.low, volume.high, MODEL_FROM_SMPL.T)
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        grid=grid,
        bbox_min=low.astype(np.float32),
        bbox_max=high.astype(np.float32),
        grid_dims=size[[0, 2, 1]].astype(np.int64),
        grid_resolution=np.float32((high[0] - low[0]) / (size[0] - 1)),
        box_at=np.array(OURS),
    )
    write_atomically(path, stream.getvalue())


def read_weight_volume(
    path: Path,
    joints: int,
    *,
    vertices: NDArray[np.floating] | None = None,
    weights: NDArray[np.floating] | None = None,
) -> WeightVolume:
    """The volume in a file of either layout, in Effigy's axes (z up).

    joints: of the body, which the file must have. vertices [V, 3] m in the big pose and weights [V, J]: where given, a
    file that does not say where its samples lie is placed so that it gives back these weights best. Raises BadTemplate.
    """
    arrays = _arrays(path)
    ours = False
    if all(key in arrays for key in GRID_KEYS):
        grid, low, high = (arrays[key] for key in GRID_KEYS)
        ours = "box_at" in arrays and str(arrays["box_at"]) == OURS
        centre = np.zeros(3)
    elif all(key in arrays for key in ANIMATABLE_KEYS):
        grid, bounds = arrays["diff_weight_volume"], np.asarray(arrays["volume_bounds"])
        if bounds.shape != (2, 3):
            raise BadTemplate(
                f"volume_bounds of {path.name} is no box", found=str(list(bounds.shape)), expected="[2, 3]"
            )
        low, high = bounds
        centre = np.asarray(arrays.get("center", np.zeros(3)), np.float64).reshape(-1)
    else:
        raise BadTemplate(
            f"{path.name} is no volume of skinning weights",
            found=", ".join(sorted(arrays)) or "none of its arrays",
            expected=f"{', '.join(GRID_KEYS)}, or {', '.join(ANIMATABLE_KEYS)}",
        )
    _check(path, grid, low, high, joints)
    low, high = np.asarray(low, np.float64).reshape(3), np.asarray(high, np.float64).reshape(3)
    values = np.clip(np.asarray(grid, np.float32), 0, None)
    values /= np.maximum(values.sum(3, keepdims=True), np.float32(1e-12))
    half = (high - low) / (2 * np.array(values.shape[:3]))
    places = [(low, high)] if ours else [(low + half, high - half)]
    if not ours and vertices is not None and weights is not None:
        moves = [np.zeros(3)] + ([centre] if centre.shape == (3,) and np.abs(centre).max() > 0 else [])
        places = [(low + inset + move, high - inset + move) for inset in (half, np.zeros(3)) for move in moves]
    best = min(places, key=lambda place: _misfit(values, place, vertices, weights)) if len(places) > 1 else places[0]
    return WeightVolume(*_turned(values, *best, MODEL_FROM_SMPL))


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadTemplate(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if size > MAX_FILE_BYTES:
        raise BadTemplate(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}")
    return read_npz(content, path.name, BadTemplate, max_unpacked_bytes=MAX_UNPACKED_BYTES, only=WANTED)


def _check(path: Path, grid: NDArray[Any], low: NDArray[Any], high: NDArray[Any], joints: int) -> None:
    if grid.ndim != 4 or min(grid.shape[:3]) < 2 or grid.shape[3] != joints or grid.dtype.kind != "f":
        raise BadTemplate(
            f"the grid of {path.name} does not fit the body",
            found=f"{list(grid.shape)} {grid.dtype}",
            expected=f"[X, Y, Z, {joints}] numbers",
            do="Use the volume that was made for this body",
        )
    if np.size(low) != 3 or np.size(high) != 3 or not (np.ravel(high) > np.ravel(low)).all():
        raise BadTemplate(f"the box of {path.name} is none", found=f"{np.ravel(low)} to {np.ravel(high)}")
    if not np.isfinite(grid[:: max(1, len(grid) // 8)]).all():
        raise BadTemplate(f"the grid of {path.name} holds values that are not finite")


def _misfit(
    grid: NDArray[np.float32],
    place: tuple[NDArray[np.float64], NDArray[np.float64]],
    vertices: NDArray[np.floating] | None,
    weights: NDArray[np.floating] | None,
) -> float:
    """Mean difference from the body's own weights at some of its vertices, the grid still in the file's axes."""
    assert vertices is not None  # both were given where there is a choice
    assert weights is not None
    rows = np.linspace(0, len(vertices) - 1, min(len(vertices), MOST_PROBES)).astype(np.int64)
    found = WeightVolume(grid, *place).at(np.asarray(vertices, np.float64)[rows] @ MODEL_FROM_SMPL)
    return float(np.abs(found - np.asarray(weights)[rows]).sum(1).mean())


def _turned(
    grid: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64], turn: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """The same samples after x -> turn x, for a turn that exchanges axes: grid, first and last place."""
    source = np.abs(turn).argmax(1)
    signs = turn[np.arange(3), source]
    moved = grid.transpose(*source, 3)
    flips = tuple(axis for axis in range(3) if signs[axis] < 0)
    ends = np.stack((low[source], high[source])) * signs
    return np.ascontiguousarray(np.flip(moved, flips)), ends.min(0), ends.max(0)
