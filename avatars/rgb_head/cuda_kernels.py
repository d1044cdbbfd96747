"""Triton kernels that put bound Gaussians into the world: what `RgbHead.place` says in torch, in one pass each way.

Imported on CUDA devices only (Triton comes with torch's CUDA builds). Rows of triangles are those of cuda_face_kernels.
"""

from __future__ import annotations

import triton
import triton.language as tl

GAUSSIANS_A_BLOCK, WARPS, MOST_AT_ONCE = 64, 2, 16
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
    for k in range(SHAPES):
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
    for k in range(SHAPES):
        weight = tl.load(psi + b * SHAPES + k, mask=there, other=0.0)[:, None]
        dx, dy, dz = _first(deltas, k * count + n, live)
        x += weight * dx
        y += weight * dy
        z += weight * dz
    return x, y, z


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
    rw, rx, ry, rz, _ = _unit_quaternion(rw, rx, ry, rz)
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
def _spread(deltas, d_deltas, psi, part, gx, gy, gz, n, b, live, there, count, later, SHAPES: tl.constexpr, BLOCKS):
    """Gradients of blended [BATCH, BLOCK] passed on to deltas [K, N, 3] and, summed over this block, to psi."""
    for k in range(SHAPES):
        weight = tl.load(psi + b * SHAPES + k, mask=there, other=0.0)[:, None]
        at = k * count + n
        dx, dy, dz = tl.sum(weight * gx, axis=0), tl.sum(weight * gy, axis=0), tl.sum(weight * gz, axis=0)
        if later:  # a second group of the batch adds to the first
            dx += tl.load(d_deltas + at * 3, mask=live, other=0.0)
            dy += tl.load(d_deltas + at * 3 + 1, mask=live, other=0.0)
            dz += tl.load(d_deltas + at * 3 + 2, mask=live, other=0.0)
        _store(d_deltas, at, dx, dy, dz, live)
        x, y, z = _first(deltas, at, live)
        tl.store(part + (b * SHAPES + k) * BLOCKS, tl.sum(x * gx + y * gy + z * gz, axis=1), mask=there)


