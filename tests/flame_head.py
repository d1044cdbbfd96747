"""A head with FLAME's exact counts, resampled from the embedded human: 5023 vertices, 9976 faces, 5118 UV vertices.

FLAME's files may not be shipped, so tests write their own in the same layout. The head is a grid of rays shot from
inside the open template's head (66 columns, 61 rows, two poles), with a slit for the mouth, two holes for the eyes and
two eyeballs; vertices are numbered so that FLAME's lip rings lie on the lips. Axes here are Effigy's (z up, facing -y).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatars.templates.opening import embedded_template
from shared.template import TemplateArrays

Array = NDArray[np.float64]
VERTICES, FACES, UV_VERTICES = 5023, 9976, 5118
COLUMNS, ROWS, FRONT = 66, 61, 33
EYE_COLUMNS, EYE_RINGS = 29, 17
EYE_ROW, MOUTH_ROW = 19, 41  # rows of the grid at the pupils and between the lips
EYE_CELLS, LIP_ROWS = (6, 12), 2  # columns from the middle that the eye's hole spans; rows from slit to lip ring
LIP_RING_UPPER = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
LIP_RING_LOWER = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
JOINT_OWNERS = {"neck": 0, "head": 1, "jaw": 2, "left_eye": 3, "right_eye": 4}  # embedded joint -> FLAME joint
CENTRE_Y_M, FACE_DEPTH_M = 0.015, 0.11


@dataclass(frozen=True, eq=False)
class FlameHead:
    """vertices [5023, 3] m; faces [9976, 3]; uv [5118, 2], uv_faces [9976, 3]; weights [5023, 5]; joints [5, 3] m.

    shapes [S, 5023, 3], expressions [E, 5023, 3] and eyelids (left, right) [5023, 3]: fields of the open template.
    """

    vertices: Array
    faces: NDArray[np.int64]
    uv: Array
    uv_faces: NDArray[np.int64]
    weights: Array
    joints: Array
    shapes: Array
    expressions: Array
    eyelids: tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class _Samples:
    """Points on the open template: rows into its vertices [n, 3] and their weights [n, 3]."""

    rows: NDArray[np.int64]
    shares: Array

    def take(self, field: NDArray[np.floating]) -> Array:
        """A field [V, ...] at the samples."""
        values = np.asarray(field, np.float64)[self.rows]
        return np.einsum("nk,nk...->n...", self.shares, values)


@lru_cache(maxsize=2)
def flame_head(man: float = 1.0) -> FlameHead:
    """The head of the open template's preset 'man' mixed with 'woman'."""
    human = embedded_template("bust")
    shares = (("man", man), ("woman", 1 - man))
    rest = human.vertices + sum(share * human.presets[name][0].astype(np.float64) for name, share in shares)
    joints = human.joints + sum(share * human.presets[name][1].astype(np.float64) for name, share in shares)
    origin = joints[human.joint_names.index("head")].copy()  # FLAME's own origin lies there, about
    rest, joints = rest - origin, joints - origin
    eyes = {name: rest[human.group_vertices(name)] for name in ("eye_l", "eye_r")}
    eye_z = float(np.mean([points[:, 2].mean() for points in eyes.values()]))
    mouth_z = _mouth_height(human, rest)
    azimuth, height = _grid(eye_z, mouth_z)
    samples, points = _shoot(human, rest, azimuth, height, eye_z)
    faces, uv_faces, uv, kept = _connect(azimuth, height)
    points = _calmed(points, azimuth)
    points, samples = points[kept], _Samples(samples.rows[kept], samples.shares[kept])
    samples = _on_skin(human, rest, samples, points)
    for ball in eyes.values():  # lids lie on the eyeball, not in it
        points = _pushed_out(points, *_ball(ball), 0.0012)
    own = [joints[human.joint_names.index(name)] for name in JOINT_OWNERS]
    weights = _weights(human, samples)
    fields = np.concatenate((human.shape_dirs, _all_expressions(human)))
    on_head = np.stack([samples.take(field) for field in fields])
    parts = [(points, weights, on_head)]
    for name, owner in (("eye_l", 3), ("eye_r", 4)):
        centre, radius = _ball(eyes[name])
        sphere, sphere_faces, sphere_uv, sphere_uv_faces = _eyeball(centre, radius, left=owner == 3)
        offset, uv_offset = sum(len(part[0]) for part in parts), len(uv)
        faces, uv_faces = np.vstack((faces, sphere_faces + offset)), np.vstack((uv_faces, sphere_uv_faces + uv_offset))
        uv = np.vstack((uv, sphere_uv))
        rigid = fields[:, human.group_vertices(name)].mean(1, keepdims=True)
        rigid[len(human.shape_dirs) :] = 0  # expressions do not move the eyeballs
        parts.append((sphere, np.eye(5)[np.full(len(sphere), owner)], np.repeat(rigid, len(sphere), axis=1)))
    order = _numbering(len(points), sum(len(part[0]) for part in parts))
    all_fields = np.concatenate([part[2] for part in parts], axis=1)[:, order]
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    moved = all_fields[len(human.shape_dirs) :]
    names = human.expression_names
    blink = [moved[names.index(name)] for name in ("eyeBlinkLeft", "eyeBlinkRight")]
    return FlameHead(
        vertices=np.concatenate([part[0] for part in parts])[order],
        faces=position[faces],
        uv=uv,
        uv_faces=uv_faces,
        weights=np.concatenate([part[1] for part in parts])[order],
        joints=np.stack(own),
        shapes=all_fields[: len(human.shape_dirs)],
        expressions=moved,
        eyelids=(blink[0], blink[1]),
    )


