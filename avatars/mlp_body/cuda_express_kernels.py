"""The Triton kernels of `cuda_express`: one program for a block of Gaussians. CUDA devices only.

Tables have the Gaussians last, so a block reads runs of memory. Sums go over few things in a fixed order; nothing is
added atomically, so equal input gives equal output.
"""

from __future__ import annotations

import triton
import triton.language as tl

GAUSSIANS_A_BLOCK = 128
WARPS = 4
SH0 = tl.constexpr(0.28209479177387814)
SH1 = tl.constexpr(0.4886025119029199)
SHORTEST = tl.constexpr(1e-8)
LEAST_VOLUME = tl.constexpr(1e-3)


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _row(table, at, count, live):
    """Three numbers `count` apart."""
    first = tl.load(table + at, mask=live, other=0.0)
    second = tl.load(table + at + count, mask=live, other=0.0)
    third = tl.load(table + at + 2 * count, mask=live, other=0.0)
    return first, second, third


@triton.jit
def _newton(a, b, c, d, e, f, g, h, i):
    """One step towards the nearest rotation: the mean of a matrix and its inverse transposed."""
    ca, cb, cc = e * i - f * h, f * g - d * i, d * h - e * g
    cd, ce, cf = h * c - i * b, i * a - g * c, g * b - h * a
    cg, ch, ci = b * f - c * e, c * d - a * f, a * e - b * d
    volume = a * ca + b * cb + c * cc
    good = volume > LEAST_VOLUME
    share = 0.5 / tl.maximum(volume, LEAST_VOLUME)
    kept, share = tl.where(good, 0.5, 1.0), tl.where(good, share, 0.0)
    a, b, c = kept * a + share * ca, kept * b + share * cb, kept * c + share * cc
    d, e, f = kept * d + share * cd, kept * e + share * ce, kept * f + share * cf
    g, h, i = kept * g + share * cg, kept * h + share * ch, kept * i + share * ci
    return a, b, c, d, e, f, g, h, i


@triton.jit
def _quaternion(a, b, c, d, e, f, g, h, i):
    """Unit wxyz of a rotation given by rows; the largest of the four is found first (`quaternion_from_matrix`)."""
    w, x, y, z = 1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i
    p, q, r = h - f, c - g, d - b
    s, t, u = d + b, g + c, h + f
    top = tl.maximum(tl.maximum(w, x), tl.maximum(y, z))
    is_w, is_x, is_y = w >= top, x >= top, y >= top
    qw = tl.where(is_w, w, tl.where(is_x, p, tl.where(is_y, q, r)))
    qx = tl.where(is_w, p, tl.where(is_x, x, tl.where(is_y, s, t)))
    qy = tl.where(is_w, q, tl.where(is_x, s, tl.where(is_y, y, u)))
    qz = tl.where(is_w, r, tl.where(is_x, t, tl.where(is_y, u, z)))
    sign = tl.where(qw < 0, -1.0, 1.0)
    scale = sign / tl.maximum(tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz), 1e-12)
    return qw * scale, qx * scale, qy * scale, qz * scale


@triton.jit
def _turned(w, x, y, z, a, b, c):
    """A vector turned by a unit quaternion."""
    u, v, t = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return a + w * u + y * t - z * v, b + w * v + z * u - x * t, c + w * t + x * v - y * u


