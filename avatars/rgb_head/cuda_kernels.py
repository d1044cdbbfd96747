"""Triton kernels that put bound Gaussians into the world: what `RgbHead.place` says in torch, in one pass each way.

Imported on CUDA devices only (Triton comes with torch's CUDA builds). Rows of triangles are those of cuda_face_kernels.
"""

from __future__ import annotations

import triton
import triton.language as tl

GAUSSIANS_A_BLOCK, WARPS, MOST_AT_ONCE = 128, 4, 4
PRODUCT_BLOCK, PRODUCT_RUN = 64, 4
_SH0: tl.constexpr = tl.constexpr(0.28209479177387814)


@triton.jit
def _first(values, n, live):
    """Three numbers of each Gaussian [1, BLOCK]."""
    return (
        tl.load(values + n * 3, mask=live, other=0.0)[None, :],
        tl.load(values + n * 3 + 1, mask=live, other=0.0)[None, :],
        tl.load(values + n * 3 + 2, mask=live, other=0.0)[None, :],
    )


@triton.jit
def _unit_quaternion(w, x, y, z):
    """Of unit length, with what they were multiplied by; a zero one is the identity."""
    length = tl.sqrt(w * w + x * x + y * y + z * z)
    good = length > 1e-8
    inverse = tl.where(good, 1.0 / tl.maximum(length, 1e-8), 0.0)
    return tl.where(good, w * inverse, 1.0), x * inverse, y * inverse, z * inverse, inverse


@triton.jit
def _blended_turn(rotations, deltas, psi, n, b, live, there, count, SHAPES: tl.constexpr):
    """Raw quaternions [BATCH, BLOCK] with their blendshapes."""
    w = tl.load(rotations + n * 4, mask=live, other=1.0)[None, :] + 0.0 * b[:, None]
    x = tl.load(rotations + n * 4 + 1, mask=live, other=0.0)[None, :] + 0.0 * b[:, None]
    y = tl.load(rotations + n * 4 + 2, mask=live, other=0.0)[None, :] + 0.0 * b[:, None]
    z = tl.load(rotations + n * 4 + 3, mask=live, other=0.0)[None, :] + 0.0 * b[:, None]
    for k in tl.range(0, SHAPES, loop_unroll_factor=4):  # keeps more loads under way
        weight = tl.load(psi + b * SHAPES + k, mask=there, other=0.0)[:, None]
        at = deltas + (k * count + n) * 4
        w += weight * tl.load(at, mask=live, other=0.0)[None, :]
        x += weight * tl.load(at + 1, mask=live, other=0.0)[None, :]
        y += weight * tl.load(at + 2, mask=live, other=0.0)[None, :]
        z += weight * tl.load(at + 3, mask=live, other=0.0)[None, :]
    return w, x, y, z


@triton.jit
def _blended(values, deltas, psi, n, b, live, there, count, SHAPES: tl.constexpr):
    """Positions or colours [BATCH, BLOCK] with their blendshapes."""
    x, y, z = _first(values, n, live)
    x, y, z = x + 0.0 * b[:, None], y + 0.0 * b[:, None], z + 0.0 * b[:, None]
    for k in tl.range(0, SHAPES, loop_unroll_factor=4):  # keeps more loads under way
        weight = tl.load(psi + b * SHAPES + k, mask=there, other=0.0)[:, None]
        dx, dy, dz = _first(deltas, k * count + n, live)
        x += weight * dx
        y += weight * dy
        z += weight * dz
    return x, y, z


@triton.jit
def _three(values, at, live):
    """Three numbers of each Gaussian [BLOCK]."""
    x, y = tl.load(values + at * 3, mask=live, other=0.0), tl.load(values + at * 3 + 1, mask=live, other=0.0)
    return x, y, tl.load(values + at * 3 + 2, mask=live, other=0.0)


@triton.jit
def _turned(fw, fx, fy, fz, quats, at, live):
    """The Hamilton product of f with stored quaternions [BLOCK]."""
    w, x = tl.load(quats + at * 4, mask=live, other=0.0), tl.load(quats + at * 4 + 1, mask=live, other=0.0)
    y, z = tl.load(quats + at * 4 + 2, mask=live, other=0.0), tl.load(quats + at * 4 + 3, mask=live, other=0.0)
    turned_w = fw * w - fx * x - fy * y - fz * z
    turned_x = fw * x + fx * w + fy * z - fz * y
    turned_y = fw * y - fx * z + fy * w + fz * x
    return turned_w, turned_x, turned_y, fw * z + fx * y - fy * x + fz * w


