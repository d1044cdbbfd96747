"""The Triton kernels of `cuda_roots`. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

PLACES_A_BLOCK = 128
LONGEST = tl.constexpr(0.2)
TINY = tl.constexpr(1e-12)
FLATTEST = tl.constexpr(1e-4)


@triton.jit
def _axis(place, low, per_m, voxels):
    """Voxel below a place along an axis, and how far it is towards the next."""
    top = voxels - 1
    scaled = tl.minimum(tl.maximum((place - low) * per_m, 0.0), top.to(tl.float32))
    cell = tl.minimum(scaled.to(tl.int32), top - 1)
    return cell, scaled - cell.to(tl.float32)


@triton.jit
def _column(rows, first, c: tl.constexpr, nx, ny, u, v, w, live):
    """One of the twelve numbers, trilinear."""
    at = rows + first * 12 + c
    near = (1.0 - v) * ((1.0 - u) * tl.load(at, mask=live, other=0.0) + u * tl.load(at + 12, mask=live, other=0.0))
    at = rows + (first + nx) * 12 + c
    near += v * ((1.0 - u) * tl.load(at, mask=live, other=0.0) + u * tl.load(at + 12, mask=live, other=0.0))
    at = rows + (first + nx * ny) * 12 + c
    far = (1.0 - v) * ((1.0 - u) * tl.load(at, mask=live, other=0.0) + u * tl.load(at + 12, mask=live, other=0.0))
    at = rows + (first + nx * ny + nx) * 12 + c
    far += v * ((1.0 - u) * tl.load(at, mask=live, other=0.0) + u * tl.load(at + 12, mask=live, other=0.0))
    return (1.0 - w) * near + w * far


@triton.jit
def _blend(rows, low, per_m, nx, ny, nz, x, y, z, live):
    """The twelve numbers at places."""
    i, u = _axis(x, tl.load(low), tl.load(per_m), nx)
    j, v = _axis(y, tl.load(low + 1), tl.load(per_m + 1), ny)
    k, w = _axis(z, tl.load(low + 2), tl.load(per_m + 2), nz)
    first = (k * ny + j) * nx + i
    a = _column(rows, first, 0, nx, ny, u, v, w, live)
    b = _column(rows, first, 1, nx, ny, u, v, w, live)
    c = _column(rows, first, 2, nx, ny, u, v, w, live)
    d = _column(rows, first, 3, nx, ny, u, v, w, live)
    e = _column(rows, first, 4, nx, ny, u, v, w, live)
    f = _column(rows, first, 5, nx, ny, u, v, w, live)
    g = _column(rows, first, 6, nx, ny, u, v, w, live)
    h = _column(rows, first, 7, nx, ny, u, v, w, live)
    l = _column(rows, first, 8, nx, ny, u, v, w, live)
    m = _column(rows, first, 9, nx, ny, u, v, w, live)
    n = _column(rows, first, 10, nx, ny, u, v, w, live)
    o = _column(rows, first, 11, nx, ny, u, v, w, live)
    return a, b, c, d, e, f, g, h, l, m, n, o


@triton.jit(do_not_specialize=["count"])
def blend(places, rows, low, per_m, nx, ny, nz, found, count, BLOCK: tl.constexpr):
    """found [P, 12]: blended transforms at places [P, 3]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    x = tl.load(places + at * 3, mask=live, other=0.0)
    y = tl.load(places + at * 3 + 1, mask=live, other=0.0)
    z = tl.load(places + at * 3 + 2, mask=live, other=0.0)
    a, b, c, d, e, f, g, h, l, m, n, o = _blend(rows, low, per_m, nx, ny, nz, x, y, z, live)
    out = found + at.to(tl.int64) * 12
    tl.store(out, a, mask=live)
    tl.store(out + 1, b, mask=live)
    tl.store(out + 2, c, mask=live)
    tl.store(out + 3, d, mask=live)
    tl.store(out + 4, e, mask=live)
    tl.store(out + 5, f, mask=live)
    tl.store(out + 6, g, mask=live)
    tl.store(out + 7, h, mask=live)
    tl.store(out + 8, l, mask=live)
    tl.store(out + 9, m, mask=live)
    tl.store(out + 10, n, mask=live)
    tl.store(out + 11, o, mask=live)


