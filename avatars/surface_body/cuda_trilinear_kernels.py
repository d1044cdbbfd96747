"""The Triton kernels of `trilinear` and of `deformation`'s fixed-point steps. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

from avatars.relit_field.cuda_roots_kernels import FLATTEST, _blend

PLACES_A_BLOCK = 128


@triton.jit
def _cell(place, low, per_m, nodes):
    """Node below along one axis, how far towards the next, and 1 where moving on changes anything."""
    top = nodes - 1
    wanted = (place - low) * per_m
    held = tl.minimum(tl.maximum(wanted, 0.0), top.to(tl.float32))
    cell = tl.minimum(held.to(tl.int32), top - 1)
    return cell, held - cell.to(tl.float32), tl.where(held == wanted, 1.0, 0.0)


@triton.jit(do_not_specialize=["count"])
def forward(
    table, places, offset, low, per_m, nx, ny, nz, found, slopes, count,
    C: tl.constexpr, W: tl.constexpr, MOVED: tl.constexpr, SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """found [P, C] and slopes [P, 3, C] of a table [N, C] at places [P, 3]; W columns each."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    px, py, pz = tl.load(per_m), tl.load(per_m + 1), tl.load(per_m + 2)
    i, u, mx = _cell(tl.load(places + at * 3, mask=live, other=0.0), tl.load(low), px, nx)
    j, v, my = _cell(tl.load(places + at * 3 + 1, mask=live, other=0.0), tl.load(low + 1), py, ny)
    k, w, mz = _cell(tl.load(places + at * 3 + 2, mask=live, other=0.0), tl.load(low + 2), pz, nz)
    first = ((k * ny + j) * nx + i).to(tl.int64)
    if MOVED:
        first += tl.load(offset + at, mask=live, other=0)
    for column in tl.static_range(W):
        c = tl.program_id(1) * W + column
        total = tl.zeros((BLOCK,), tl.float32)
        x = tl.zeros((BLOCK,), tl.float32)
        y = tl.zeros((BLOCK,), tl.float32)
        z = tl.zeros((BLOCK,), tl.float32)
        for corner in tl.static_range(8):
            wx = u if corner % 2 == 1 else 1.0 - u
            wy = v if (corner // 2) % 2 == 1 else 1.0 - v
            wz = w if corner // 4 == 1 else 1.0 - w
            value = tl.load(
                table + (first + ((corner // 4) * ny + (corner // 2) % 2) * nx + corner % 2) * C + c,
                mask=live,
                other=0.0,
            )
            total += wx * wy * wz * value
            if SLOPES:
                x += (wy * wz if corner % 2 == 1 else -wy * wz) * value
                y += (wx * wz if (corner // 2) % 2 == 1 else -wx * wz) * value
                z += (wx * wy if corner // 4 == 1 else -wx * wy) * value
        tl.store(found + at.to(tl.int64) * C + c, total, mask=live)
        if SLOPES:
            out = slopes + at.to(tl.int64) * 3 * C + c
            tl.store(out, x * px * mx, mask=live)
            tl.store(out + C, y * py * my, mask=live)
            tl.store(out + 2 * C, z * pz * mz, mask=live)


@triton.jit(do_not_specialize=["count"])
def backward(
    by_found, places, offset, low, per_m, nx, ny, nz, by_table, count,
    C: tl.constexpr, W: tl.constexpr, MOVED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """by_table [N, C] += what by_found [P, C] asks for; W columns each."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    i, u, _ = _cell(tl.load(places + at * 3, mask=live, other=0.0), tl.load(low), tl.load(per_m), nx)
    j, v, _ = _cell(tl.load(places + at * 3 + 1, mask=live, other=0.0), tl.load(low + 1), tl.load(per_m + 1), ny)
    k, w, _ = _cell(tl.load(places + at * 3 + 2, mask=live, other=0.0), tl.load(low + 2), tl.load(per_m + 2), nz)
    first = ((k * ny + j) * nx + i).to(tl.int64)
    if MOVED:
        first += tl.load(offset + at, mask=live, other=0)
    for column in tl.static_range(W):
        c = tl.program_id(1) * W + column
        asked = tl.load(by_found + at.to(tl.int64) * C + c, mask=live, other=0.0)
        some = live & (asked != 0.0)
        for corner in tl.static_range(8):
            wx = u if corner % 2 == 1 else 1.0 - u
            wy = v if (corner // 2) % 2 == 1 else 1.0 - v
            wz = w if corner // 4 == 1 else 1.0 - w
            row = (first + ((corner // 4) * ny + (corner // 2) % 2) * nx + corner % 2) * C + c
            tl.atomic_add(by_table + row, wx * wy * wz * asked, mask=some)


@triton.jit(do_not_specialize=["count"])
def settle_step(
    rows, wanted, offset, low, per_m, nx, ny, nz, place, found, count, EACH: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One fixed-point step from place [P, K, 3] towards posed places wanted [P, 3]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    p = at // EACH
    table = rows + tl.load(offset + p, mask=live, other=0) * 12
    x = tl.load(place + at * 3, mask=live, other=0.0)
    y = tl.load(place + at * 3 + 1, mask=live, other=0.0)
    z = tl.load(place + at * 3 + 2, mask=live, other=0.0)
    ta, tb, tc, td, te, tf, tg, th, ti, tj, tk, tm = _blend(table, low, per_m, nx, ny, nz, x, y, z, live)
    a = tl.load(wanted + p * 3, mask=live, other=0.0) - td
    b = tl.load(wanted + p * 3 + 1, mask=live, other=0.0) - th
    c = tl.load(wanted + p * 3 + 2, mask=live, other=0.0) - tm
    ca = tf * tk - tg * tj
    cb = tg * ti - te * tk
    cc = te * tj - tf * ti
    volume = ta * ca + tb * cb + tc * cc
    flat = tl.abs(volume) <= FLATTEST
    part = 1.0 / tl.where(flat, 1.0, volume)
    da = tc * tj - tb * tk
    db = ta * tk - tc * ti
    dc = tb * ti - ta * tj
    ea = tb * tg - tc * tf
    eb = tc * te - ta * tg
    ec = ta * tf - tb * te
    out = found + at.to(tl.int64) * 3
    tl.store(out, tl.where(flat, ta * a + te * b + ti * c, (ca * a + da * b + ea * c) * part), mask=live)
    tl.store(out + 1, tl.where(flat, tb * a + tf * b + tj * c, (cb * a + db * b + eb * c) * part), mask=live)
    tl.store(out + 2, tl.where(flat, tc * a + tg * b + tk * c, (cc * a + dc * b + ec * c) * part), mask=live)