def _mouth_height(human: TemplateArrays, rest: Array) -> float:
    """Where, going down the middle of the face, the surface begins to follow the jaw."""
    heights = np.linspace(-0.10, -0.04, 61) + rest[human.group_vertices("eye_l"), 2].mean()
    samples, _ = _rays(human, rest, np.zeros((61, 1)), heights[:, None])
    jaw = samples.take(human.weights[:, human.joint_names.index("jaw")])
    return float(heights[np.argmax(np.diff(jaw[:61]) * -1) + 1])


def _grid(eye_z: float, mouth_z: float) -> tuple[Array, Array]:
    """Azimuth [66] rad of columns (0 in front, growing to +x) and height [61] m above the pupils of rows."""
    to_corner = np.concatenate((np.linspace(0, 0.015, 7), np.linspace(0.015, 0.046, 7)[1:]))
    front = np.arctan2(to_corner, FACE_DEPTH_M)
    growth = np.cumsum(1.07 ** np.arange(21))
    half = np.concatenate((front, front[-1] + (np.pi - front[-1]) * growth / growth[-1]))
    azimuth = np.concatenate((-half[:0:-1], half[:-1]))  # the seam lies at the back, column 0
    mouth = mouth_z - eye_z
    growth = np.cumsum(1.05 ** np.arange(EYE_ROW - 1))
    above = 0.0045 + 0.16 * growth / growth[-1]  # along the skull
    rows = [above[::-1], [0.0045, 0.0, -0.0045]]
    rows.append(np.linspace(-0.0045, mouth, MOUTH_ROW - EYE_ROW)[1:])
    rows.append(mouth - 0.0032 * np.arange(1, 14))
    rows.append(mouth - 0.0416 - np.linspace(0.012, 0.085, ROWS - MOUTH_ROW - 14))
    return azimuth, np.concatenate(rows)


