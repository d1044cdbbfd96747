"""The Triton kernels of `cuda_walk`; rays of a block go on until all are done. CUDA devices only.

The constants are those of `posed_distance`. Sizes of a lattice change from pose to pose: they choose no variant.
"""

from __future__ import annotations

import triton
import triton.language as tl

RAYS_A_BLOCK = 64
MOST_STEPS = tl.constexpr(512)
INNER_SAMPLES = tl.constexpr(8)
CAREFUL = tl.constexpr(0.8)


@triton.jit
def _axis(place, low, cell, nodes):
    """Node below a place along an axis, and how far it is towards the next."""
    scaled = tl.minimum(tl.maximum((place - low) / cell, 0.0), (nodes - 1).to(tl.float32))
    node = tl.minimum(scaled.to(tl.int32), nodes - 2)
    return node, scaled - node.to(tl.float32)


@triton.jit
def _at(values, lx, ly, lz, cell, depth, height, width, x, y, z, live):
    """Trilinear distance at places; beyond the lattice as on its side."""
    i, u = _axis(x, lx, cell, width)
    j, v = _axis(y, ly, cell, height)
    k, w = _axis(z, lz, cell, depth)
    at = values + (k.to(tl.int64) * height + j) * width + i
    up = at + height * width
    a = (1.0 - u) * tl.load(at, mask=live, other=1.0) + u * tl.load(at + 1, mask=live, other=1.0)
    b = (1.0 - u) * tl.load(at + width, mask=live, other=1.0) + u * tl.load(at + width + 1, mask=live, other=1.0)
    c = (1.0 - u) * tl.load(up, mask=live, other=1.0) + u * tl.load(up + 1, mask=live, other=1.0)
    d = (1.0 - u) * tl.load(up + width, mask=live, other=1.0) + u * tl.load(up + width + 1, mask=live, other=1.0)
    return (1.0 - w) * ((1.0 - v) * a + v * b) + w * ((1.0 - v) * c + v * d)


@triton.jit
def _beyond(place, direction, low, cell, nodes):
    """Beyond the lattice along an axis, and going away from it."""
    high = low + cell * (nodes - 1).to(tl.float32)
    return ((place < low) & (direction <= 0.0)) | ((place > high) & (direction >= 0.0))


@triton.jit
def _ray(rays, at, live):
    """Three numbers of a row."""
    return (
        tl.load(rays + at * 3, mask=live, other=0.0),
        tl.load(rays + at * 3 + 1, mask=live, other=0.0),
        tl.load(rays + at * 3 + 2, mask=live, other=0.0),
    )


@triton.jit(do_not_specialize=["depth", "height", "width", "count"])
def walk_blocked(
    origins, directions, values, low, depth, height, width, cell, beta, start, far, span, passed, where, count,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """passed [N] and where [N] m of rays [N, 3]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    ox, oy, oz = _ray(origins, at, live)
    dx, dy, dz = _ray(directions, at, live)
    lx, ly, lz = tl.load(low), tl.load(low + 1), tl.load(low + 2)
    t = tl.zeros((BLOCK,), tl.float32) + start
    before_t = t
    before = tl.zeros((BLOCK,), tl.float32) - 1.0
    hit = tl.zeros((BLOCK,), tl.float32) + far
    found = tl.zeros((BLOCK,), tl.int32)
    going = live.to(tl.int32)
    steps = 0
    while (tl.sum(going) > 0) & (steps < MOST_STEPS):
        steps += 1
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        gone = (
            (t >= far) | _beyond(x, dx, lx, cell, width) | _beyond(y, dy, ly, cell, height)
            | _beyond(z, dz, lz, cell, depth)
        )  # fmt: skip
        going = tl.where(gone, 0, going)
        distance = _at(values, lx, ly, lz, cell, depth, height, width, x, y, z, going > 0)
        enters = (going > 0) & (before > 0.0) & (distance <= 0.0)
        share = before / tl.maximum(before - distance, 1e-9)
        hit = tl.where(enters, before_t + share * (t - before_t), hit)
        found = tl.where(enters, 1, found)
        going = tl.where(enters, 0, going)
        on = going > 0
        before_t = tl.where(on, t, before_t)
        before = tl.where(on, distance, before)
        t = tl.where(on, t + tl.maximum(CAREFUL * tl.abs(distance), 0.5 * cell), t)
    optical = tl.zeros((BLOCK,), tl.float32)
    met = found > 0
    for inner in tl.static_range(INNER_SAMPLES):
        s = hit + span * ((inner + 0.5) / INNER_SAMPLES - 0.25)
        near = _at(values, lx, ly, lz, cell, depth, height, width, ox + s * dx, oy + s * dy, oz + s * dz, met)
        outside = 0.5 * tl.exp(-tl.abs(near) / beta)
        optical += tl.where(near >= 0.0, outside, 1.0 - outside) / beta * (span / INNER_SAMPLES)
    tl.store(passed + at, tl.where(met, tl.exp(-optical), 1.0), mask=live)
    tl.store(where + at, hit, mask=live)


@triton.jit(do_not_specialize=["depth", "height", "width", "count"])
def walk_spans(
    origins, directions, near, far, values, low, depth, height, width, cell, reach, deep, begun, ended, count,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """begun [N] and ended [N] m of rays [N, 3] between near [N] and far [N] m."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    ox, oy, oz = _ray(origins, at, live)
    dx, dy, dz = _ray(directions, at, live)
    lx, ly, lz = tl.load(low), tl.load(low + 1), tl.load(low + 2)
    start = tl.load(near + at, mask=live, other=0.0)
    end = tl.load(far + at, mask=live, other=0.0)
    t = start
    first = tl.zeros((BLOCK,), tl.float32) + float("inf")
    last = tl.zeros((BLOCK,), tl.float32) - float("inf")
    going = (live & (t < end)).to(tl.int32)
    steps = 0
    while (tl.sum(going) > 0) & (steps < MOST_STEPS):
        steps += 1
        on = going > 0
        distance = _at(values, lx, ly, lz, cell, depth, height, width, ox + t * dx, oy + t * dy, oz + t * dz, on)
        close = on & (distance < reach)
        first = tl.where(close, tl.minimum(first, t), first)
        last = tl.where(close, t, last)
        step = tl.where(close, cell, tl.maximum(CAREFUL * (distance - reach), 0.5 * cell))
        going = tl.where(distance < -deep, 0, going)
        t = tl.where(going > 0, t + step, t)
        going = tl.where(t < end, going, 0)
    tl.store(begun + at, tl.maximum(first - cell, start), mask=live)
    tl.store(ended + at, tl.minimum(last + cell, end), mask=live)
