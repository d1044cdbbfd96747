"""The compiled baking of occlusion probes: which directions a part of a body hides at each node of a lattice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatars.rendering.jit import kernel

ROWS, COLUMNS = 16, 32
"""Directions looked into, on a latitude-longitude grid (pixel centres, row 0 towards +z, azimuth falling)."""


@kernel
def bake(
    worker: int,
    workers: int,
    nodes: Any,
    triangles: Any,
    windows: Any,
    reach_m: float,
    directions: Any,
    weights: Any,
    out: Any,
) -> None:
    """out [M, 25]: harmonics of visibility (1 seen, 0 hidden nearer than reach_m) at nodes [M, 3].

    triangles [F, 3, 3] m; windows [F, 2] m: a triangle counts where the distance to its middle is at least the first
    and less than the second, so that a fine mesh can serve nearby and a coarse one beyond.
    directions [ROWS, COLUMNS, 3]; weights [ROWS * COLUMNS, 25] harmonics times solid angle.
    """
    hidden = np.empty(ROWS * COLUMNS, np.bool_)
    count = len(triangles)
    middles, radii = np.empty((count, 3)), np.empty(count)
    squares = np.empty((count, 2))
    for face in range(count):
        for axis in range(3):
            middles[face, axis] = (triangles[face, 0, axis] + triangles[face, 1, axis] + triangles[face, 2, axis]) / 3
        radii[face] = 0.0
        squares[face, 0], squares[face, 1] = windows[face, 0] ** 2, windows[face, 1] ** 2
        for corner in range(3):
            square = 0.0
            for axis in range(3):
                square += (triangles[face, corner, axis] - middles[face, axis]) ** 2
            radii[face] = max(radii[face], math.sqrt(square))
    for node in range(worker, len(nodes), workers):
        hidden[:] = False
        x, y, z = nodes[node, 0], nodes[node, 1], nodes[node, 2]
        for face in range(count):
            mx, my, mz = middles[face, 0] - x, middles[face, 1] - y, middles[face, 2] - z
            square = mx * mx + my * my + mz * mz
            if square < squares[face, 0] or square >= squares[face, 1]:
                continue
            distance = math.sqrt(square)
            radius = radii[face]
            if distance - radius > reach_m:
                continue
            first, last, left, right = 0, ROWS, 0, COLUMNS
            if distance > 1.001 * radius:
                cone = math.asin(radius / distance)
                polar = math.acos(min(1.0, max(-1.0, mz / distance)))
                first = max(0, math.floor((polar - cone) / math.pi * ROWS - 0.5))
                last = min(ROWS, math.ceil((polar + cone) / math.pi * ROWS + 0.5))
                ratio = math.sin(cone) / max(math.sin(polar), 1e-9)
                if ratio < 1.0 and polar > cone and polar + cone < math.pi:
                    half = math.asin(ratio)
                    middle = (0.5 - math.atan2(my, mx) / (2 * math.pi)) * COLUMNS
                    left = math.floor(middle - half / (2 * math.pi) * COLUMNS - 0.5)
                    right = math.ceil(middle + half / (2 * math.pi) * COLUMNS + 0.5)
            ax, ay, az = triangles[face, 0, 0], triangles[face, 0, 1], triangles[face, 0, 2]
            ux, uy, uz = triangles[face, 1, 0] - ax, triangles[face, 1, 1] - ay, triangles[face, 1, 2] - az
            vx, vy, vz = triangles[face, 2, 0] - ax, triangles[face, 2, 1] - ay, triangles[face, 2, 2] - az
            tx, ty, tz = x - ax, y - ay, z - az
            qx, qy, qz = ty * uz - tz * uy, tz * ux - tx * uz, tx * uy - ty * ux
            for row in range(first, last):
                for wrapped in range(left, right):
                    column = wrapped % COLUMNS
                    place = row * COLUMNS + column
                    if hidden[place]:
                        continue
                    dx, dy, dz = directions[row, column, 0], directions[row, column, 1], directions[row, column, 2]
                    px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
                    volume = ux * px + uy * py + uz * pz
                    if abs(volume) < 1e-14:
                        continue
                    u = (tx * px + ty * py + tz * pz) / volume
                    v = (dx * qx + dy * qy + dz * qz) / volume
                    if u < 0.0 or v < 0.0 or u + v > 1.0:
                        continue
                    along = (vx * qx + vy * qy + vz * qz) / volume
                    if 1e-5 < along < reach_m:
                        hidden[place] = True
        for function in range(weights.shape[1]):
            total = 0.0
            for place in range(ROWS * COLUMNS):
                if not hidden[place]:
                    total += weights[place, function]
            out[node, function] = total
