"""The Triton kernels of `cuda_posing`: one frame of a finished body, nothing kept for a gradient. CUDA devices only.

What is as long as the body has Gaussians lies Gaussians last; sums go in a fixed order, so equal input gives equal
output.
"""

from __future__ import annotations

import triton
import triton.language as tl

from avatars.mlp_body.cuda_express_kernels import SH0, SH1, SHORTEST, _newton, _quaternion, _row, _turned

GAUSSIANS_A_BLOCK, WARPS = 256, 4
CONTROLS_A_BLOCK = 64
INPUTS_A_TURN, OUTPUTS_A_BLOCK = 64, 64
SMALL = tl.constexpr(1e-8)


@triton.jit
def _matrix(x, y, z):
    """The rotation matrix of an axis-angle vector, by rows (Rodrigues' formula, series near zero)."""
    squared = x * x + y * y + z * z
    small = squared < SMALL
    safe = tl.where(small, 1.0, squared)
    angle = tl.sqrt(safe)
    s = tl.where(small, 1.0 - squared / 6.0, tl.sin(angle) / angle)
    c = tl.where(small, 0.5 - squared / 24.0, (1.0 - tl.cos(angle)) / safe)
    a, e, i = 1.0 - c * (y * y + z * z), 1.0 - c * (x * x + z * z), 1.0 - c * (x * x + y * y)
    b, d = c * x * y - s * z, c * x * y + s * z
    f, h = c * y * z - s * x, c * y * z + s * x
    return a, b, c * x * z + s * y, d, e, f, c * x * z - s * y, h, i


@triton.jit
def _applied(a, b, c, d, e, f, g, h, i, x, y, z):
    return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z


@triton.jit
def joints_and_drive(
    rotations, translations, expressions, joints, joint_dirs, parents, big_turned, big_placed, places, skinning,
    sources, mean, components, reach, theta, joint_count, expression_count, depth, drive_count, component_count,
    CLAMPED: tl.constexpr, JOINTS: tl.constexpr, DRIVE: tl.constexpr, COMPONENTS: tl.constexpr,
):  # fmt: skip
    """Program 0: skinning [J, 12] of one pose; `places` [J, 3] is scratch. Program 1: what the networks see, theta [D].

    sources [D]: a number of `rotations` [3 J], or -1 - an expression. depth: joints on the longest way to the root.
    """
    if tl.program_id(0) == 0:
        j = tl.arange(0, JOINTS)
        live = j < joint_count
        x, y, z = _row(joints + j * 3, 0, 1, live)
        for e in range(expression_count):
            value = tl.load(expressions + e)
            if value != 0.0:
                dx, dy, dz = _row(joint_dirs + (e * joint_count + j) * 3, 0, 1, live)
                x, y, z = x + value * dx, y + value * dy, z + value * dz
        tl.store(places + j * 3, x, mask=live)
        tl.store(places + j * 3 + 1, y, mask=live)
        tl.store(places + j * 3 + 2, z, mask=live)
        tl.debug_barrier()
        one, zero = tl.full((JOINTS,), 1.0, tl.float32), tl.zeros((JOINTS,), tl.float32)
        a, b, c, d, e2, f, g, h, i = one, zero, zero, zero, one, zero, zero, zero, one
        px, py, pz = zero, zero, zero
        at = j
        for _ in range(depth):
            going = live & (at >= 0)
            here = tl.where(going, at, 0)
            above = tl.load(parents + here)
            x, y, z = _row(rotations + here * 3, 0, 1, going)
            ra, rb, rc, rd, re, rf, rg, rh, ri = _matrix(x, y, z)
            x, y, z = _row(places + here * 3, 0, 1, going)
            ux, uy, uz = _row(places + tl.where(above >= 0, above, 0) * 3, 0, 1, going & (above >= 0))
            qx, qy, qz = _applied(ra, rb, rc, rd, re, rf, rg, rh, ri, px, py, pz)
            px = tl.where(going, qx + x - ux, px)
            py = tl.where(going, qy + y - uy, py)
            pz = tl.where(going, qz + z - uz, pz)
            na, nd, ng = _applied(ra, rb, rc, rd, re, rf, rg, rh, ri, a, d, g)
            nb, ne, nh = _applied(ra, rb, rc, rd, re, rf, rg, rh, ri, b, e2, h)
            nc, nf, ni = _applied(ra, rb, rc, rd, re, rf, rg, rh, ri, c, f, i)
            a, b, c = tl.where(going, na, a), tl.where(going, nb, b), tl.where(going, nc, c)
            d, e2, f = tl.where(going, nd, d), tl.where(going, ne, e2), tl.where(going, nf, f)
            g, h, i = tl.where(going, ng, g), tl.where(going, nh, h), tl.where(going, ni, i)
            at = tl.where(going, above, at)
        big = big_turned + j * 9
        x, y, z = _row(big, 0, 1, live)
        ra, rd, rg = _applied(a, b, c, d, e2, f, g, h, i, x, y, z)
        x, y, z = _row(big + 3, 0, 1, live)
        rb, re, rh = _applied(a, b, c, d, e2, f, g, h, i, x, y, z)
        x, y, z = _row(big + 6, 0, 1, live)
        rc, rf, ri = _applied(a, b, c, d, e2, f, g, h, i, x, y, z)
        x, y, z = _row(big_placed + j * 3, 0, 1, live)
        x, y, z = _applied(ra, rb, rc, rd, re, rf, rg, rh, ri, x, y, z)
        out = skinning + j * 12
        tl.store(out, ra, mask=live)
        tl.store(out + 1, rb, mask=live)
        tl.store(out + 2, rc, mask=live)
        tl.store(out + 3, px - x + tl.load(translations), mask=live)
        tl.store(out + 4, rd, mask=live)
        tl.store(out + 5, re, mask=live)
        tl.store(out + 6, rf, mask=live)
        tl.store(out + 7, py - y + tl.load(translations + 1), mask=live)
        tl.store(out + 8, rg, mask=live)
        tl.store(out + 9, rh, mask=live)
        tl.store(out + 10, ri, mask=live)
        tl.store(out + 11, pz - z + tl.load(translations + 2), mask=live)
    else:
        n = tl.arange(0, DRIVE)
        wanted = n < drive_count
        source = tl.load(sources + n, mask=wanted, other=0)
        turned = tl.load(rotations + tl.where(source >= 0, source, 0), mask=wanted & (source >= 0), other=0.0)
        shown = tl.load(expressions + tl.where(source < 0, -1 - source, 0), mask=wanted & (source < 0), other=0.0)
        seen = tl.where(source >= 0, turned, shown)
        if CLAMPED:
            middle = tl.load(mean + n, mask=wanted, other=0.0)
            row = tl.arange(0, COMPONENTS)
            inside = (row < component_count)[:, None] & wanted[None, :]
            ways = tl.load(components + row[:, None] * drive_count + n[None, :], mask=inside, other=0.0)
            far = tl.load(reach + row, mask=row < component_count, other=0.0)
            along = tl.sum(ways * (seen - middle)[None, :], 1)
            along = tl.minimum(tl.maximum(along, -far), far)
            seen = middle + tl.sum(ways * along[:, None], 0)
        tl.store(theta + n, seen, mask=wanted)


