"""Triton kernels that pose a template and run the weight network of a head: `HeadTemplate.posed_vertices` and
`RgbHead.weights` in three launches, for the frames of a film or a viewport. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

VERTICES_A_BLOCK, CHUNK = 64, 32


@triton.jit
def joints(
    rotations,
    translations,
    expressions,
    rest,
    expression_dirs,
    parents,
    matrices,
    placed,
    skinning,
    JOINTS: tl.constexpr,
    EXPRESSIONS: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Matrices [B, J, 9], model_from_joint and skinning transforms [B, J, 12] of axis-angle rotations [B, J, 3].

    rest [J, 3] m with expression_dirs [E, J, 3]; translations [B, 3] m of the root. A program is one frame.
    """
    frame = tl.program_id(0)
    j = tl.arange(0, PADDED)
    live = j < JOINTS
    turn = rotations + (frame * JOINTS + j) * 3
    x, y = tl.load(turn, mask=live, other=0.0), tl.load(turn + 1, mask=live, other=0.0)
    z = tl.load(turn + 2, mask=live, other=0.0)
    squared = x * x + y * y + z * z
    small = squared < 1e-8
    angle = tl.sqrt(tl.where(small, 1.0, squared))
    sine = tl.where(small, 1 - squared / 6, tl.sin(angle) / angle)
    cosine = tl.where(small, 0.5 - squared / 24, (1 - tl.cos(angle)) / (angle * angle))
    out = matrices + (frame * JOINTS + j) * 9
    tl.store(out, 1 - cosine * (y * y + z * z), mask=live)
    tl.store(out + 1, -sine * z + cosine * x * y, mask=live)
    tl.store(out + 2, sine * y + cosine * x * z, mask=live)
    tl.store(out + 3, sine * z + cosine * x * y, mask=live)
    tl.store(out + 4, 1 - cosine * (x * x + z * z), mask=live)
    tl.store(out + 5, -sine * x + cosine * y * z, mask=live)
    tl.store(out + 6, -sine * y + cosine * x * z, mask=live)
    tl.store(out + 7, sine * x + cosine * y * z, mask=live)
    tl.store(out + 8, 1 - cosine * (x * x + y * y), mask=live)
    px, py = tl.load(rest + j * 3, mask=live, other=0.0), tl.load(rest + j * 3 + 1, mask=live, other=0.0)
    pz = tl.load(rest + j * 3 + 2, mask=live, other=0.0)
    for e in range(EXPRESSIONS):
        weight = tl.load(expressions + frame * EXPRESSIONS + e)
        at = expression_dirs + (e * JOINTS + j) * 3
        px += weight * tl.load(at, mask=live, other=0.0)
        py += weight * tl.load(at + 1, mask=live, other=0.0)
        pz += weight * tl.load(at + 2, mask=live, other=0.0)
    place = skinning + (frame * JOINTS + j) * 12  # first the unposed joints, read by their children below
    tl.store(place, px, mask=live)
    tl.store(place + 1, py, mask=live)
    tl.store(place + 2, pz, mask=live)
    tl.debug_barrier()
    row = tl.arange(0, 4)  # three rows of a transform at once
    rows = row < 3
    for joint in range(JOINTS):
        parent = tl.load(parents + joint)
        root = parent < 0
        up = placed + (frame * JOINTS + tl.maximum(parent, 0)) * 12 + row * 4
        a0 = tl.where(root, tl.where(row == 0, 1.0, 0.0), tl.load(up, mask=rows, other=0.0))
        a1 = tl.where(root, tl.where(row == 1, 1.0, 0.0), tl.load(up + 1, mask=rows, other=0.0))
        a2 = tl.where(root, tl.where(row == 2, 1.0, 0.0), tl.load(up + 2, mask=rows, other=0.0))
        a3 = tl.where(root, 0.0, tl.load(up + 3, mask=rows, other=0.0))
        here = skinning + (frame * JOINTS + joint) * 12
        there = skinning + (frame * JOINTS + tl.maximum(parent, 0)) * 12
        back = tl.where(root, 0.0, 1.0)
        ox = tl.load(here) - back * tl.load(there)
        oy = tl.load(here + 1) - back * tl.load(there + 1)
        oz = tl.load(here + 2) - back * tl.load(there + 2)
        m = matrices + (frame * JOINTS + joint) * 9
        into = placed + (frame * JOINTS + joint) * 12 + row * 4
        tl.store(into, a0 * tl.load(m) + a1 * tl.load(m + 3) + a2 * tl.load(m + 6), mask=rows)
        tl.store(into + 1, a0 * tl.load(m + 1) + a1 * tl.load(m + 4) + a2 * tl.load(m + 7), mask=rows)
        tl.store(into + 2, a0 * tl.load(m + 2) + a1 * tl.load(m + 5) + a2 * tl.load(m + 8), mask=rows)
        tl.store(into + 3, a0 * ox + a1 * oy + a2 * oz + a3, mask=rows)
        tl.debug_barrier()
    final = placed + (frame * JOINTS + j) * 12
    shift = translations + frame * 3
    for axis in tl.static_range(3):
        r0 = tl.load(final + axis * 4, mask=live, other=0.0)
        r1 = tl.load(final + axis * 4 + 1, mask=live, other=0.0)
        r2 = tl.load(final + axis * 4 + 2, mask=live, other=0.0)
        t = tl.load(final + axis * 4 + 3, mask=live, other=0.0) + tl.load(shift + axis)
        tl.store(place + axis * 4, r0, mask=live)
        tl.store(place + axis * 4 + 1, r1, mask=live)
        tl.store(place + axis * 4 + 2, r2, mask=live)
        tl.store(place + axis * 4 + 3, t - (r0 * px + r1 * py + r2 * pz), mask=live)