@triton.jit
def express_forward(
    neutral, bases, sh1, sh1_bases, wiggle, said, anchor_index, anchor_weight, controls, control_index, control_weight,
    rest, rest_stride, transforms, means, quats, scales, opacities, base, tint, turns, raw, canonical, along,
    wiggle_m, count, coefficients, said_row, control_count, batch,
    NEAR: tl.constexpr, ACTIVE: tl.constexpr, TINTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (block, u): Gaussians of pose u. said [F, U, said_row]; controls [U, C, 3]; rest [U or 1, 3, N]."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    u = tl.program_id(1)
    live = n < count
    r0, r1, r2 = _row(neutral, n, count, live)
    s0, s1, s2 = _row(neutral, n + 3 * count, count, live)
    qw = tl.load(neutral + n + 6 * count, mask=live, other=1.0)
    qx, qy, qz = _row(neutral, n + 7 * count, count, live)
    o = tl.load(neutral + n + 10 * count, mask=live, other=0.0)
    if TINTED:
        p0, p1, p2 = _row(sh1, n, count, live)
        q0, q1, q2 = _row(sh1, n + 3 * count, count, live)
        t0, t1, t2 = _row(sh1, n + 6 * count, count, live)
    if ACTIVE:
        for k in range(coefficients):
            a = tl.zeros((BLOCK,), tl.float32)
            for j in tl.static_range(NEAR):
                anchor = tl.load(anchor_index + n * NEAR + j, mask=live, other=0)
                share = tl.load(anchor_weight + n * NEAR + j, mask=live, other=0.0)
                a += share * tl.load(said + (anchor * batch + u) * said_row + k, mask=live, other=0.0)
            tl.store(along + (u * coefficients + k) * count + n, a, mask=live)
            own = bases + k * 11 * count
            b0, b1, b2 = _row(own, n, count, live)
            r0, r1, r2 = r0 + a * b0, r1 + a * b1, r2 + a * b2
            b0, b1, b2 = _row(own, n + 3 * count, count, live)
            s0, s1, s2 = s0 + a * b0, s1 + a * b1, s2 + a * b2
            qw += a * tl.load(own + n + 6 * count, mask=live, other=0.0)
            b0, b1, b2 = _row(own, n + 7 * count, count, live)
            qx, qy, qz = qx + a * b0, qy + a * b1, qz + a * b2
            o += a * tl.load(own + n + 10 * count, mask=live, other=0.0)
            if TINTED:
                band = sh1_bases + k * 9 * count
                b0, b1, b2 = _row(band, n, count, live)
                p0, p1, p2 = p0 + a * b0, p1 + a * b1, p2 + a * b2
                b0, b1, b2 = _row(band, n + 3 * count, count, live)
                q0, q1, q2 = q0 + a * b0, q1 + a * b1, q2 + a * b2
                b0, b1, b2 = _row(band, n + 6 * count, count, live)
                t0, t1, t2 = t0 + a * b0, t1 + a * b1, t2 + a * b2
    x, y, z = _row(rest + u * rest_stride, n, count, live)
    w0, w1, w2 = _row(wiggle, n, count, live)
    x, y, z = x + wiggle_m * _tanh(w0), y + wiggle_m * _tanh(w1), z + wiggle_m * _tanh(w2)
    for j in tl.static_range(NEAR):
        control = tl.load(control_index + n * NEAR + j, mask=live, other=0)
        share = tl.load(control_weight + n * NEAR + j, mask=live, other=0.0)
        m0, m1, m2 = _row(controls + (u * control_count + control) * 3, 0, 1, live)
        x, y, z = x + share * m0, y + share * m1, z + share * m2
    place = u * 3 * count + n
    tl.store(canonical + place, x, mask=live)
    tl.store(canonical + place + count, y, mask=live)
    tl.store(canonical + place + 2 * count, z, mask=live)
    at = transforms + u * 12 * count
    ma, mb, mc = _row(at, n, count, live)
    md, me, mf = _row(at, n + 4 * count, count, live)
    mg, mh, mi = _row(at, n + 8 * count, count, live)
    out = means + (u * count + n) * 3
    tl.store(out, ma * x + mb * y + mc * z + tl.load(at + n + 3 * count, mask=live, other=0.0), mask=live)
    tl.store(out + 1, md * x + me * y + mf * z + tl.load(at + n + 7 * count, mask=live, other=0.0), mask=live)
    tl.store(out + 2, mg * x + mh * y + mi * z + tl.load(at + n + 11 * count, mask=live, other=0.0), mask=live)
    for _ in tl.static_range(3):
        ma, mb, mc, md, me, mf, mg, mh, mi = _newton(ma, mb, mc, md, me, mf, mg, mh, mi)
    tw, tx, ty, tz = _quaternion(ma, mb, mc, md, me, mf, mg, mh, mi)
    place = u * 4 * count + n
    tl.store(turns + place, tw, mask=live)
    tl.store(turns + place + count, tx, mask=live)
    tl.store(turns + place + 2 * count, ty, mask=live)
    tl.store(turns + place + 3 * count, tz, mask=live)
    tl.store(raw + place, qw, mask=live)
    tl.store(raw + place + count, qx, mask=live)
    tl.store(raw + place + 2 * count, qy, mask=live)
    tl.store(raw + place + 3 * count, qz, mask=live)
    length = tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    whole = length > SHORTEST
    share = tl.where(whole, 1.0 / tl.maximum(length, SHORTEST), 0.0)
    qw, qx, qy, qz = tl.where(whole, qw * share, 1.0), qx * share, qy * share, qz * share
    out = quats + (u * count + n) * 4
    tl.store(out, tw * qw - tx * qx - ty * qy - tz * qz, mask=live)
    tl.store(out + 1, tw * qx + tx * qw + ty * qz - tz * qy, mask=live)
    tl.store(out + 2, tw * qy - tx * qz + ty * qw + tz * qx, mask=live)
    tl.store(out + 3, tw * qz + tx * qy - ty * qx + tz * qw, mask=live)
    out = scales + (u * count + n) * 3
    tl.store(out, tl.exp(s0), mask=live)
    tl.store(out + 1, tl.exp(s1), mask=live)
    tl.store(out + 2, tl.exp(s2), mask=live)
    tl.store(opacities + u * count + n, tl.sigmoid(o), mask=live)
    out = base + (u * count + n) * 3
    tl.store(out, 0.5 + r0 * SH0, mask=live)
    tl.store(out + 1, 0.5 + r1 * SH0, mask=live)
    tl.store(out + 2, 0.5 + r2 * SH0, mask=live)
    if TINTED:
        out = tint + (u * count + n) * 9
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


@triton.jit
def _put(table, at, value, live, FIRST: tl.constexpr):
    """Store, or add to what an earlier pose of this program stored."""
    if FIRST:
        tl.store(table + at, value, mask=live)
    else:
        tl.store(table + at, value + tl.load(table + at, mask=live, other=0.0), mask=live)


@triton.jit
def _put_row(table, at, count, a, b, c, live, FIRST: tl.constexpr):
    _put(table, at, a, live, FIRST)
    _put(table, at + count, b, live, FIRST)
    _put(table, at + 2 * count, c, live, FIRST)


@triton.jit
def express_backward(
    bases, sh1_bases, wiggle, transforms, turns, raw, canonical, along, scales, opacities,
    d_means, d_quats, d_scales, d_opacities, d_base, d_tint,
    g_neutral, g_bases, g_sh1, g_sh1_bases, g_wiggle, g_along, g_moved, g_transforms,
    wiggle_m, count, coefficients, u, batch,
    FIRST: tl.constexpr, ACTIVE: tl.constexpr, TINTED: tl.constexpr, REFINED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program block: what these Gaussians are due of pose u, added to what earlier poses left unless it is the FIRST.

    g_along [N, U, K]; g_moved [N, U, 3].
    """
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    row = u * count + n
    d0, d1, d2 = _row(d_base + row * 3, 0, 1, live)
    d0, d1, d2 = d0 * SH0, d1 * SH0, d2 * SH0
    e0, e1, e2 = _row(d_scales + row * 3, 0, 1, live)
    v0, v1, v2 = _row(scales + row * 3, 0, 1, live)
    e0, e1, e2 = e0 * v0, e1 * v1, e2 * v2
    o = tl.load(opacities + row, mask=live, other=0.0)
    do = tl.load(d_opacities + row, mask=live, other=0.0) * o * (1 - o)
    tw = tl.load(turns + u * 4 * count + n, mask=live, other=1.0)
    tx, ty, tz = _row(turns, u * 4 * count + n + count, count, live)
    gw = tl.load(d_quats + row * 4, mask=live, other=0.0)
    gx, gy, gz = _row(d_quats + row * 4 + 1, 0, 1, live)
    hw = tw * gw + tx * gx + ty * gy + tz * gz
    hx = tw * gx - tx * gw - ty * gz + tz * gy
    hy = tw * gy + tx * gz - ty * gw - tz * gx
    hz = tw * gz - tx * gy + ty * gx - tz * gw
    qw = tl.load(raw + u * 4 * count + n, mask=live, other=1.0)
    qx, qy, qz = _row(raw, u * 4 * count + n + count, count, live)
    length = tl.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    share = tl.where(length > SHORTEST, 1.0 / tl.maximum(length, SHORTEST), 0.0)
    qw, qx, qy, qz = qw * share, qx * share, qy * share, qz * share
    dot = hw * qw + hx * qx + hy * qy + hz * qz
    fw, fx = share * (hw - dot * qw), share * (hx - dot * qx)
    fy, fz = share * (hy - dot * qy), share * (hz - dot * qz)
    _put_row(g_neutral, n, count, d0, d1, d2, live, FIRST)
    _put_row(g_neutral, n + 3 * count, count, e0, e1, e2, live, FIRST)
    _put(g_neutral, n + 6 * count, fw, live, FIRST)
    _put_row(g_neutral, n + 7 * count, count, fx, fy, fz, live, FIRST)
    _put(g_neutral, n + 10 * count, do, live, FIRST)
    x, y, z = _row(d_means + row * 3, 0, 1, live)
    at = transforms + u * 12 * count
    ma, mb, mc = _row(at, n, count, live)
    md, me, mf = _row(at, n + 4 * count, count, live)
    mg, mh, mi = _row(at, n + 8 * count, count, live)
    if REFINED:
        c0, c1, c2 = _row(canonical, u * 3 * count + n, count, live)
        out = u * 12 * count + n
        _put_row(g_transforms, out, count, x * c0, x * c1, x * c2, live, True)
        _put(g_transforms, out + 3 * count, x, live, True)
        _put_row(g_transforms, out + 4 * count, count, y * c0, y * c1, y * c2, live, True)
        _put(g_transforms, out + 7 * count, y, live, True)
        _put_row(g_transforms, out + 8 * count, count, z * c0, z * c1, z * c2, live, True)
        _put(g_transforms, out + 11 * count, z, live, True)
    m0, m1, m2 = ma * x + md * y + mg * z, mb * x + me * y + mh * z, mc * x + mf * y + mi * z
    out = g_moved + (n * batch + u) * 3
    tl.store(out, m0, mask=live)
    tl.store(out + 1, m1, mask=live)
    tl.store(out + 2, m2, mask=live)
    w0, w1, w2 = _row(wiggle, n, count, live)
    w0, w1, w2 = _tanh(w0), _tanh(w1), _tanh(w2)
    w0, w1, w2 = wiggle_m * (1 - w0 * w0), wiggle_m * (1 - w1 * w1), wiggle_m * (1 - w2 * w2)
    _put_row(g_wiggle, n, count, w0 * m0, w1 * m1, w2 * m2, live, FIRST)
    if TINTED:
        at = d_tint + row * 9
        a, b, c = _row(at, 0, 1, live)
        a, b, c = _turned(tw, -tx, -ty, -tz, a, b, c)
        t0, p0, q0 = -(a * SH1), -(b * SH1), c * SH1
        a, b, c = _row(at + 3, 0, 1, live)
        a, b, c = _turned(tw, -tx, -ty, -tz, a, b, c)
        t1, p1, q1 = -(a * SH1), -(b * SH1), c * SH1
        a, b, c = _row(at + 6, 0, 1, live)
        a, b, c = _turned(tw, -tx, -ty, -tz, a, b, c)
        t2, p2, q2 = -(a * SH1), -(b * SH1), c * SH1
        _put_row(g_sh1, n, count, p0, p1, p2, live, FIRST)
        _put_row(g_sh1, n + 3 * count, count, q0, q1, q2, live, FIRST)
        _put_row(g_sh1, n + 6 * count, count, t0, t1, t2, live, FIRST)
    if ACTIVE:
        for k in range(coefficients):
            weight = tl.load(along + (u * coefficients + k) * count + n, mask=live, other=0.0)
            own = k * 11 * count + n
            b0, b1, b2 = _row(bases, own, count, live)
            total = d0 * b0 + d1 * b1 + d2 * b2
            b0, b1, b2 = _row(bases, own + 3 * count, count, live)
            total += e0 * b0 + e1 * b1 + e2 * b2
            total += fw * tl.load(bases + own + 6 * count, mask=live, other=0.0)
            b0, b1, b2 = _row(bases, own + 7 * count, count, live)
            total += fx * b0 + fy * b1 + fz * b2
            total += do * tl.load(bases + own + 10 * count, mask=live, other=0.0)
            _put_row(g_bases, own, count, weight * d0, weight * d1, weight * d2, live, FIRST)
            _put_row(g_bases, own + 3 * count, count, weight * e0, weight * e1, weight * e2, live, FIRST)
            _put(g_bases, own + 6 * count, weight * fw, live, FIRST)
            _put_row(g_bases, own + 7 * count, count, weight * fx, weight * fy, weight * fz, live, FIRST)
            _put(g_bases, own + 10 * count, weight * do, live, FIRST)
            if TINTED:
                band = k * 9 * count + n
                b0, b1, b2 = _row(sh1_bases, band, count, live)
                total += p0 * b0 + p1 * b1 + p2 * b2
                b0, b1, b2 = _row(sh1_bases, band + 3 * count, count, live)
                total += q0 * b0 + q1 * b1 + q2 * b2
                b0, b1, b2 = _row(sh1_bases, band + 6 * count, count, live)
                total += t0 * b0 + t1 * b1 + t2 * b2
                _put_row(g_sh1_bases, band, count, weight * p0, weight * p1, weight * p2, live, FIRST)
                _put_row(g_sh1_bases, band + 3 * count, count, weight * q0, weight * q1, weight * q2, live, FIRST)
                _put_row(g_sh1_bases, band + 6 * count, count, weight * t0, weight * t1, weight * t2, live, FIRST)
            tl.store(g_along + (n * batch + u) * coefficients + k, total, mask=live)


@triton.jit
def colours_forward(base, tint, means, rows, positions, out, count, TINTED: tl.constexpr, BLOCK: tl.constexpr):
    """Program (block, b): colours of pose rows[b] seen from positions[b], cut at 0."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    live = n < count
    row = tl.load(rows + b) * count + n
    r0, r1, r2 = _row(base + row * 3, 0, 1, live)
    if TINTED:
        x, y, z = _direction(means, positions, row, b, live)
        a0, a1, a2 = _row(tint + row * 9, 0, 1, live)
        b0, b1, b2 = _row(tint + row * 9 + 3, 0, 1, live)
        c0, c1, c2 = _row(tint + row * 9 + 6, 0, 1, live)
        r0, r1, r2 = r0 + a0 * x + a1 * y + a2 * z, r1 + b0 * x + b1 * y + b2 * z, r2 + c0 * x + c1 * y + c2 * z
    at = out + (b * count + n) * 3
    tl.store(at, tl.maximum(r0, 0.0), mask=live)
    tl.store(at + 1, tl.maximum(r1, 0.0), mask=live)
    tl.store(at + 2, tl.maximum(r2, 0.0), mask=live)


@triton.jit
def _direction(means, positions, row, b, live):
    x, y, z = _row(means + row * 3, 0, 1, live)
    x, y, z = x - tl.load(positions + b * 3), y - tl.load(positions + b * 3 + 1), z - tl.load(positions + b * 3 + 2)
    share = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * share, y * share, z * share


@triton.jit
def colours_backward(
    means, rows, positions, colours, d_colours, g_base, g_tint, count, views,
    TINTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (block, u): what pose u is due from all pictures that show it."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    u = tl.program_id(1)
    live = n < count
    row = u * count + n
    zero = tl.zeros((BLOCK,), tl.float32)
    r0, r1, r2 = zero, zero, zero
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for b in range(views):
        mine = live & (tl.load(rows + b + tl.zeros((BLOCK,), tl.int32)) == u)
        at = (b * count + n) * 3
        d0, d1, d2 = _row(d_colours + at, 0, 1, mine)
        s0, s1, s2 = _row(colours + at, 0, 1, mine)
        d0, d1, d2 = tl.where(s0 > 0, d0, 0.0), tl.where(s1 > 0, d1, 0.0), tl.where(s2 > 0, d2, 0.0)
        r0, r1, r2 = r0 + d0, r1 + d1, r2 + d2
        if TINTED:
            x, y, z = _direction(means, positions, row, b, live)
            a0, a1, a2 = a0 + d0 * x, a1 + d0 * y, a2 + d0 * z
            b0, b1, b2 = b0 + d1 * x, b1 + d1 * y, b2 + d1 * z
            c0, c1, c2 = c0 + d2 * x, c1 + d2 * y, c2 + d2 * z
    _put_row(g_base + row * 3, 0, 1, r0, r1, r2, live, True)
    if TINTED:
        _put_row(g_tint + row * 9, 0, 1, a0, a1, a2, live, True)
        _put_row(g_tint + row * 9 + 3, 0, 1, b0, b1, b2, live, True)
        _put_row(g_tint + row * 9 + 6, 0, 1, c0, c1, c2, live, True)
