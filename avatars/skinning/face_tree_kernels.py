"""The compiled search of `face_tree`."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel

DEEPEST = 64


@helper
def _held(value: float, other: float) -> float:
    """value / other in 0..1; 0 where nothing can be divided by."""
    if abs(other) < 1e-300:
        return 0.0
    return min(max(value / other, 0.0), 1.0)


@helper
def _nearest(p: Any, a: Any, b: Any, c: Any, out: Any) -> float:
    """Squared distance of p from a triangle; out [3]: barycentrics of its nearest place (Ericson 2005, 5.1.5)."""
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for k in range(3):
        ab, ac = b[k] - a[k], c[k] - a[k]
        d1 += ab * (p[k] - a[k])
        d2 += ac * (p[k] - a[k])
        d3 += ab * (p[k] - b[k])
        d4 += ac * (p[k] - b[k])
        d5 += ab * (p[k] - c[k])
        d6 += ac * (p[k] - c[k])
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    v = w = 0.0
    if d1 <= 0 and d2 <= 0:
        pass
    elif d3 >= 0 and d4 <= d3:
        v = 1.0
    elif d6 >= 0 and d5 <= d6:
        w = 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        v = _held(d1, d1 - d3)
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        w = _held(d2, d2 - d6)
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        w = _held(d4 - d3, (d4 - d3) + (d5 - d6))
        v = 1 - w
    else:
        total = va + vb + vc
        v, w = _held(vb, total), _held(vc, total)
    out[0], out[1], out[2] = 1 - v - w, v, w
    squared = 0.0
    for k in range(3):
        away = out[0] * a[k] + v * b[k] + w * c[k] - p[k]
        squared += away * away
    return squared


@helper
def _to_box(p: Any, low: Any, high: Any) -> float:
    squared = 0.0
    for k in range(3):
        away = max(low[k] - p[k], p[k] - high[k], 0.0)
        squared += away * away
    return squared


@kernel
def nearest(
    worker: int, workers: int, points: Any, corners: Any, lows: Any, highs: Any, leaves: int, each: int, face: Any,
    shares: Any, squared: Any,
) -> None:  # fmt: skip
    """For points [N, 3] the nearest of triangles corners [F, 3, 3] in their tree's order: face [N], barycentrics
    shares [N, 3], squared distance [N]. Tree: nodes 1..2 leaves - 1, children 2 n and 2 n + 1, boxes lows and highs."""
    count, faces = len(points), len(corners)
    stack, found = np.empty(DEEPEST, np.int64), np.empty(3)
    for i in range(count * worker // workers, count * (worker + 1) // workers):
        p = points[i]
        best = np.inf
        top, stack[0] = 1, 1
        while top:
            top -= 1
            node = stack[top]
            if _to_box(p, lows[node], highs[node]) >= best:
                continue
            if node >= leaves:
                first = (node - leaves) * each
                for f in range(first, min(first + each, faces)):
                    away = _nearest(p, corners[f, 0], corners[f, 1], corners[f, 2], found)
                    if away < best:
                        best, face[i] = away, f
                        shares[i, 0], shares[i, 1], shares[i, 2] = found[0], found[1], found[2]
                continue
            one, two = 2 * node, 2 * node + 1
            if _to_box(p, lows[one], highs[one]) < _to_box(p, lows[two], highs[two]):
                one, two = two, one
            stack[top], stack[top + 1] = one, two  # the nearer child is looked at first
            top += 2
        squared[i] = best