@triton.jit
def place_backward(
    rows,
    face,
    hidden,
    rotations,
    scales,
    opacities,
    colours,
    psi,
    position_deltas,
    rotation_deltas,
    colour_deltas,
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
    d_psi,
    d_position_deltas,
    d_rotation_deltas,
    d_colour_deltas,
    faces,
    count,
    batches,
    blocks,
    SHAPES: tl.constexpr,
    GROUPS: tl.constexpr,
    BATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of `place`: sums over the batch for attributes and deltas; d_psi [3, B, K, blocks] has to be summed."""
    block = tl.program_id(0)
    n = block * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    which = tl.load(face + n, mask=live, other=0)[None, :]
    zero = tl.zeros([BLOCK], tl.float32)
    sum_px, sum_py, sum_pz = zero, zero, zero
    sum_rw, sum_rx, sum_ry, sum_rz = zero, zero, zero, zero
    sum_s0, sum_s1, sum_s2, sum_o = zero, zero, zero, zero
    sum_r, sum_g, sum_b = zero, zero, zero
    for group in tl.static_range(GROUPS):
        b = group * BATCH + tl.arange(0, BATCH)
        there = b < batches
        both = live[None, :] & there[:, None]
        at = b[:, None] * count + n[None, :]
        row = rows + (b[:, None] * faces + which) * 24
        gx = tl.load(g_means + at * 3, mask=both, other=0.0)
        gy = tl.load(g_means + at * 3 + 1, mask=both, other=0.0)
        gz = tl.load(g_means + at * 3 + 2, mask=both, other=0.0)
        px = tl.load(row, mask=both, other=0.0) * gx
        px += tl.load(row + 3, mask=both, other=0.0) * gy + tl.load(row + 6, mask=both, other=0.0) * gz
        py = tl.load(row + 1, mask=both, other=0.0) * gx
        py += tl.load(row + 4, mask=both, other=0.0) * gy + tl.load(row + 7, mask=both, other=0.0) * gz
        pz = tl.load(row + 2, mask=both, other=0.0) * gx
        pz += tl.load(row + 5, mask=both, other=0.0) * gy + tl.load(row + 8, mask=both, other=0.0) * gz
        sum_px += tl.sum(px, axis=0)
        sum_py += tl.sum(py, axis=0)
        sum_pz += tl.sum(pz, axis=0)
        part = d_psi + block
        third = batches * SHAPES * blocks
        if SHAPES > 0:
            _spread(
                position_deltas,
                d_position_deltas,
                psi,
                part,
                px,
                py,
                pz,
                n,
                b,
                live,
                there,
                count,
                group > 0,
                SHAPES,
                blocks,
            )
        red, green, blue = _blended(colours, colour_deltas, psi, n, b, live, there, count, SHAPES)
        cr = tl.where(red * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3, mask=both, other=0.0) * _SH0, 0.0)
        cg = tl.where(green * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3 + 1, mask=both, other=0.0) * _SH0, 0.0)
        cb = tl.where(blue * _SH0 + 0.5 >= 0, tl.load(g_shades + at * 3 + 2, mask=both, other=0.0) * _SH0, 0.0)
        sum_r += tl.sum(cr, axis=0)
        sum_g += tl.sum(cg, axis=0)
        sum_b += tl.sum(cb, axis=0)
        if SHAPES > 0:
            _spread(
                colour_deltas,
                d_colour_deltas,
                psi,
                part + third,
                cr,
                cg,
                cb,
                n,
                b,
                live,
                there,
                count,
                group > 0,
                SHAPES,
                blocks,
            )
        rw, rx, ry, rz = _blended_turn(rotations, rotation_deltas, psi, n, b, live, there, count, SHAPES)
        rw, rx, ry, rz, inverse = _unit_quaternion(rw, rx, ry, rz)
        fw, fx = tl.load(row + 9, mask=both, other=0.0), -tl.load(row + 10, mask=both, other=0.0)
        fy, fz = -tl.load(row + 11, mask=both, other=0.0), -tl.load(row + 12, mask=both, other=0.0)
        qw = tl.load(g_quats + at * 4, mask=both, other=0.0)
        qx = tl.load(g_quats + at * 4 + 1, mask=both, other=0.0)
        qy = tl.load(g_quats + at * 4 + 2, mask=both, other=0.0)
        qz = tl.load(g_quats + at * 4 + 3, mask=both, other=0.0)
        uw = fw * qw - fx * qx - fy * qy - fz * qz
        ux = fw * qx + fx * qw + fy * qz - fz * qy
        uy = fw * qy - fx * qz + fy * qw + fz * qx
        uz = fw * qz + fx * qy - fy * qx + fz * qw
        along = uw * rw + ux * rx + uy * ry + uz * rz
        uw, ux = (uw - along * rw) * inverse, (ux - along * rx) * inverse
        uy, uz = (uy - along * ry) * inverse, (uz - along * rz) * inverse
        sum_rw += tl.sum(uw, axis=0)
        sum_rx += tl.sum(ux, axis=0)
        sum_ry += tl.sum(uy, axis=0)
        sum_rz += tl.sum(uz, axis=0)
        for k in range(SHAPES):
            weight = tl.load(psi + b * SHAPES + k, mask=there, other=0.0)[:, None]
            to = (k * count + n) * 4
            dw, dx = tl.sum(weight * uw, axis=0), tl.sum(weight * ux, axis=0)
            dy, dz = tl.sum(weight * uy, axis=0), tl.sum(weight * uz, axis=0)
            if group > 0:
                dw += tl.load(d_rotation_deltas + to, mask=live, other=0.0)
                dx += tl.load(d_rotation_deltas + to + 1, mask=live, other=0.0)
                dy += tl.load(d_rotation_deltas + to + 2, mask=live, other=0.0)
                dz += tl.load(d_rotation_deltas + to + 3, mask=live, other=0.0)
            tl.store(d_rotation_deltas + to, dw, mask=live)
            tl.store(d_rotation_deltas + to + 1, dx, mask=live)
            tl.store(d_rotation_deltas + to + 2, dy, mask=live)
            tl.store(d_rotation_deltas + to + 3, dz, mask=live)
            pull = uw * tl.load(rotation_deltas + to, mask=live, other=0.0)[None, :]
            pull += ux * tl.load(rotation_deltas + to + 1, mask=live, other=0.0)[None, :]
            pull += uy * tl.load(rotation_deltas + to + 2, mask=live, other=0.0)[None, :]
            pull += uz * tl.load(rotation_deltas + to + 3, mask=live, other=0.0)[None, :]
            tl.store(part + 2 * third + (b * SHAPES + k) * blocks, tl.sum(pull, axis=1), mask=there)
        if group + 1 < GROUPS:
            tl.debug_barrier()  # the next group adds to what other threads of this block have stored
        sum_s0 += tl.sum(tl.load(g_sizes + at * 3, mask=both, other=0.0), axis=0)
        sum_s1 += tl.sum(tl.load(g_sizes + at * 3 + 1, mask=both, other=0.0), axis=0)
        sum_s2 += tl.sum(tl.load(g_sizes + at * 3 + 2, mask=both, other=0.0), axis=0)
        sum_o += tl.sum(tl.load(g_covers + at, mask=both, other=0.0), axis=0)
    cover = tl.sigmoid(tl.load(opacities + n, mask=live, other=0.0))
    shown = tl.load(hidden + n, mask=live, other=1) == 0
    tl.store(d_opacities + n, tl.where(shown, sum_o * cover * (1 - cover), 0.0), mask=live)
    _store(d_positions, n, sum_px, sum_py, sum_pz, live)
    tl.store(d_rotations + n * 4, sum_rw, mask=live)
    tl.store(d_rotations + n * 4 + 1, sum_rx, mask=live)
    tl.store(d_rotations + n * 4 + 2, sum_ry, mask=live)
    tl.store(d_rotations + n * 4 + 3, sum_rz, mask=live)
    s0 = tl.exp(tl.load(scales + n * 3, mask=live, other=0.0))
    s1 = tl.exp(tl.load(scales + n * 3 + 1, mask=live, other=0.0))
    s2 = tl.exp(tl.load(scales + n * 3 + 2, mask=live, other=0.0))
    _store(d_scales, n, sum_s0 * s0, sum_s1 * s1, sum_s2 * s2, live)
    _store(d_colours, n, sum_r, sum_g, sum_b, live)
