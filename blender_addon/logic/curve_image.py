"""A job's numbers as a picture: PSNR above, losses on a logarithmic axis below, each over the steps of the job."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

SIZE_PX = (256, 192)
BACKGROUND, GRID = (28, 28, 30, 255), (64, 64, 68, 255)
PSNR_COLOUR, LOSS_COLOUR = (120, 200, 255, 255), (255, 170, 80, 255)
TOTAL, PSNR = "total", "psnr_db"
THICKNESS_PX = 2


def chosen_lines(names: tuple[str, ...]) -> dict[str, str]:
    """Which numbers are drawn: {'psnr': name, 'loss': name}, with what there is."""
    lines = {"psnr": PSNR} if PSNR in names else {}
    losses = [name for name in names if name != PSNR]
    if losses:
        lines["loss"] = TOTAL if TOTAL in losses else losses[0]
    return lines


def curve_picture(names: tuple[str, ...], steps: NDArray[np.int64], values: NDArray[np.float32]) -> Uint8 | None:
    """[H, W, 4] uint8 sRGB, row 0 at the top; None while there are fewer than two points. values: [N, K]."""
    lines = chosen_lines(names)
    if len(steps) < 2 or not lines:
        return None
    width, height = SIZE_PX
    picture = np.empty((height, width, 4), np.uint8)
    picture[:] = BACKGROUND
    share = height // len(lines)
    for index, (kind, name) in enumerate(lines.items()):
        column = values[:, names.index(name)].astype(np.float64)
        part = picture[index * share : (index + 1) * share]
        part[-1] = GRID
        part[len(part) // 2] = GRID
        if kind == "loss":
            column = np.log10(np.maximum(column, 1e-9))
        known = np.isfinite(column)
        if known.sum() >= 2:
            _draw(part, steps[known].astype(np.float64), column[known], PSNR_COLOUR if kind == "psnr" else LOSS_COLOUR)
    return picture


def ranges(names: tuple[str, ...], values: NDArray[np.float32]) -> Mapping[str, tuple[float, float]]:
    """What each drawn line goes from and to: name -> (first, last)."""
    found = {}
    for name in chosen_lines(names).values():
        column = values[:, names.index(name)]
        known = column[np.isfinite(column)]
        if len(known):
            found[name] = (float(known[0]), float(known[-1]))
    return found


def _draw(part: Uint8, steps: Float64, column: Float64, colour: tuple[int, int, int, int]) -> None:
    """A line through the points, scaled to fill the part; each picture column is filled from point to point."""
    height, width = part.shape[:2]
    margin = 4
    at = np.linspace(steps[0], steps[-1], width)
    low, high = float(column.min()), float(column.max())
    level = np.interp(at, steps, column)
    scaled = (level - low) / (high - low) if high > low else np.full(width, 0.5)
    rows = np.round((height - 1 - margin) - scaled * (height - 1 - 2 * margin)).astype(int)
    for x in range(width):
        before = rows[max(0, x - 1)]
        top, bottom = min(before, rows[x]), max(before, rows[x])
        part[max(0, top - THICKNESS_PX // 2) : bottom + THICKNESS_PX, x] = colour
