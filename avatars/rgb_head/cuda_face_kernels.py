"""A Triton kernel that makes the frames of posed triangles, as `frames.triangle_frames` does in torch.

Imported on CUDA devices only (Triton comes with torch's CUDA builds). One row of 24 numbers stands for a posed
triangle: its frame row by row (9), the frame's quaternion wxyz (4), its three corners (9), and two unused.
"""

from __future__ import annotations

import triton
import triton.language as tl

FACE_ROW, FACES_A_BLOCK = 24, 128
_TINY: tl.constexpr = tl.constexpr(1e-20)


@triton.jit
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def _unit(x, y, z, floor):
    length = tl.maximum(tl.sqrt(x * x + y * y + z * z), floor)
    return x / length, y / length, z / length


@triton.jit
def _direction(x, y, z, ox, oy, oz):
    """Unit vectors; one without length becomes a perpendicular of the other (or +z where that has none either)."""
    length = tl.sqrt(x * x + y * y + z * z)
    ax, ay, az = tl.abs(ox), tl.abs(oy), tl.abs(oz)
    first = (ax <= ay) & (ax <= az)
    second = (ay <= az) & (first == 0)
    ux, uy = tl.where(first, 1.0, 0.0), tl.where(second, 1.0, 0.0)
    uz = 1.0 - ux - uy
    px, py, pz = _cross(ox, oy, oz, ux, uy, uz)
    across = tl.sqrt(px * px + py * py + pz * pz)
    some = across > _TINY
    safe = tl.where(some, across, 1.0)
    px, py, pz = tl.where(some, px / safe, 0.0), tl.where(some, py / safe, 0.0), tl.where(some, pz / safe, 1.0)
    good = length > _TINY
    longer = tl.where(good, length, 1.0)
    return tl.where(good, x / longer, px), tl.where(good, y / longer, py), tl.where(good, z / longer, pz)