@triton.jit
def skin(
    rest,
    expressions,
    expression_dirs,
    expression_row,
    matrices,
    pose_dirs,
    weights,
    skinning,
    out,
    count,
    moved,
    JOINTS: tl.constexpr,
    EXPRESSIONS: tl.constexpr,
    POSED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Vertices [B, V, 3] m: rest, expressions (rows [E, M, 3] by expression_row [V], -1 none), correctives, skinning.

    weights [V, J]; skinning [B, J, 12]; pose_dirs [9 (J - 1), V, 3] where POSED.
    """
    frame = tl.program_id(1)
    v = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = v < count
    x, y = tl.load(rest + v * 3, mask=live, other=0.0), tl.load(rest + v * 3 + 1, mask=live, other=0.0)
    z = tl.load(rest + v * 3 + 2, mask=live, other=0.0)
    own = tl.load(expression_row + v, mask=live, other=-1)
    moves = live & (own >= 0)
    for e in range(EXPRESSIONS):
        weight = tl.load(expressions + frame * EXPRESSIONS + e)
        at = expression_dirs + (e * moved + own) * 3
        x += weight * tl.load(at, mask=moves, other=0.0)
        y += weight * tl.load(at + 1, mask=moves, other=0.0)
        z += weight * tl.load(at + 2, mask=moves, other=0.0)
    if POSED:
        for p in range(9 * (JOINTS - 1)):
            weight = tl.load(matrices + frame * JOINTS * 9 + 9 + p) - tl.where(p % 9 % 4 == 0, 1.0, 0.0)
            at = pose_dirs + (p * count + v) * 3
            x += weight * tl.load(at, mask=live, other=0.0)
            y += weight * tl.load(at + 1, mask=live, other=0.0)
            z += weight * tl.load(at + 2, mask=live, other=0.0)
    sx, sy, sz = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for j in range(JOINTS):
        weight = tl.load(weights + v * JOINTS + j, mask=live, other=0.0)
        t = skinning + (frame * JOINTS + j) * 12
        sx += weight * (tl.load(t) * x + tl.load(t + 1) * y + tl.load(t + 2) * z + tl.load(t + 3))
        sy += weight * (tl.load(t + 4) * x + tl.load(t + 5) * y + tl.load(t + 6) * z + tl.load(t + 7))
        sz += weight * (tl.load(t + 8) * x + tl.load(t + 9) * y + tl.load(t + 10) * z + tl.load(t + 11))
    to = out + (frame * count + v) * 3
    tl.store(to, sx, mask=live)
    tl.store(to + 1, sy, mask=live)
    tl.store(to + 2, sz, mask=live)


@triton.jit
def network(
    expressions,
    matrices,
    translations,
    source,
    sign,
    low,
    high,
    mean,
    spread,
    w1,
    b1,
    w2,
    b2,
    w3,
    b3,
    scratch,
    psi,
    EXPRESSIONS: tl.constexpr,
    matrix_count,
    SIZE: tl.constexpr,
    UNITS: tl.constexpr,
    shapes,
    HIDDEN: tl.constexpr,
    SHAPES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """psi [B, K] of three linear layers with ReLU between; a program is one frame. scratch: [B, 2, HIDDEN].

    θ's number d is sign[d] times number source[d] of expressions, rotation matrices and translation in a row.
    """
    frame = tl.program_id(0)
    h = tl.arange(0, HIDDEN)
    here = h < UNITS
    total = tl.load(b1 + h, mask=here, other=0.0)
    for start in range(0, SIZE, CHUNK):
        d = start + tl.arange(0, CHUNK)
        used = d < SIZE
        number = tl.load(source + d, mask=used, other=0)
        as_expression, in_matrices = number < EXPRESSIONS, number < EXPRESSIONS + matrix_count
        theta = tl.load(expressions + frame * EXPRESSIONS + number, mask=used & as_expression, other=0.0)
        at = matrices + frame * matrix_count + number - EXPRESSIONS
        theta += tl.load(at, mask=used & (as_expression == 0) & in_matrices, other=0.0)
        at = translations + frame * 3 + number - EXPRESSIONS - matrix_count
        theta += tl.load(at, mask=used & (in_matrices == 0), other=0.0)
        theta = theta * tl.load(sign + d, mask=used, other=0.0)
        theta = tl.minimum(theta, tl.load(high + d, mask=used, other=0.0))
        theta = tl.maximum(theta, tl.load(low + d, mask=used, other=0.0))
        theta = (theta - tl.load(mean + d, mask=used, other=0.0)) / tl.load(spread + d, mask=used, other=1.0)
        w = tl.load(w1 + h[:, None] * SIZE + d[None, :], mask=here[:, None] & used[None, :], other=0.0)
        total += tl.sum(w * theta[None, :], axis=1)
    first = scratch + frame * 2 * HIDDEN
    tl.store(first + h, tl.maximum(total, 0.0))
    tl.debug_barrier()
    total = tl.load(b2 + h, mask=here, other=0.0)
    for start in range(0, UNITS, CHUNK):
        d = start + tl.arange(0, CHUNK)
        used = d < UNITS
        x = tl.load(first + d, mask=used, other=0.0)
        w = tl.load(w2 + h[:, None] * UNITS + d[None, :], mask=here[:, None] & used[None, :], other=0.0)
        total += tl.sum(w * x[None, :], axis=1)
    second = first + HIDDEN
    tl.store(second + h, tl.maximum(total, 0.0))
    tl.debug_barrier()
    k = tl.arange(0, SHAPES)
    wanted = k < shapes
    found = tl.load(b3 + k, mask=wanted, other=0.0)
    for start in range(0, UNITS, CHUNK):
        d = start + tl.arange(0, CHUNK)
        used = d < UNITS
        x = tl.load(second + d, mask=used, other=0.0)
        w = tl.load(w3 + k[:, None] * UNITS + d[None, :], mask=wanted[:, None] & used[None, :], other=0.0)
        found += tl.sum(w * x[None, :], axis=1)
    tl.store(psi + frame * shapes + k, found, mask=wanted)
