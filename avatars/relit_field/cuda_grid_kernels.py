"""The Triton kernels of `cuda_grid`: a program for a block of places at one level. CUDA devices only.

How many places there are changes from call to call: it must not choose between compiled variants.
"""

from __future__ import annotations

import triton
import triton.language as tl

POINTS_A_BLOCK = 128
PRIME_Y = tl.constexpr(2654435761)
PRIME_Z = tl.constexpr(805459861)


@triton.jit
def _cell(places, at, axis, resolution, live):
    """Cell along an axis, place in it in 0..1, and 1 where moving on changes anything (0 outside the cube)."""
    place = tl.load(places + at * 3 + axis, mask=live, other=0.0)
    held = tl.minimum(tl.maximum(place, 0.0), 1.0)
    scaled = held * resolution.to(tl.float32)
    cell = tl.minimum(scaled.to(tl.int64), resolution - 1)
    return cell, scaled - cell.to(tl.float32), tl.where(held == place, 1.0, 0.0)


@triton.jit
def _row(x, y, z, side, size, dense, offset):
    """Row of the table for lattice points."""
    lattice = (x * side + y) * side + z
    hashed = (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (size - 1)
    return offset + tl.where(dense, lattice, hashed)


@triton.jit
def _weights(corner: tl.constexpr, u, v, w, mx, my, mz, r):
    """A corner's weight and its slopes along the three axes."""
    wx = u if corner >= 4 else 1.0 - u
    wy = v if corner % 4 >= 2 else 1.0 - v
    wz = w if corner % 2 == 1 else 1.0 - w
    sx = (r if corner >= 4 else -r) * mx * wy * wz
    sy = (r if corner % 4 >= 2 else -r) * my * wx * wz
    sz = (r if corner % 2 == 1 else -r) * mz * wx * wy
    return wx * wy * wz, sx, sy, sz


@triton.jit(do_not_specialize=["count"])
def forward(
    places, table, resolutions, sizes, dense, offsets, features, slopes, count, width,
    F: tl.constexpr, SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """features [P, width] and slopes [P, 3, width] of places [P, 3] in the unit cube."""
    level = tl.program_id(1)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    resolution, size, offset = tl.load(resolutions + level), tl.load(sizes + level), tl.load(offsets + level)
    stored = tl.load(dense + level) != 0
    x, u, mx = _cell(places, at, 0, resolution, live)
    y, v, my = _cell(places, at, 1, resolution, live)
    z, w, mz = _cell(places, at, 2, resolution, live)
    r = resolution.to(tl.float32)
    f = tl.arange(0, F)
    keep = live[:, None] & (f[None, :] < F)
    value = tl.zeros((BLOCK, F), tl.float32)
    along_x = tl.zeros((BLOCK, F), tl.float32)
    along_y = tl.zeros((BLOCK, F), tl.float32)
    along_z = tl.zeros((BLOCK, F), tl.float32)
    for corner in tl.static_range(8):
        row = _row(x + corner // 4, y + (corner // 2) % 2, z + corner % 2, resolution + 1, size, stored, offset)
        found = tl.load(table + row[:, None] * F + f[None, :], mask=keep, other=0.0)
        weight, sx, sy, sz = _weights(corner, u, v, w, mx, my, mz, r)
        value += weight[:, None] * found
        if SLOPES:
            along_x += sx[:, None] * found
            along_y += sy[:, None] * found
            along_z += sz[:, None] * found
    column = level * F + f
    tl.store(features + at[:, None] * width + column[None, :], value, mask=keep)
    if SLOPES:
        first = slopes + at[:, None] * (3 * width) + column[None, :]
        tl.store(first, along_x, mask=keep)
        tl.store(first + width, along_y, mask=keep)
        tl.store(first + 2 * width, along_z, mask=keep)


@triton.jit(do_not_specialize=["count"])
def backward(
    places, by_features, by_slopes, by_table, resolutions, sizes, dense, offsets, count, width,
    F: tl.constexpr, SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add to by_table [T, F] what by_features [P, width] and by_slopes [P, 3, width] say."""
    level = tl.program_id(1)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    resolution, size, offset = tl.load(resolutions + level), tl.load(sizes + level), tl.load(offsets + level)
    stored = tl.load(dense + level) != 0
    x, u, mx = _cell(places, at, 0, resolution, live)
    y, v, my = _cell(places, at, 1, resolution, live)
    z, w, mz = _cell(places, at, 2, resolution, live)
    r = resolution.to(tl.float32)
    f = tl.arange(0, F)
    keep = live[:, None] & (f[None, :] < F)
    column = level * F + f
    by_value = tl.load(by_features + at[:, None] * width + column[None, :], mask=keep, other=0.0)
    if SLOPES:
        first = by_slopes + at[:, None] * (3 * width) + column[None, :]
        by_x = tl.load(first, mask=keep, other=0.0)
        by_y = tl.load(first + width, mask=keep, other=0.0)
        by_z = tl.load(first + 2 * width, mask=keep, other=0.0)
    for corner in tl.static_range(8):
        row = _row(x + corner // 4, y + (corner // 2) % 2, z + corner % 2, resolution + 1, size, stored, offset)
        weight, sx, sy, sz = _weights(corner, u, v, w, mx, my, mz, r)
        share = weight[:, None] * by_value
        if SLOPES:
            share += sx[:, None] * by_x + sy[:, None] * by_y + sz[:, None] * by_z
        tl.atomic_add(by_table + row[:, None] * F + f[None, :], share, mask=keep)