@triton.jit
def face_rows(
    vertices, frames, triangles, uv_corners, out, vertex_count, faces, ORTHONORMAL: tl.constexpr, BLOCK: tl.constexpr
):
    """Rows [B, F, 24] of triangles [F, 3] with uv_corners [F, 3, 2] on vertices [T, V, 3], picture b showing frames[b].

    ORTHONORMAL False is RGBAvatar's frame (method page 2.6); the maths are those of `frames.triangle_frames`.
    """
    batch = tl.program_id(1)
    face = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = face < faces
    frame = tl.load(frames + batch)
    base = vertices + frame * vertex_count * 3
    a = tl.load(triangles + face * 3, mask=live, other=0) * 3
    b = tl.load(triangles + face * 3 + 1, mask=live, other=0) * 3
    c = tl.load(triangles + face * 3 + 2, mask=live, other=0) * 3
    ax, ay, az = tl.load(base + a), tl.load(base + a + 1), tl.load(base + a + 2)
    bx, by, bz = tl.load(base + b), tl.load(base + b + 1), tl.load(base + b + 2)
    cx, cy, cz = tl.load(base + c), tl.load(base + c + 1), tl.load(base + c + 2)
    uv = uv_corners + face * 6
    u0, v0 = tl.load(uv, mask=live, other=0.0), tl.load(uv + 1, mask=live, other=0.0)
    du1, dv1 = tl.load(uv + 2, mask=live, other=0.0) - u0, tl.load(uv + 3, mask=live, other=0.0) - v0
    du2, dv2 = tl.load(uv + 4, mask=live, other=0.0) - u0, tl.load(uv + 5, mask=live, other=0.0) - v0
    sign = tl.where(du1 * dv2 - dv1 * du2 < 0, -1.0, 1.0)
    du1, dv1, du2, dv2 = du1 * sign, dv1 * sign, du2 * sign, dv2 * sign
    e1x, e1y, e1z = bx - ax, by - ay, bz - az
    e2x, e2y, e2z = cx - ax, cy - ay, cz - az
    tx, ty, tz = dv2 * e1x - dv1 * e2x, dv2 * e1y - dv1 * e2y, dv2 * e1z - dv1 * e2z
    nx, ny, nz = _cross(e1x, e1y, e1z, e2x, e2y, e2z)
    if ORTHONORMAL:
        nx, ny, nz = _direction(nx, ny, nz, tx, ty, tz)
        along = tx * nx + ty * ny + tz * nz
        tx, ty, tz = _direction(tx - along * nx, ty - along * ny, tz - along * nz, nx, ny, nz)
        along = tx * nx + ty * ny + tz * nz
        tx, ty, tz = _unit(tx - along * nx, ty - along * ny, tz - along * nz, 1e-12)
        sx, sy, sz = _cross(nx, ny, nz, tx, ty, tz)
    else:
        sx, sy, sz = du1 * e2x - du2 * e1x, du1 * e2y - du2 * e1y, du1 * e2z - du2 * e1z
        tx, ty, tz = _unit(tx, ty, tz, _TINY)
        sx, sy, sz = _unit(sx, sy, sz, _TINY)
        nx, ny, nz = _unit(nx, ny, nz, _TINY)
    # The matrix is [t | s | n]; the quaternion by the largest of its four numbers. RGBAvatar reads that of its matrix,
    # which is no rotation, in y-up axes: rows (x, z, -y), and a quarter turn afterwards.
    if ORTHONORMAL:
        t1, s1, n1, t2, s2, n2 = ty, sy, ny, tz, sz, nz
    else:
        t1, s1, n1, t2, s2, n2 = tz, sz, nz, -ty, -sy, -ny
    trace = tx + s1 + n2
    qa, qb, qc = s2 - n1, nx - t2, t1 - sx
    qd, qe, qf = sx + t1, nx + t2, n1 + s2
    ww, xx, yy, zz = 1 + trace, 1 + 2 * tx - trace, 1 + 2 * s1 - trace, 1 + 2 * n2 - trace
    by_w = (ww >= xx) & (ww >= yy) & (ww >= zz)
    by_x = (xx >= yy) & (xx >= zz)
    by_y = yy >= zz
    qw = tl.where(by_w, ww, tl.where(by_x, qa, tl.where(by_y, qb, qc)))
    qx = tl.where(by_w, qa, tl.where(by_x, xx, tl.where(by_y, qd, qe)))
    qy = tl.where(by_w, qb, tl.where(by_x, qd, tl.where(by_y, yy, qf)))
    qz = tl.where(by_w, qc, tl.where(by_x, qe, tl.where(by_y, qf, zz)))
    if ORTHONORMAL == 0:
        qw, qx, qy, qz = qw - qx, qx + qw, qy - qz, qz + qy
    turn = tl.where(qw < 0, -1.0, 1.0) / tl.maximum(tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz), 1e-12)
    row = out + (batch * faces + face) * 24
    tl.store(row + 0, tx, mask=live)
    tl.store(row + 1, sx, mask=live)
    tl.store(row + 2, nx, mask=live)
    tl.store(row + 3, ty, mask=live)
    tl.store(row + 4, sy, mask=live)
    tl.store(row + 5, ny, mask=live)
    tl.store(row + 6, tz, mask=live)
    tl.store(row + 7, sz, mask=live)
    tl.store(row + 8, nz, mask=live)
    tl.store(row + 9, qw * turn, mask=live)
    tl.store(row + 10, qx * turn, mask=live)
    tl.store(row + 11, qy * turn, mask=live)
    tl.store(row + 12, qz * turn, mask=live)
    tl.store(row + 13, ax, mask=live)
    tl.store(row + 14, ay, mask=live)
    tl.store(row + 15, az, mask=live)
    tl.store(row + 16, bx, mask=live)
    tl.store(row + 17, by, mask=live)
    tl.store(row + 18, bz, mask=live)
    tl.store(row + 19, cx, mask=live)
    tl.store(row + 20, cy, mask=live)
    tl.store(row + 21, cz, mask=live)
