"""Mesh drawing plainly: every face at every pixel, every outline at every pair of pixels. Slow; for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.rendering.mesh_edges import SAME_SURFACE_PX, MeshEdges, outlines

SUBPIXELS = 256


def face_ids(places_px: Tensor, depths_m: Tensor, faces: Tensor, width_px: int, height_px: int) -> Tensor:
    """[B, H, W] int64, as `mesh_drawing.face_ids`, of the same snapped places."""
    x = torch.arange(width_px, dtype=torch.float64) * SUBPIXELS + SUBPIXELS // 2
    y = (torch.arange(height_px, dtype=torch.float64) * SUBPIXELS + SUBPIXELS // 2)[:, None]
    found = torch.full((len(places_px), height_px, width_px), -1)
    for frame, (places, depths) in enumerate(zip(places_px.double().cpu(), depths_m.double().cpu(), strict=True)):
        nearest = torch.zeros(height_px, width_px, dtype=torch.float64)
        for number, face in enumerate(faces.tolist()):
            if not bool((depths[face] > 0).all()):
                continue
            corners = (places[face] * SUBPIXELS).round()
            one, two = corners[1] - corners[0], corners[2] - corners[0]
            sign = (one[0] * two[1] - one[1] * two[0]).sign()
            if sign == 0:
                continue
            inside = torch.ones(height_px, width_px, dtype=torch.bool)
            shares = []
            for corner in range(3):
                begin, end = corners[(corner + 1) % 3], corners[(corner + 2) % 3]
                dx, dy = sign * (end - begin)
                edge = dx * (y - begin[1]) - dy * (x - begin[0])
                inside &= (edge > 0) | ((edge == 0) & bool(dy < 0 or (dy == 0 and dx > 0)))
                shares.append(edge)
            weights = torch.stack(shares, -1)
            closeness = (weights / depths[face]).sum(-1) / weights.sum(-1)
            nearer = inside & (closeness > nearest)
            nearest[nearer] = closeness[nearer]
            found[frame][nearer] = number
    return found.to(faces.device)


def antialiased(
    image: Tensor, face_id: Tensor, depth_m: Tensor, places_px: Tensor, depths_m: Tensor, edges: MeshEdges,
    faces: Tensor, pixel_m: Tensor,
) -> Tensor:  # fmt: skip
    """[B, H, W, C] as `mesh_edges.blended_across`, by asking every outline at every pair of neighbouring pixels."""
    frames, height, width = face_id.shape
    walls = outlines(places_px.detach(), depths_m.detach(), faces, edges)
    changed = image.clone()
    for frame in range(frames):
        for axis, dy, dx in ((0, 0, 1), (1, 1, 0)):
            for row in range(height - dy):
                for column in range(width - dx):
                    pair = ((row, column), (row + dy, column + dx))
                    for inside, outside in (pair, pair[::-1]):
                        best = None
                        for edge in torch.nonzero(walls[frame])[:, 0].tolist():
                            crossing = _crossing(
                                frame,
                                edge,
                                axis,
                                inside,
                                outside,
                                face_id,
                                depth_m,
                                places_px,
                                depths_m,
                                edges,
                                pixel_m,
                            )
                            if crossing is not None and (best is None or bool(crossing > best)):
                                best = crossing
                        if best is None:
                            continue
                        inner, outer = image[frame][inside], image[frame][outside]
                        mask = torch.zeros(height, width, 1, dtype=image.dtype)
                        mask[outside if best > 0.5 else inside] = 1
                        change = (inner - outer) if best > 0.5 else (outer - inner)
                        change = mask * change * (best - 0.5).abs()
                        changed = changed + torch.zeros_like(image).index_add(0, torch.tensor([frame]), change[None])
    return changed


def _crossing(
    frame: int, edge: int, axis: int, inside: tuple[int, int], outside: tuple[int, int], face_id: Tensor,
    depth_m: Tensor, places_px: Tensor, depths_m: Tensor, edges: MeshEdges, pixel_m: Tensor,
) -> Tensor | None:  # fmt: skip
    """How far from the inside pixel's centre towards the outside one's the edge crosses, None where it does not."""
    begin, end = (places_px[frame, vertex] for vertex in edges.ends[edge].tolist())
    extent = (end - begin).detach().abs()
    along = 1 - axis
    if (extent[along] < extent[axis]) or (axis == 1 and extent[along] == extent[axis]):
        return None
    line = inside[axis] + 0.5
    low, high = sorted(float(tip.detach()[along]) for tip in (begin, end))
    if not low <= line < high:
        return None
    share = (line - begin[along]) / (end[along] - begin[along])
    at = begin[axis] + share * (end[axis] - begin[axis])
    near, far = inside[1 - axis] + 0.5, outside[1 - axis] + 0.5
    if not min(near, far) <= float(at.detach()) < max(near, far):
        return None
    third = places_px[frame, int(edges.third[edge])]
    lean = begin[axis] + (third[along] - begin[along]) / (end[along] - begin[along]) * (end[axis] - begin[axis])
    if bool(third[axis] < lean) != (near < far):
        return None
    first_m, last_m = (float(depths_m[frame, vertex]) for vertex in edges.ends[edge].tolist())
    edge_m = 1 / (1 / first_m + float(share.detach()) * (1 / last_m - 1 / first_m))
    if (
        face_id[frame][inside] < 0
        or abs(float(depth_m[frame][inside].detach()) - edge_m) >= SAME_SURFACE_PX * float(pixel_m[frame]) * edge_m
    ):
        return None
    if face_id[frame][outside] >= 0 and float(depth_m[frame][outside]) <= edge_m:
        return None
    return (at - near).abs()