@triton.jit(do_not_specialize=["count"])
def broyden(
    places, starts, inverse, rows, low, per_m, nx, ny, nz, found, off, count, each, iterations, converged,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """found [P, K, 3] and off [P, K] m from K starts, rows of `inverse` [N, 3, 4], for each of places [P, 3]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    place = places + at // each * 3
    px = tl.load(place, mask=live, other=0.0)
    py = tl.load(place + 1, mask=live, other=0.0)
    pz = tl.load(place + 2, mask=live, other=0.0)
    start = inverse + tl.load(starts + at, mask=live, other=0) * 12
    x = (
        tl.load(start, mask=live, other=0.0) * px + tl.load(start + 1, mask=live, other=0.0) * py
        + tl.load(start + 2, mask=live, other=0.0) * pz + tl.load(start + 3, mask=live, other=0.0)
    )  # fmt: skip
    y = (
        tl.load(start + 4, mask=live, other=0.0) * px + tl.load(start + 5, mask=live, other=0.0) * py
        + tl.load(start + 6, mask=live, other=0.0) * pz + tl.load(start + 7, mask=live, other=0.0)
    )  # fmt: skip
    z = (
        tl.load(start + 8, mask=live, other=0.0) * px + tl.load(start + 9, mask=live, other=0.0) * py
        + tl.load(start + 10, mask=live, other=0.0) * pz + tl.load(start + 11, mask=live, other=0.0)
    )  # fmt: skip
    a, b, c, d, e, f, g, h, l, m, n, o = _blend(rows, low, per_m, nx, ny, nz, x, y, z, live)
    ex = a * x + b * y + c * z + d - px
    ey = e * x + f * y + g * z + h - py
    ez = l * x + m * y + n * z + o - pz
    ca, cb, cc = f * n - g * m, g * l - e * n, e * m - f * l
    volume = a * ca + b * cb + c * cc
    good = tl.abs(volume) > FLATTEST
    share = 1.0 / tl.where(good, volume, 1.0)
    r0, r1, r2 = (
        tl.where(good, ca * share, a), tl.where(good, (c * m - b * n) * share, e),
        tl.where(good, (b * g - c * f) * share, l),
    )  # fmt: skip
    s0, s1, s2 = (
        tl.where(good, cb * share, b), tl.where(good, (a * n - c * l) * share, f),
        tl.where(good, (c * e - a * g) * share, m),
    )  # fmt: skip
    t0, t1, t2 = (
        tl.where(good, cc * share, c), tl.where(good, (b * l - a * m) * share, g),
        tl.where(good, (a * f - b * e) * share, n),
    )  # fmt: skip
    best = tl.sqrt(ex * ex + ey * ey + ez * ez)
    bx, by, bz = x, y, z
    step = 0
    worst = tl.max(tl.where(live, best, 0.0), 0)
    while (step < iterations) & (worst >= converged):
        dx = -(r0 * ex + r1 * ey + r2 * ez)
        dy = -(s0 * ex + s1 * ey + s2 * ez)
        dz = -(t0 * ex + t1 * ey + t2 * ez)
        held = tl.minimum(LONGEST / tl.maximum(tl.sqrt(dx * dx + dy * dy + dz * dz), TINY), 1.0)
        dx, dy, dz = dx * held, dy * held, dz * held
        x, y, z = x + dx, y + dy, z + dz
        a, b, c, d, e, f, g, h, l, m, n, o = _blend(rows, low, per_m, nx, ny, nz, x, y, z, live)
        fx = a * x + b * y + c * z + d - px
        fy = e * x + f * y + g * z + h - py
        fz = l * x + m * y + n * z + o - pz
        gx, gy, gz = fx - ex, fy - ey, fz - ez
        ex, ey, ez = fx, fy, fz
        kx = r0 * gx + r1 * gy + r2 * gz
        ky = s0 * gx + s1 * gy + s2 * gz
        kz = t0 * gx + t1 * gy + t2 * gz
        divisor = dx * kx + dy * ky + dz * kz
        divisor = tl.where(tl.abs(divisor) < TINY, TINY, divisor)
        ax = dx * r0 + dy * s0 + dz * t0
        ay = dx * r1 + dy * s1 + dz * t1
        az = dx * r2 + dy * s2 + dz * t2
        qx, qy, qz = (dx - kx) / divisor, (dy - ky) / divisor, (dz - kz) / divisor
        r0, r1, r2 = r0 + qx * ax, r1 + qx * ay, r2 + qx * az
        s0, s1, s2 = s0 + qy * ax, s1 + qy * ay, s2 + qy * az
        t0, t1, t2 = t0 + qz * ax, t1 + qz * ay, t2 + qz * az
        error = tl.sqrt(ex * ex + ey * ey + ez * ez)
        better = error < best
        bx, by, bz = tl.where(better, x, bx), tl.where(better, y, by), tl.where(better, z, bz)
        best = tl.where(better, error, best)
        worst = tl.max(tl.where(live, best, 0.0), 0)
        step += 1
    out = found + at.to(tl.int64) * 3
    tl.store(out, bx, mask=live)
    tl.store(out + 1, by, mask=live)
    tl.store(out + 2, bz, mask=live)
    tl.store(off + at, best, mask=live)
