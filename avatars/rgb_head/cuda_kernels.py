"""Triton kernels that put bound Gaussians into the world: what `RgbHead.place` says in torch, in one pass each way.

Imported on CUDA devices only (Triton comes with torch's CUDA builds). One row of 24 numbers stands for a posed
triangle: its frame row by row (9), the frame's quaternion wxyz (4), its three corners (9), and two unused.
"""

from __future__ import annotations

import triton
import triton.language as tl

FACE_ROW = 24
FACES_A_BLOCK, GAUSSIANS_A_BLOCK = 128, 128
_TINY: tl.constexpr = tl.constexpr(1e-20)
_SH0: tl.constexpr = tl.constexpr(0.28209479177387814)


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


@triton.jit
def _quaternion(rotations, n, moved, at, live, MOVED: tl.constexpr):
    """Blended raw quaternions, of unit length with what they were divided by; a zero one is the identity."""
    w, x = tl.load(rotations + n * 4, mask=live, other=1.0), tl.load(rotations + n * 4 + 1, mask=live, other=0.0)
    y, z = tl.load(rotations + n * 4 + 2, mask=live, other=0.0), tl.load(rotations + n * 4 + 3, mask=live, other=0.0)
    if MOVED:
        w += tl.load(moved + at * 4, mask=live, other=0.0)
        x += tl.load(moved + at * 4 + 1, mask=live, other=0.0)
        y += tl.load(moved + at * 4 + 2, mask=live, other=0.0)
        z += tl.load(moved + at * 4 + 3, mask=live, other=0.0)
    length = tl.sqrt(w * w + x * x + y * y + z * z)
    good = length > 1e-8
    inverse = tl.where(good, 1.0 / tl.maximum(length, 1e-8), 0.0)
    return tl.where(good, w * inverse, 1.0), x * inverse, y * inverse, z * inverse, inverse