def _shoot(human: TemplateArrays, rest: Array, azimuth: Array, height: Array, eye_z: float) -> tuple[_Samples, Array]:
    """Where the rays of grid, poles and lower lip hit: grid row by row, top, bottom, then 15 copies below the slit."""
    angles, heights = (values.copy() for values in np.meshgrid(azimuth, height))
    middle = FRONT
    for side in (-1, 1):  # round the eye's hole: a rectangle of cells becomes an ellipse
        columns = middle + side * np.arange(EYE_CELLS[0], EYE_CELLS[1] + 1)
        across = np.linspace(-1, 1, len(columns))
        for row, sign in ((EYE_ROW - 1, 1), (EYE_ROW + 1, -1)):
            heights[row, columns] = sign * 0.0055 * np.sqrt(np.maximum(1 - (0.93 * across) ** 2, 0))
    lower = slice(middle - 7, middle + 8)
    lip_angles, lip_heights = angles[MOUTH_ROW, lower][None], heights[MOUTH_ROW, lower][None] - 0.001
    heights[MOUTH_ROW, lower] += 0.001
    samples, points = _rays(human, rest, angles, heights + eye_z)
    poles, pole_points = _rays(human, rest, np.zeros((2, 1)), np.array([[0.165 + 0.02], [height[-1]]]) + eye_z)
    lips, lip_points = _rays(human, rest, lip_angles, lip_heights + eye_z)
    ring = points[-COLUMNS:]
    pole_points[0] = points[:COLUMNS].mean(0) + (0, 0, 0.002)
    pole_points[1] = ring.mean(0)
    rows = np.concatenate((samples.rows, poles.rows, lips.rows))
    shares = np.concatenate((samples.shares, poles.shares, lips.shares))
    rows[len(points) + 1], shares[len(points) + 1] = samples.rows[-1], samples.shares[-1]
    return _Samples(rows, shares), np.concatenate((points, pole_points, lip_points))


def _rays(human: TemplateArrays, rest: Array, angles: Array, heights: Array) -> tuple[_Samples, Array]:
    """The outermost hits on skin and eyes of rays [rows, columns]: level below the pupils, fanning out above."""
    quads = np.concatenate([human.faces[name] for name in ("skin", "eye_l", "eye_r")])
    triangles = np.concatenate((quads[:, [0, 1, 2]], quads[quads[:, 2] != quads[:, 3]][:, [0, 2, 3]])).astype(np.int64)
    eye_z = rest[human.group_vertices("eye_l", "eye_r"), 2].mean()
    reach = np.linalg.norm(rest[triangles].mean(1)[:, :2] - (0, CENTRE_Y_M), axis=1) < 0.16
    triangles = triangles[reach & (rest[triangles][:, :, 2].max(1) > heights.min() - 0.02)]
    rows, shares, points = [], [], []
    for line, level in zip(angles, heights, strict=True):
        start = np.array([0, CENTRE_Y_M, min(float(level.mean()), float(eye_z))])
        rise = np.maximum(level - eye_z, 0) / FACE_DEPTH_M
        flat = np.stack((np.sin(line), -np.cos(line), (np.minimum(level, eye_z) - start[2]) / FACE_DEPTH_M), 1)
        direction = flat * (np.cos(rise)[:, None], np.cos(rise)[:, None], 1)[0] + np.sin(rise)[:, None] * (0, 0, 1)
        a, b, c = (rest[triangles[:, corner]] - start for corner in range(3))
        first, second, third = (direction @ np.cross(*pair).T for pair in ((b, c), (c, a), (a, b)))
        total, least = first + second + third, np.minimum(np.minimum(first, second), third)
        inside = (least >= -1e-12) & (total > 1e-15)  # leaving the head: the triangle's outside is away
        depth = np.where(inside, np.einsum("fk,fk->f", a, np.cross(b, c)) / np.where(inside, total, 1), -1)
        best, each = depth.argmax(1), np.arange(len(line))
        for lost in np.flatnonzero(depth.max(1) <= 0):  # through a gap between lid and eyeball: the nearest triangle
            ahead = np.where(total[lost] > 1e-9, total[lost], np.inf)
            best[lost] = (least[lost] / ahead).argmax()
        share = np.clip(np.stack((first[each, best], second[each, best], third[each, best]), 1), 0, None)
        rows.append(triangles[best])
        shares.append(share / share.sum(1, keepdims=True))
        points.append(np.einsum("nk,nkc->nc", shares[-1], rest[rows[-1]]))
    return _Samples(np.concatenate(rows), np.concatenate(shares)), np.concatenate(points)