@triton.jit
def _store(out, at, x, y, z, live):
    tl.store(out + at * 3, x, mask=live)
    tl.store(out + at * 3 + 1, y, mask=live)
    tl.store(out + at * 3 + 2, z, mask=live)


@triton.jit
def place(
    rows,
    face,
    barycentrics,
    hidden,
    positions,
    rotations,
    scales,
    opacities,
    colours,
    psi,
    position_deltas,
    rotation_deltas,
    colour_deltas,
    means,
    quats,
    sizes,
    covers,
    shades,
    inverses,
    faces,
    count,
    batches,
    SHAPES: tl.constexpr,
    BATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """World Gaussians [B, N] on `rows` from attributes [N], their deltas [K, N] and psi [B, K] (SHAPES 0: none).

    hidden [N]: nonzero ones get opacity 0, and so does what is not finite.
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1) * BATCH + tl.arange(0, BATCH)
    live, there = n < count, b < batches
    both = live[None, :] & there[:, None]
    at = b[:, None] * count + n[None, :]
    row = rows + (b[:, None] * faces + tl.load(face + n, mask=live, other=0)[None, :]) * 24
    px, py, pz = _blended(positions, position_deltas, psi, n, b, live, there, count, SHAPES)
    b0, b1, b2 = _first(barycentrics, n, live)
    mx = b0 * tl.load(row + 13, mask=both) + b1 * tl.load(row + 16, mask=both) + b2 * tl.load(row + 19, mask=both)
    my = b0 * tl.load(row + 14, mask=both) + b1 * tl.load(row + 17, mask=both) + b2 * tl.load(row + 20, mask=both)
    mz = b0 * tl.load(row + 15, mask=both) + b1 * tl.load(row + 18, mask=both) + b2 * tl.load(row + 21, mask=both)
    mx += tl.load(row, mask=both) * px + tl.load(row + 1, mask=both) * py + tl.load(row + 2, mask=both) * pz
    my += tl.load(row + 3, mask=both) * px + tl.load(row + 4, mask=both) * py + tl.load(row + 5, mask=both) * pz
    mz += tl.load(row + 6, mask=both) * px + tl.load(row + 7, mask=both) * py + tl.load(row + 8, mask=both) * pz
    rw, rx, ry, rz = _blended_turn(rotations, rotation_deltas, psi, n, b, live, there, count, SHAPES)
    rw, rx, ry, rz, inverse = _unit_quaternion(rw, rx, ry, rz)
    tl.store(inverses + at, inverse, mask=both)
    fw, fx = tl.load(row + 9, mask=both), tl.load(row + 10, mask=both)
    fy, fz = tl.load(row + 11, mask=both), tl.load(row + 12, mask=both)
    qw = fw * rw - fx * rx - fy * ry - fz * rz
    qx = fw * rx + fx * rw + fy * rz - fz * ry
    qy = fw * ry - fx * rz + fy * rw + fz * rx
    qz = fw * rz + fx * ry - fy * rx + fz * rw
    s0, s1, s2 = _first(scales, n, live)
    s0, s1, s2 = tl.exp(s0), tl.exp(s1), tl.exp(s2)
    cover = tl.sigmoid(tl.load(opacities + n, mask=live, other=0.0))[None, :]
    red, green, blue = _blended(colours, colour_deltas, psi, n, b, live, there, count, SHAPES)
    red, green, blue = red * _SH0 + 0.5, green * _SH0 + 0.5, blue * _SH0 + 0.5
    # A sum of numbers times zero is zero where all are finite, and not a number otherwise.
    probe = (mx + my + mz + qw + qx + qy + qz + s0 + s1 + s2 + red + green + blue + cover) * 0.0
    sound = probe == 0.0
    shown = sound & (tl.load(hidden + n, mask=live, other=1) == 0)[None, :]
    _store(means, at, tl.where(sound, mx, 0.0), tl.where(sound, my, 0.0), tl.where(sound, mz, 0.0), both)
    tl.store(quats + at * 4, tl.where(sound, qw, 1.0), mask=both)
    tl.store(quats + at * 4 + 1, tl.where(sound, qx, 0.0), mask=both)
    tl.store(quats + at * 4 + 2, tl.where(sound, qy, 0.0), mask=both)
    tl.store(quats + at * 4 + 3, tl.where(sound, qz, 0.0), mask=both)
    _store(sizes, at, tl.where(sound, s0, 1e-6), tl.where(sound, s1, 1e-6), tl.where(sound, s2, 1e-6), both)
    tl.store(covers + at, tl.where(shown, cover, 0.0), mask=both)
    red, green, blue = tl.maximum(red, 0.0), tl.maximum(green, 0.0), tl.maximum(blue, 0.0)
    _store(shades, at, tl.where(sound, red, 0.0), tl.where(sound, green, 0.0), tl.where(sound, blue, 0.0), both)


@triton.jit
def place_backward(
    rows,
    face,
    quats,
    sizes,
    covers,
    shades,
    inverses,
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
    BLENDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of `place` from what it returned: summed over the batch for attributes, [B, N] for what was blended."""
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
        gx, gy, gz = _three(g_means, at, live)
        px = tl.load(row) * gx + tl.load(row + 3) * gy + tl.load(row + 6) * gz
        py = tl.load(row + 1) * gx + tl.load(row + 4) * gy + tl.load(row + 7) * gz
        pz = tl.load(row + 2) * gx + tl.load(row + 5) * gy + tl.load(row + 8) * gz
        # Turned back by the triangle's frame, the gradient meets the local quaternion, which has unit length too.
        fw, fx, fy, fz = tl.load(row + 9), -tl.load(row + 10), -tl.load(row + 11), -tl.load(row + 12)
        rw, rx, ry, rz = _turned(fw, fx, fy, fz, quats, at, live)
        uw, ux, uy, uz = _turned(fw, fx, fy, fz, g_quats, at, live)
        along = uw * rw + ux * rx + uy * ry + uz * rz
        inverse = tl.load(inverses + at, mask=live, other=0.0)
        uw, ux = (uw - along * rw) * inverse, (ux - along * rx) * inverse
        uy, uz = (uy - along * ry) * inverse, (uz - along * rz) * inverse
        red, green, blue = _three(shades, at, live)
        cr, cg, cb = _three(g_shades, at, live)
        cr, cg = tl.where(red > 0, cr * _SH0, 0.0), tl.where(green > 0, cg * _SH0, 0.0)
        cb = tl.where(blue > 0, cb * _SH0, 0.0)
        if BLENDED:
            _store(d_moved, at, px, py, pz, live)
            tl.store(d_turned + at * 4, uw, mask=live)
            tl.store(d_turned + at * 4 + 1, ux, mask=live)
            tl.store(d_turned + at * 4 + 2, uy, mask=live)
            tl.store(d_turned + at * 4 + 3, uz, mask=live)
            _store(d_tinted, at, cr, cg, cb, live)
        g0, g1, g2 = _three(g_sizes, at, live)
        s0, s1, s2 = _three(sizes, at, live)
        cover = tl.load(covers + at, mask=live, other=0.0)  # 0 where hidden
        sum_o += tl.load(g_covers + at, mask=live, other=0.0) * cover * (1 - cover)
        sum_s0 += g0 * s0
        sum_s1 += g1 * s1
        sum_s2 += g2 * s2
        sum_px += px
        sum_py += py
        sum_pz += pz
        sum_rw += uw
        sum_rx += ux
        sum_ry += uy
        sum_rz += uz
        sum_r += cr
        sum_g += cg
        sum_b += cb
    tl.store(d_opacities + n, sum_o, mask=live)
    _store(d_positions, n, sum_px, sum_py, sum_pz, live)
    tl.store(d_rotations + n * 4, sum_rw, mask=live)
    tl.store(d_rotations + n * 4 + 1, sum_rx, mask=live)
    tl.store(d_rotations + n * 4 + 2, sum_ry, mask=live)
    tl.store(d_rotations + n * 4 + 3, sum_rz, mask=live)
    _store(d_scales, n, sum_s0, sum_s1, sum_s2, live)
    _store(d_colours, n, sum_r, sum_g, sum_b, live)


@triton.jit
def products(
    left,
    right,
    out,
    lefts,
    rights,
    length,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """left [L, length] times right [R, length] transposed, each program over RUN blocks of columns: [.., LEFT, RIGHT].

    The parts are summed outside. LEFT and RIGHT: powers of two from 16 on. Three products on the matrix units give
    float32's precision.
    """
    l, r = tl.arange(0, LEFT), tl.arange(0, RIGHT)
    start = tl.program_id(0) * RUN * BLOCK
    total = tl.zeros([LEFT, RIGHT], tl.float32)
    for part in range(RUN):
        at = start + part * BLOCK + tl.arange(0, BLOCK)
        inside = (at < length)[None, :]
        a = tl.load(left + l[:, None] * length + at[None, :], mask=inside & (l < lefts)[:, None], other=0.0)
        b = tl.load(right + r[:, None] * length + at[None, :], mask=inside & (r < rights)[:, None], other=0.0)
        total += tl.dot(a, tl.trans(b), input_precision="tf32x3")
    place = out + tl.program_id(0) * LEFT * RIGHT + l[:, None] * RIGHT + r[None, :]
    tl.store(place, total)