@triton.jit
def place(
    rows,
    face,
    barycentrics,
    positions,
    rotations,
    scales,
    opacities,
    colours,
    hidden,
    moved,
    turned,
    tinted,
    means,
    quats,
    sizes,
    covers,
    shades,
    faces,
    count,
    MOVED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """World Gaussians [B, N] from attributes [N] and their blended deltas [B, N] (moved, turned, tinted) on `rows`.

    hidden [N]: nonzero ones get opacity 0, and so does what is not finite.
    """
    batch = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    at = batch * count + n
    row = rows + (batch * faces + tl.load(face + n, mask=live, other=0)) * 24
    px = tl.load(positions + n * 3, mask=live, other=0.0)
    py = tl.load(positions + n * 3 + 1, mask=live, other=0.0)
    pz = tl.load(positions + n * 3 + 2, mask=live, other=0.0)
    red = tl.load(colours + n * 3, mask=live, other=0.0)
    green = tl.load(colours + n * 3 + 1, mask=live, other=0.0)
    blue = tl.load(colours + n * 3 + 2, mask=live, other=0.0)
    if MOVED:
        px += tl.load(moved + at * 3, mask=live, other=0.0)
        py += tl.load(moved + at * 3 + 1, mask=live, other=0.0)
        pz += tl.load(moved + at * 3 + 2, mask=live, other=0.0)
        red += tl.load(tinted + at * 3, mask=live, other=0.0)
        green += tl.load(tinted + at * 3 + 1, mask=live, other=0.0)
        blue += tl.load(tinted + at * 3 + 2, mask=live, other=0.0)
    rw, rx, ry, rz, _ = _quaternion(rotations, n, turned, at, live, MOVED)
    b0 = tl.load(barycentrics + n * 3, mask=live, other=0.0)
    b1 = tl.load(barycentrics + n * 3 + 1, mask=live, other=0.0)
    b2 = tl.load(barycentrics + n * 3 + 2, mask=live, other=0.0)
    mx = b0 * tl.load(row + 13) + b1 * tl.load(row + 16) + b2 * tl.load(row + 19)
    my = b0 * tl.load(row + 14) + b1 * tl.load(row + 17) + b2 * tl.load(row + 20)
    mz = b0 * tl.load(row + 15) + b1 * tl.load(row + 18) + b2 * tl.load(row + 21)
    mx += tl.load(row + 0) * px + tl.load(row + 1) * py + tl.load(row + 2) * pz
    my += tl.load(row + 3) * px + tl.load(row + 4) * py + tl.load(row + 5) * pz
    mz += tl.load(row + 6) * px + tl.load(row + 7) * py + tl.load(row + 8) * pz
    fw, fx, fy, fz = tl.load(row + 9), tl.load(row + 10), tl.load(row + 11), tl.load(row + 12)
    qw = fw * rw - fx * rx - fy * ry - fz * rz
    qx = fw * rx + fx * rw + fy * rz - fz * ry
    qy = fw * ry - fx * rz + fy * rw + fz * rx
    qz = fw * rz + fx * ry - fy * rx + fz * rw
    s0 = tl.exp(tl.load(scales + n * 3, mask=live, other=0.0))
    s1 = tl.exp(tl.load(scales + n * 3 + 1, mask=live, other=0.0))
    s2 = tl.exp(tl.load(scales + n * 3 + 2, mask=live, other=0.0))
    cover = tl.sigmoid(tl.load(opacities + n, mask=live, other=0.0))
    red, green, blue = red * _SH0 + 0.5, green * _SH0 + 0.5, blue * _SH0 + 0.5
    # A sum of numbers times zero is zero where all are finite, and not a number otherwise.
    probe = (mx + my + mz + qw + qx + qy + qz + s0 + s1 + s2 + red + green + blue + cover) * 0.0
    sound = probe == 0.0
    cover = tl.where(sound & (tl.load(hidden + n, mask=live, other=1) == 0), cover, 0.0)
    tl.store(means + at * 3, tl.where(sound, mx, 0.0), mask=live)
    tl.store(means + at * 3 + 1, tl.where(sound, my, 0.0), mask=live)
    tl.store(means + at * 3 + 2, tl.where(sound, mz, 0.0), mask=live)
    tl.store(quats + at * 4, tl.where(sound, qw, 1.0), mask=live)
    tl.store(quats + at * 4 + 1, tl.where(sound, qx, 0.0), mask=live)
    tl.store(quats + at * 4 + 2, tl.where(sound, qy, 0.0), mask=live)
    tl.store(quats + at * 4 + 3, tl.where(sound, qz, 0.0), mask=live)
    tl.store(sizes + at * 3, tl.where(sound, s0, 1e-6), mask=live)
    tl.store(sizes + at * 3 + 1, tl.where(sound, s1, 1e-6), mask=live)
    tl.store(sizes + at * 3 + 2, tl.where(sound, s2, 1e-6), mask=live)
    tl.store(covers + at, cover, mask=live)
    tl.store(shades + at * 3, tl.where(sound, tl.maximum(red, 0.0), 0.0), mask=live)
    tl.store(shades + at * 3 + 1, tl.where(sound, tl.maximum(green, 0.0), 0.0), mask=live)
    tl.store(shades + at * 3 + 2, tl.where(sound, tl.maximum(blue, 0.0), 0.0), mask=live)


@triton.jit
def place_backward(
    rows,
    face,
    rotations,
    scales,
    opacities,
    colours,
    hidden,
    turned,
    tinted,
    g_means,
    g_quats,
    g_sizes,
    g_covers,
    g_shades,
    d_positions,
    d_rotations,
    d_scales,
    d_opacities,
    d_colours,
    d_moved,
    d_turned,
    d_tinted,
    faces,
    count,
    BATCHES: tl.constexpr,
    MOVED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of `place`: sums over the batch for the attributes, and [B, N] for the blended deltas."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    which = tl.load(face + n, mask=live, other=0)
    zero = tl.zeros([BLOCK], tl.float32)
    sum_px, sum_py, sum_pz = zero, zero, zero
    sum_rw, sum_rx, sum_ry, sum_rz = zero, zero, zero, zero
    sum_s0, sum_s1, sum_s2, sum_o = zero, zero, zero, zero
    sum_r, sum_g, sum_b = zero, zero, zero
    for batch in range(BATCHES):
        at = batch * count + n
        row = rows + (batch * faces + which) * 24
        gx = tl.load(g_means + at * 3, mask=live, other=0.0)
        gy = tl.load(g_means + at * 3 + 1, mask=live, other=0.0)
        gz = tl.load(g_means + at * 3 + 2, mask=live, other=0.0)
        px = tl.load(row + 0) * gx + tl.load(row + 3) * gy + tl.load(row + 6) * gz
        py = tl.load(row + 1) * gx + tl.load(row + 4) * gy + tl.load(row + 7) * gz
        pz = tl.load(row + 2) * gx + tl.load(row + 5) * gy + tl.load(row + 8) * gz
        rw, rx, ry, rz, inverse = _quaternion(rotations, n, turned, at, live, MOVED)
        fw, fx, fy, fz = tl.load(row + 9), -tl.load(row + 10), -tl.load(row + 11), -tl.load(row + 12)
        qw = tl.load(g_quats + at * 4, mask=live, other=0.0)
        qx = tl.load(g_quats + at * 4 + 1, mask=live, other=0.0)
        qy = tl.load(g_quats + at * 4 + 2, mask=live, other=0.0)
        qz = tl.load(g_quats + at * 4 + 3, mask=live, other=0.0)
        uw = fw * qw - fx * qx - fy * qy - fz * qz
        ux = fw * qx + fx * qw + fy * qz - fz * qy
        uy = fw * qy - fx * qz + fy * qw + fz * qx
        uz = fw * qz + fx * qy - fy * qx + fz * qw
        along = uw * rw + ux * rx + uy * ry + uz * rz
        uw, ux, uy, uz = (
            (uw - along * rw) * inverse,
            (ux - along * rx) * inverse,
            (uy - along * ry) * inverse,
            (uz - along * rz) * inverse,
        )
        red = tl.load(colours + n * 3, mask=live, other=0.0)
        green = tl.load(colours + n * 3 + 1, mask=live, other=0.0)
        blue = tl.load(colours + n * 3 + 2, mask=live, other=0.0)
        if MOVED:
            red += tl.load(tinted + at * 3, mask=live, other=0.0)
            green += tl.load(tinted + at * 3 + 1, mask=live, other=0.0)
            blue += tl.load(tinted + at * 3 + 2, mask=live, other=0.0)
        cr = tl.where(red * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3, mask=live, other=0.0) * _SH0, 0.0)
        cg = tl.where(green * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3 + 1, mask=live, other=0.0) * _SH0, 0.0)
        cb = tl.where(blue * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3 + 2, mask=live, other=0.0) * _SH0, 0.0)
        if MOVED:
            tl.store(d_moved + at * 3, px, mask=live)
            tl.store(d_moved + at * 3 + 1, py, mask=live)
            tl.store(d_moved + at * 3 + 2, pz, mask=live)
            tl.store(d_turned + at * 4, uw, mask=live)
            tl.store(d_turned + at * 4 + 1, ux, mask=live)
            tl.store(d_turned + at * 4 + 2, uy, mask=live)
            tl.store(d_turned + at * 4 + 3, uz, mask=live)
            tl.store(d_tinted + at * 3, cr, mask=live)
            tl.store(d_tinted + at * 3 + 1, cg, mask=live)
            tl.store(d_tinted + at * 3 + 2, cb, mask=live)
        sum_px += px
        sum_py += py
        sum_pz += pz
        sum_rw += uw
        sum_rx += ux
        sum_ry += uy
        sum_rz += uz
        sum_s0 += tl.load(g_sizes + at * 3, mask=live, other=0.0)
        sum_s1 += tl.load(g_sizes + at * 3 + 1, mask=live, other=0.0)
        sum_s2 += tl.load(g_sizes + at * 3 + 2, mask=live, other=0.0)
        sum_o += tl.load(g_covers + at, mask=live, other=0.0)
        sum_r += cr
        sum_g += cg
        sum_b += cb
    cover = tl.sigmoid(tl.load(opacities + n, mask=live, other=0.0))
    shown = tl.load(hidden + n, mask=live, other=1) == 0
    tl.store(d_opacities + n, tl.where(shown, sum_o * cover * (1 - cover), 0.0), mask=live)
    tl.store(d_positions + n * 3, sum_px, mask=live)
    tl.store(d_positions + n * 3 + 1, sum_py, mask=live)
    tl.store(d_positions + n * 3 + 2, sum_pz, mask=live)
    tl.store(d_rotations + n * 4, sum_rw, mask=live)
    tl.store(d_rotations + n * 4 + 1, sum_rx, mask=live)
    tl.store(d_rotations + n * 4 + 2, sum_ry, mask=live)
    tl.store(d_rotations + n * 4 + 3, sum_rz, mask=live)
    tl.store(d_scales + n * 3, sum_s0 * tl.exp(tl.load(scales + n * 3, mask=live, other=0.0)), mask=live)
    tl.store(d_scales + n * 3 + 1, sum_s1 * tl.exp(tl.load(scales + n * 3 + 1, mask=live, other=0.0)), mask=live)
    tl.store(d_scales + n * 3 + 2, sum_s2 * tl.exp(tl.load(scales + n * 3 + 2, mask=live, other=0.0)), mask=live)
    tl.store(d_colours + n * 3, sum_r, mask=live)
    tl.store(d_colours + n * 3 + 1, sum_g, mask=live)
    tl.store(d_colours + n * 3 + 2, sum_b, mask=live)