def _connect(azimuth: Array, height: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, NDArray[np.int64]]:
    """Faces and UV faces [n, 3], UV vertices, and which points of `_shoot` are used (faces count those only)."""
    grid = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    top, bottom, lips = grid.size, grid.size + 1, grid.size + 2
    below = grid.copy()  # the same grid as the cells under the slit see it
    below[MOUTH_ROW, FRONT - 7 : FRONT + 8] = lips + np.arange(15)
    holes = [FRONT + EYE_CELLS[0], FRONT - EYE_CELLS[1]]
    faces, uv_faces = [], []
    uv_grid = np.arange(ROWS * (COLUMNS + 1)).reshape(ROWS, COLUMNS + 1)
    uv_below = uv_grid.copy()
    uv_top, uv_bottom, uv_lips = uv_grid.size, uv_grid.size + 1, uv_grid.size + 2
    uv_below[MOUTH_ROW, FRONT - 7 : FRONT + 8] = uv_lips + np.arange(15)
    for column in range(COLUMNS):
        right = (column + 1) % COLUMNS
        faces.append((top, grid[0, column], grid[0, right]))
        uv_faces.append((uv_top, uv_grid[0, column], uv_grid[0, column + 1]))
        for row in range(ROWS - 1):
            if EYE_ROW - 1 <= row <= EYE_ROW and any(first <= column < first + 6 for first in holes):
                continue
            upper, uv_upper = (below, uv_below) if row == MOUTH_ROW else (grid, uv_grid)
            a, b, c, d = upper[row, column], grid[row + 1, column], grid[row + 1, right], upper[row, right]
            ua, ub = uv_upper[row, column], uv_grid[row + 1, column]
            uc, ud = uv_grid[row + 1, column + 1], uv_upper[row, column + 1]
            faces += [(a, b, c), (a, c, d)]
            uv_faces += [(ua, ub, uc), (ua, uc, ud)]
        faces.append((grid[-1, column], bottom, grid[-1, right]))
        uv_faces.append((uv_grid[-1, column], uv_bottom, uv_grid[-1, column + 1]))
    # Texels follow the columns and rows as they lie on the head; the strip above v = 0.95 is left to the teeth.
    u = 0.02 + 0.96 * (np.append(azimuth, np.pi) + np.pi) / (2 * np.pi)
    v = 0.18 + 0.74 * (height - height[-1]) / (height[0] - height[-1])
    sheet = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1)
    lip_uv = sheet[MOUTH_ROW, FRONT - 7 : FRONT + 8]
    uv = np.concatenate((sheet.reshape(-1, 2), [(0.5, 0.945), (0.5, 0.155)], lip_uv))
    grid_faces, kept = _compact(np.array(faces))
    sheet_faces, uv_kept = _compact(np.array(uv_faces))
    return grid_faces, sheet_faces, uv[uv_kept], kept


def _compact(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    used, inverse = np.unique(faces, return_inverse=True)
    return inverse.reshape(faces.shape), used


def _eyeball(centre: Array, radius: float, *, left: bool) -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """A sphere with its poles at pupil and back: vertices, faces, UV, UV faces."""
    turn = 2 * np.pi * np.arange(EYE_COLUMNS + 1) / EYE_COLUMNS - np.pi
    tilt = np.pi * np.arange(1, EYE_RINGS + 1) / (EYE_RINGS + 1)
    ring = np.stack(np.broadcast_arrays(np.sin(turn)[None, :-1], -np.cos(turn)[None, :-1]), -1)
    z_up = np.concatenate(
        (np.sin(tilt)[:, None, None] * ring, np.broadcast_to(np.cos(tilt)[:, None, None], (EYE_RINGS, EYE_COLUMNS, 1))),
        -1,
    ).reshape(-1, 3)
    z_up = np.concatenate((z_up, [(0, 0, 1), (0, 0, -1)]))
    points = centre + radius * np.stack((z_up[:, 0], -z_up[:, 2], z_up[:, 1]), 1)  # the upper pole looks ahead
    grid = np.arange(EYE_RINGS * EYE_COLUMNS).reshape(EYE_RINGS, EYE_COLUMNS)
    wrapped = np.concatenate((grid, grid[:, :1]), 1)
    sheet = np.arange(EYE_RINGS * (EYE_COLUMNS + 1)).reshape(EYE_RINGS, EYE_COLUMNS + 1)
    faces = _sphere_faces(wrapped, grid.size, grid.size + 1)
    uv_faces = _sphere_faces(sheet, sheet.size, sheet.size + 1)
    u = (0.54 if left else 0.04) + 0.42 * (turn + np.pi) / (2 * np.pi)
    v = 0.13 - 0.11 * tilt / np.pi
    uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1).reshape(-1, 2)
    middle = float(u.mean())
    return points, faces, np.concatenate((uv, [(middle, 0.135), (middle, 0.012)])), uv_faces


