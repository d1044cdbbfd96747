"""The compiled sample elimination behind `sample_surface`: a heap of crowding weights over a grid of cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel


@helper
def _weight(points: Any, normals: Any, i: int, j: int, largest: float, smallest: float) -> float:
    """How much j crowds i: (1 - max(d, d_min) / 2 r_max)^8; 0 beyond 2 r_max and across a gap between sides."""
    dx, dy, dz = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
    squared = dx * dx + dy * dy + dz * dz
    reach = 2 * largest
    if squared >= reach * reach:
        return 0.0
    if normals[i, 0] * normals[j, 0] + normals[i, 1] * normals[j, 1] + normals[i, 2] * normals[j, 2] < 0:
        return 0.0
    distance = max(np.sqrt(squared), 2 * smallest)
    share = 1 - min(distance, reach) / reach
    share *= share
    share *= share
    return share * share


@helper
def _before(weights: Any, i: int, j: int) -> bool:
    """Whether i leaves before j: the more crowded first, the lower index where equal."""
    return weights[i] > weights[j] or (weights[i] == weights[j] and i < j)


@helper
def _down(heap: Any, place: Any, weights: Any, position: int, size: int) -> None:
    item = heap[position]
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        if child + 1 < size and _before(weights, heap[child + 1], heap[child]):
            child += 1
        if not _before(weights, heap[child], item):
            break
        heap[position] = heap[child]
        place[heap[position]] = position
        position = child
    heap[position] = item
    place[item] = position


@kernel
def eliminate(
    points: Any,
    normals: Any,
    starts: Any,
    neighbours: Any,
    cell_of: Any,
    count: int,
    largest: float,
    smallest: float,
) -> Any:
    """Indices of the `count` points left. Points are sorted by cell; cell c holds starts[c] to starts[c + 1]."""
    total = len(points)
    weights = np.zeros(total)
    for i in range(total):
        for near in range(neighbours.shape[1]):
            cell = neighbours[cell_of[i], near]
            if cell < 0:
                continue
            for j in range(starts[cell], starts[cell + 1]):
                if j != i:
                    weights[i] += _weight(points, normals, i, j, largest, smallest)
    heap = np.arange(total)
    place = np.arange(total)
    for position in range(total // 2 - 1, -1, -1):
        _down(heap, place, weights, position, total)
    size = total
    while size > count:
        gone = heap[0]
        size -= 1
        heap[0] = heap[size]
        place[heap[0]] = 0
        place[gone] = -1
        if size > 1:
            _down(heap, place, weights, 0, size)
        for near in range(neighbours.shape[1]):
            cell = neighbours[cell_of[gone], near]
            if cell < 0:
                continue
            for j in range(starts[cell], starts[cell + 1]):
                if place[j] >= 0 and j != gone:
                    taken = _weight(points, normals, gone, j, largest, smallest)
                    if taken > 0:
                        weights[j] -= taken
                        _down(heap, place, weights, place[j], size)
    return heap[:size].copy()
