"""The Triton kernel of `cuda_mesh.py`. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _owns(edge, dx, dy):
    """Top-left rule, as `cpu_mesh`: a pixel centre on a shared edge has one owner."""
    return (edge > 0) | ((edge == 0) & ((dy < 0) | ((dy == 0) & (dx > 0))))


@triton.jit
def fill_faces(grid, closeness, faces, nearest, count, vertices, width, height):
    """nearest [B, H, W] int64, zero on entry: bits of the greatest closeness, then 2^31 - 1 less the face."""
    face, frame = tl.program_id(0), tl.program_id(1)
    a = frame * vertices + tl.load(faces + face * 3)
    b = frame * vertices + tl.load(faces + face * 3 + 1)
    c = frame * vertices + tl.load(faces + face * 3 + 2)
    ax, ay = tl.load(grid + a * 2).to(tl.int64), tl.load(grid + a * 2 + 1).to(tl.int64)
    bx, by = tl.load(grid + b * 2).to(tl.int64), tl.load(grid + b * 2 + 1).to(tl.int64)
    cx, cy = tl.load(grid + c * 2).to(tl.int64), tl.load(grid + c * 2 + 1).to(tl.int64)
    near_a, near_b, near_c = tl.load(closeness + a), tl.load(closeness + b), tl.load(closeness + c)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    drawn = (area != 0) & (near_a > 0.0) & (near_b > 0.0) & (near_c > 0.0)
    sign = tl.where(area > 0, 1, -1).to(tl.int64)
    left = tl.maximum(tl.minimum(tl.minimum(ax, bx), cx) + 127, 0) >> 8
    top = tl.maximum(tl.minimum(tl.minimum(ay, by), cy) + 127, 0) >> 8
    right = tl.minimum((tl.maximum(tl.maximum(ax, bx), cx) - 128) >> 8, width - 1)
    bottom = tl.minimum((tl.maximum(tl.maximum(ay, by), cy) - 128) >> 8, height - 1)
    across = tl.where(drawn, tl.maximum(right - left + 1, 0), 0)
    columns = (across + 7) // 8
    tiles = columns * ((tl.maximum(bottom - top + 1, 0) + 3) // 4)
    lane = tl.arange(0, 32)
    tile = tl.zeros([], tl.int64)
    while tile < tiles:
        column = left + (tile % columns) * 8 + lane % 8
        row = top + (tile // columns) * 4 + lane // 8
        x, y = column * 256 + 128, row * 256 + 128
        u = sign * ((cx - bx) * (y - by) - (cy - by) * (x - bx))
        v = sign * ((ax - cx) * (y - cy) - (ay - cy) * (x - cx))
        w = sign * ((bx - ax) * (y - ay) - (by - ay) * (x - ax))
        inside = _owns(u, sign * (cx - bx), sign * (cy - by)) & _owns(v, sign * (ax - cx), sign * (ay - cy))
        inside &= _owns(w, sign * (bx - ax), sign * (by - ay)) & (column <= right) & (row <= bottom)
        one, two, three = u.to(tl.float32), v.to(tl.float32), w.to(tl.float32)
        close = (one * near_a + two * near_b + three * near_c) / (one + two + three)
        key = (close.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (0x7FFFFFFF - face).to(tl.int64)
        tl.atomic_max(nearest + (frame.to(tl.int64) * height + row) * width + column, key, mask=inside, sem="relaxed")
        tile += 1