@triton.jit
def layer(
    given, given_stride, sees, weights, biases, found, inputs, outputs,
    SEEN: tl.constexpr, LAST: tl.constexpr, TURN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (f, block): outputs of one layer of network f, found [F, outputs]; weights [F, inputs, outputs] half.

    given [F, inputs], or [inputs] for all with given_stride 0. SEEN: inputs are multiplied by sees [F, inputs] first.
    """
    f = tl.program_id(0)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    wanted = o < outputs
    total = tl.zeros((TURN, BLOCK), tl.float32)
    for first in range(0, inputs, TURN):
        k = first + tl.arange(0, TURN)
        inside = k < inputs
        x = tl.load(given + f * given_stride + k, mask=inside, other=0.0)
        if SEEN:
            x *= tl.load(sees + f * inputs + k, mask=inside, other=0.0)
        place = (f * inputs + k)[:, None] * outputs + o[None, :]
        w = tl.load(weights + place, mask=inside[:, None] & wanted[None, :], other=0.0)
        total += x[:, None] * w.to(tl.float32)
    y = tl.sum(total, 0) + tl.load(biases + f * outputs + o, mask=wanted, other=0.0)
    if not LAST:
        y = tl.maximum(y, 0.0)
    tl.store(found + f * outputs + o, y, mask=wanted)


@triton.jit
def _neighbours(index, weight, n, count, live, NEAR: tl.constexpr, WIDE: tl.constexpr):
    """Rows and weights [WIDE, BLOCK] of what points n take from; beyond NEAR row 0 with weight 0."""
    near = tl.arange(0, WIDE)
    there = (near < NEAR)[:, None] & live[None, :]
    place = near[:, None] * count + n[None, :]
    return tl.load(index + place, mask=there, other=0), tl.load(weight + place, mask=there, other=0.0)


@triton.jit
def control_moves(
    said, said_row, first, near_index, near_weight, offsets, bases, moves, count, coefficients,
    NEAR: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Offsets [C, 3] m of control points. near_* [NEAR, C]; bases [K, C, 3]; coefficients: in said from `first`."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    x, y, z = _row(offsets + n * 3, 0, 1, live)
    anchor, shares = _neighbours(near_index, near_weight, n, count, live, NEAR, WIDE)
    heard = said + anchor * said_row + first
    for k in range(coefficients):
        a = tl.sum(shares * tl.load(heard + k), 0)
        bx, by, bz = _row(bases + (k * count + n) * 3, 0, 1, live)
        x, y, z = x + a * bx, y + a * by, z + a * bz
    tl.store(moves + n * 3, x, mask=live)
    tl.store(moves + n * 3 + 1, y, mask=live)
    tl.store(moves + n * 3 + 2, z, mask=live)


@triton.jit
def _half_row(table, at, count, live):
    """Three half-precision numbers `count` apart."""
    a, b, c = _row(table, at, count, live)
    return a.to(tl.float32), b.to(tl.float32), c.to(tl.float32)


@triton.jit
def pose_gaussians(
    neutral, sh1, bases, said, said_row, anchor_index, anchor_weight, moves, control_index, control_weight, rest,
    skinning, joint_index, joint_weight, joint_slots, expressions, expression_count, expression_row, expression_dirs,
    expression_rows, surface_normals, means, quats, scales, opacities, base, colours, tint, normals, count,
    coefficients, NEAR: tl.constexpr, WIDE: tl.constexpr, TINTED: tl.constexpr, EXPRESSIVE: tl.constexpr,
    NORMALS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """World Gaussians. anchor_*, control_* [NEAR, N]; bases [K, 11 or 20, N] half; joint_* [slots, N], largest first.

    rest [3, N] m with the free offsets; expression_row [N]: row of expression_dirs [E, 3, M], or -1.
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    r0, r1, r2 = _row(neutral, n, count, live)
    s0, s1, s2 = _row(neutral, n + 3 * count, count, live)
    qw = tl.load(neutral + n + 6 * count, mask=live, other=1.0)
    qx, qy, qz = _row(neutral, n + 7 * count, count, live)
    o = tl.load(neutral + n + 10 * count, mask=live, other=0.0)
    rows: tl.constexpr = 20 if TINTED else 11
    if TINTED:
        p0, p1, p2 = _row(sh1, n, count, live)
        q0, q1, q2 = _row(sh1, n + 3 * count, count, live)
        t0, t1, t2 = _row(sh1, n + 6 * count, count, live)
    anchor, shares = _neighbours(anchor_index, anchor_weight, n, count, live, NEAR, WIDE)
    heard = said + anchor * said_row
    for k in range(coefficients):
        a = tl.sum(shares * tl.load(heard + k), 0)
        own = bases + k * rows * count + n
        b0, b1, b2 = _half_row(own, 0, count, live)
        r0, r1, r2 = r0 + a * b0, r1 + a * b1, r2 + a * b2
        b0, b1, b2 = _half_row(own, 3 * count, count, live)
        s0, s1, s2 = s0 + a * b0, s1 + a * b1, s2 + a * b2
        qw += a * tl.load(own + 6 * count, mask=live, other=0.0).to(tl.float32)
        b0, b1, b2 = _half_row(own, 7 * count, count, live)
        qx, qy, qz = qx + a * b0, qy + a * b1, qz + a * b2
        o += a * tl.load(own + 10 * count, mask=live, other=0.0).to(tl.float32)
        if TINTED:
            b0, b1, b2 = _half_row(own, 11 * count, count, live)
            p0, p1, p2 = p0 + a * b0, p1 + a * b1, p2 + a * b2
            b0, b1, b2 = _half_row(own, 14 * count, count, live)
            q0, q1, q2 = q0 + a * b0, q1 + a * b1, q2 + a * b2
            b0, b1, b2 = _half_row(own, 17 * count, count, live)
            t0, t1, t2 = t0 + a * b0, t1 + a * b1, t2 + a * b2
    x, y, z = _row(rest, n, count, live)
    if EXPRESSIVE:
        moved = tl.load(expression_row + n, mask=live, other=-1)
        if tl.max(moved, 0) >= 0:
            shown = moved >= 0
            for e in range(expression_count):
                value = tl.load(expressions + e)
                if value != 0.0:
                    b0, b1, b2 = _row(expression_dirs + e * 3 * expression_rows + moved, 0, expression_rows, shown)
                    x, y, z = x + value * b0, y + value * b1, z + value * b2
    for near in tl.static_range(NEAR):
        control = tl.load(control_index + near * count + n, mask=live, other=0)
        share = tl.load(control_weight + near * count + n, mask=live, other=0.0)
        b0, b1, b2 = _row(moves + control * 3, 0, 1, live)
        x, y, z = x + share * b0, y + share * b1, z + share * b2
    zero = tl.zeros((BLOCK,), tl.float32)
    ma, mb, mc, md, me, mf, mg, mh, mi = zero, zero, zero, zero, zero, zero, zero, zero, zero
    px, py, pz = zero, zero, zero
    for slot in range(joint_slots):
        share = tl.load(joint_weight + slot * count + n, mask=live, other=0.0)
        if tl.max(share, 0) > 0.0:
            bone = skinning + tl.load(joint_index + slot * count + n, mask=live, other=0).to(tl.int32) * 12
            b0, b1, b2 = _row(bone, 0, 1, live)
            ma, mb, mc = ma + share * b0, mb + share * b1, mc + share * b2
            b0, b1, b2 = _row(bone + 4, 0, 1, live)
            md, me, mf = md + share * b0, me + share * b1, mf + share * b2
            b0, b1, b2 = _row(bone + 8, 0, 1, live)
            mg, mh, mi = mg + share * b0, mh + share * b1, mi + share * b2
            b0, b1, b2 = _row(bone + 3, 0, 4, live)
            px, py, pz = px + share * b0, py + share * b1, pz + share * b2
    x, y, z = _applied(ma, mb, mc, md, me, mf, mg, mh, mi, x, y, z)
    out = means + n * 3
    tl.store(out, x + px, mask=live)
    tl.store(out + 1, y + py, mask=live)
    tl.store(out + 2, z + pz, mask=live)
    if NORMALS:
        x, y, z = _row(surface_normals + n * 3, 0, 1, live)
        x, y, z = _applied(ma, mb, mc, md, me, mf, mg, mh, mi, x, y, z)
        share = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
        out = normals + n * 3
        tl.store(out, x * share, mask=live)
        tl.store(out + 1, y * share, mask=live)
        tl.store(out + 2, z * share, mask=live)
    for _ in tl.static_range(3):
        ma, mb, mc, md, me, mf, mg, mh, mi = _newton(ma, mb, mc, md, me, mf, mg, mh, mi)
    tw, tx, ty, tz = _quaternion(ma, mb, mc, md, me, mf, mg, mh, mi)
    length = tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    whole = length > SHORTEST
    share = tl.where(whole, 1.0 / tl.maximum(length, SHORTEST), 0.0)
    qw, qx, qy, qz = tl.where(whole, qw * share, 1.0), qx * share, qy * share, qz * share
    out = quats + n * 4
    tl.store(out, tw * qw - tx * qx - ty * qy - tz * qz, mask=live)
    tl.store(out + 1, tw * qx + tx * qw + ty * qz - tz * qy, mask=live)
    tl.store(out + 2, tw * qy - tx * qz + ty * qw + tz * qx, mask=live)
    tl.store(out + 3, tw * qz + tx * qy - ty * qx + tz * qw, mask=live)
    out = scales + n * 3
    tl.store(out, tl.exp(s0), mask=live)
    tl.store(out + 1, tl.exp(s1), mask=live)
    tl.store(out + 2, tl.exp(s2), mask=live)
    tl.store(opacities + n, tl.sigmoid(o), mask=live)
    r0, r1, r2 = 0.5 + r0 * SH0, 0.5 + r1 * SH0, 0.5 + r2 * SH0
    out = colours + n * 3
    tl.store(out, tl.maximum(r0, 0.0), mask=live)
    tl.store(out + 1, tl.maximum(r1, 0.0), mask=live)
    tl.store(out + 2, tl.maximum(r2, 0.0), mask=live)
    if TINTED:
        out = base + n * 3
        tl.store(out, r0, mask=live)
        tl.store(out + 1, r1, mask=live)
        tl.store(out + 2, r2, mask=live)
        out = tint + n * 9
        a, b, c = _turned(tw, tx, ty, tz, -(t0 * SH1), -(p0 * SH1), q0 * SH1)
        tl.store(out, a, mask=live)
        tl.store(out + 1, b, mask=live)
        tl.store(out + 2, c, mask=live)
        a, b, c = _turned(tw, tx, ty, tz, -(t1 * SH1), -(p1 * SH1), q1 * SH1)
        tl.store(out + 3, a, mask=live)
        tl.store(out + 4, b, mask=live)
        tl.store(out + 5, c, mask=live)
        a, b, c = _turned(tw, tx, ty, tz, -(t2 * SH1), -(p2 * SH1), q2 * SH1)
        tl.store(out + 6, a, mask=live)
        tl.store(out + 7, b, mask=live)
        tl.store(out + 8, c, mask=live)