def _sphere_faces(grid: NDArray[np.int64], top: int, bottom: int) -> NDArray[np.int64]:
    a, b, c, d = (part.ravel() for part in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    first, last = grid[0], grid[-1]
    caps = [
        (np.full(len(first) - 1, top), first[:-1], first[1:]),
        (last[:-1], np.full(len(last) - 1, bottom), last[1:]),
    ]
    return np.concatenate([np.stack(part, 1) for part in ((a, b, c), (a, c, d), *caps)])


def _ball(points: Array) -> tuple[Array, float]:
    """Centre and radius of the sphere through an eyeball's vertices, cornea apart."""
    centre = (points.min(0) + points.max(0)) / 2
    return centre, float(np.median(np.linalg.norm(points - centre, axis=1)))


def _on_skin(human: TemplateArrays, rest: Array, samples: _Samples, points: Array) -> _Samples:
    """Where a ray met an eyeball the new vertex is a lid: it moves as the skin next to it does."""
    lost = np.flatnonzero(np.isin(samples.rows[:, 0], human.group_vertices("eye_l", "eye_r")))
    skin = human.group_vertices("skin")
    nearest = skin[np.linalg.norm(points[lost][:, None] - rest[skin][None], axis=2).argmin(1)]
    rows, shares = samples.rows.copy(), samples.shares.copy()
    rows[lost], shares[lost] = nearest[:, None], (1, 0, 0)
    return _Samples(rows, shares)


def _pushed_out(points: Array, centre: Array, radius: float, gap: float) -> Array:
    away = points - centre
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    return np.where(distance < radius + gap, centre + away / distance * (radius + gap), points)


def _calmed(points: Array, azimuth: Array) -> Array:
    """The sides of the grid smoothed: rays meet an ear's folds at random, and columns are wide there."""
    sheet = points[: ROWS * COLUMNS].reshape(ROWS, COLUMNS, 3).copy()
    side = np.clip((np.abs(azimuth) - 0.7) / 0.4, 0, 1)[None, :, None]
    for _ in range(4):
        padded = np.pad(sheet, ((1, 1), (0, 0), (0, 0)), mode="edge")
        around = (padded[:-2] + padded[2:] + np.roll(sheet, 1, 1) + np.roll(sheet, -1, 1)) / 4
        sheet += side * 0.6 * (around - sheet)
    return np.concatenate((sheet.reshape(-1, 3), points[ROWS * COLUMNS :]))


def _weights(human: TemplateArrays, samples: _Samples) -> Array:
    mapped = np.zeros((len(human.vertices), 5))
    for name, column in zip(human.joint_names, human.weights.T, strict=True):
        mapped[:, JOINT_OWNERS.get(name, 0)] += column
    weights = samples.take(mapped)
    return weights / weights.sum(1, keepdims=True)


def _all_expressions(human: TemplateArrays) -> Array:
    whole = np.zeros((len(human.expression_names), len(human.vertices), 3))
    whole[:, human.expression_vertices] = human.expression_dirs
    return whole


def _numbering(on_head: int, total: int) -> NDArray[np.int64]:
    """order[new] = old: FLAME's lip rings get the vertices above and below the slit, from left (+x) to right."""
    removed = 5 * 2  # the vertices inside the eyes' holes, all of lower index than the lips
    columns = FRONT + np.arange(7, -8, -1)
    upper = (MOUTH_ROW - LIP_ROWS) * COLUMNS + columns - removed
    lower = (MOUTH_ROW + LIP_ROWS) * COLUMNS + columns - removed
    order = np.full(total, -1, np.int64)
    order[list(LIP_RING_UPPER)], order[list(LIP_RING_LOWER)] = upper, lower
    order[order < 0] = np.setdiff1d(np.arange(total), np.concatenate((upper, lower)))
    assert on_head > lower.max()
    return order
