"""The compiled triangle filler behind `rasterise_mesh`."""

from __future__ import annotations

from typing import Any

from avatars.rendering.jit import helper, kernel

SUBPIXELS = 256  # vertices snap to this grid, so that edge tests are exact in integers


@helper
def _covers(edge: Any, dx: Any, dy: Any) -> Any:
    """Top-left rule for a triangle whose inside is where edges are positive: a pixel on a shared edge has one owner."""
    return edge > 0 or (edge == 0 and (dy < 0 or (dy == 0 and dx > 0)))


@kernel
def fill_faces(
    worker: int, workers: int, grid: Any, inverse_depth: Any, faces: Any, face_id: Any, barycentrics: Any, nearest: Any
) -> None:
    """Each worker fills its own band of rows, faces in order; equal depths keep the first face."""
    height, width = face_id.shape
    first_row, last_row = worker * height // workers, (worker + 1) * height // workers
    half = SUBPIXELS // 2
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, bx, by, cx, cy = grid[a, 0], grid[a, 1], grid[b, 0], grid[b, 1], grid[c, 0], grid[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or not inverse_depth[a] > 0 or not inverse_depth[b] > 0 or not inverse_depth[c] > 0:
            continue
        sign = 1 if area > 0 else -1  # both windings are drawn
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        left = max(0, (low_x - half + SUBPIXELS - 1) // SUBPIXELS)
        right = min(width - 1, (high_x - half) // SUBPIXELS)
        top = max(first_row, (low_y - half + SUBPIXELS - 1) // SUBPIXELS)
        bottom = min(last_row - 1, (high_y - half) // SUBPIXELS)
        for row in range(top, bottom + 1):
            y = row * SUBPIXELS + half
            for column in range(left, right + 1):
                x = column * SUBPIXELS + half
                u = sign * ((cx - bx) * (y - by) - (cy - by) * (x - bx))
                v = sign * ((ax - cx) * (y - cy) - (ay - cy) * (x - cx))
                w = sign * ((bx - ax) * (y - ay) - (by - ay) * (x - ax))
                if not (
                    _covers(u, sign * (cx - bx), sign * (cy - by))
                    and _covers(v, sign * (ax - cx), sign * (ay - cy))
                    and _covers(w, sign * (bx - ax), sign * (by - ay))
                ):
                    continue
                # Perspective: attribute / depth is linear on the image, so weigh by inverse depth.
                wu, wv, ww = u * inverse_depth[a], v * inverse_depth[b], w * inverse_depth[c]
                total = wu + wv + ww
                closeness = total / (u + v + w)
                if closeness > nearest[row, column]:
                    nearest[row, column] = closeness
                    face_id[row, column] = face
                    barycentrics[row, column, 0] = wu / total
                    barycentrics[row, column, 1] = wv / total
                    barycentrics[row, column, 2] = ww / total
