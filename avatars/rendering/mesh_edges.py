"""Outlines of a drawn mesh: where edges between front and back faces cross from pixel centre to pixel centre.

Only edges are walked, each along the rows or columns of pixels it crosses. So outlines made of triangles thinner than a
pixel, which show at no pixel centre, have their place (and their gradient) as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SAME_SURFACE_PX = 16.0
"""What a pixel beside an outline shows belongs to it when it is no farther from it in depth than so many pixels are
wide: surfaces turn away steeply there."""


@dataclass(frozen=True, eq=False)
class MeshEdges:
    """Edges of a mesh, each once. ends: [E, 2] vertices; faces: [E, 2], -1 as the second at a border; third: [E] the
    vertex of the first face that is on neither end."""

    ends: Tensor
    faces: Tensor
    third: Tensor

    @staticmethod
    def of(faces: Tensor) -> MeshEdges:
        """Edges of triangles [F, 3]. Where more than two faces share an edge, the first two count."""
        triangles = faces.cpu().numpy()
        ends = np.concatenate((triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]))
        third = np.concatenate((triangles[:, 2], triangles[:, 0], triangles[:, 1]))
        face = np.tile(np.arange(len(triangles)), 3)
        ends = np.sort(ends, 1)
        key = ends[:, 0].astype(np.int64) * (int(triangles.max(initial=0)) + 1) + ends[:, 1]
        order = np.lexsort((face, key))
        first = np.ones(len(order), bool)
        first[1:] = key[order][1:] != key[order][:-1]
        start = np.flatnonzero(first)
        pairs = np.stack((face[order[start]], np.full(len(start), -1)), 1) if len(start) else np.zeros((0, 2), np.int64)
        following = start + 1
        shared = following < len(order)
        shared[shared] = ~first[following[shared]]
        pairs[shared, 1] = face[order[following[shared]]]
        tables = (ends[order[start]], pairs, third[order[start]])
        return MeshEdges(
            *(torch.from_numpy(np.ascontiguousarray(table, np.int64)).to(faces.device) for table in tables)
        )

    def to(self, device: torch.device | str) -> MeshEdges:
        """The same on another device."""
        return MeshEdges(self.ends.to(device), self.faces.to(device), self.third.to(device))


@dataclass(frozen=True, eq=False)
class Crossings:
    """Outlines between pairs of neighbouring pixel centres. inside, outside: [K] pixels as rows of [B * H * W];
    distance: [K] in 0..1 px, from the inside pixel's centre to the outline, differentiable."""

    inside: Tensor
    outside: Tensor
    distance: Tensor


def blended_across(
    image: Tensor,
    face_id: Tensor,
    depth_m: Tensor,
    places_px: Tensor,
    depths_m: Tensor,
    faces: Tensor,
    edges: MeshEdges,
    pixel_m: Tensor,
) -> Tensor:
    """`image` [B, H, W, C] with the two sides of each outline blended by how much of a pixel's width belongs to each.

    face_id, depth_m: [B, H, W] of the drawing; places_px [B, V, 2] and depths_m [B, V] of vertices; pixel_m: [B] how
    wide a pixel is at 1 m.
    """
    where = torch.nonzero(outlines(places_px.detach(), depths_m.detach(), faces, edges))
    near = SAME_SURFACE_PX * pixel_m
    drawn = (face_id, depth_m, near, places_px, depths_m.detach(), edges)
    found = [_crossings(where, *drawn, columns=columns) for columns in (False, True)]
    inside, outside, distance = (
        torch.cat([getattr(crossing, name) for crossing in found]) for name in ("inside", "outside", "distance")
    )
    flat = image.flatten(0, 2)
    inner, outer = flat.index_select(0, inside), flat.index_select(0, outside)
    share = (distance - 0.5).to(image)
    change = share.abs()[:, None] * torch.where(share[:, None] > 0, inner - outer, outer - inner)
    return flat.index_add(0, torch.where(share > 0, outside, inside), change).view_as(image)


def outlines(places_px: Tensor, depths_m: Tensor, faces: Tensor, edges: MeshEdges) -> Tensor:
    """[B, E] bool: edges between a face that is seen from its front and one seen from its back, and borders."""
    corners = places_px[:, faces.flatten()].view(len(places_px), -1, 3, 2)
    one, two = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    front = one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0] > 0
    alone = edges.faces[:, 1] < 0
    turned = front[:, edges.faces[:, 0]] != front[:, edges.faces[:, 1].clamp_min(0)]
    usable = depths_m > 0
    return (turned | alone) & usable[:, edges.ends[:, 0]] & usable[:, edges.ends[:, 1]] & usable[:, edges.third]


def _crossings(
    where: Tensor,
    face_id: Tensor,
    depth_m: Tensor,
    near: Tensor,
    places_px: Tensor,
    depths_m: Tensor,
    edges: MeshEdges,
    *,
    columns: bool,
) -> Crossings:
    """Where the edges `where` [S, 2] (picture, edge) cross from pixel to pixel along rows, or along columns.

    Steep edges are looked at along rows and flat ones along columns, so that each stretch of outline counts once.
    """
    _, height, width = face_id.shape
    vertices = places_px.shape[1]
    across, along = (1, 0) if columns else (0, 1)  # the coordinate that pairs of pixels differ in, and the other one
    lines, most = (width, height) if columns else (height, width)
    flat_places, flat_depths = places_px.flatten(0, 1), depths_m.flatten()
    with torch.no_grad():
        ends = edges.ends[where[:, 1]] + where[:, :1] * vertices
        place = flat_places[ends]
        extent = (place[:, 1] - place[:, 0]).abs()
        steep = extent[:, along] > extent[:, across] if columns else extent[:, along] >= extent[:, across]
        low, high = place[..., along].amin(1), place[..., along].amax(1)
        first = (low - 0.5).clamp(-1, lines).ceil().long().clamp_min(0)
        last = (high - 0.5).clamp(-1, lines).ceil().long() - 1
        count = torch.where(steep, (last.clamp_max(lines - 1) - first + 1).clamp_min(0), 0)
        row = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        line = first[row] + torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    start, end = (flat_places.index_select(0, ends[row, k]) for k in (0, 1))
    share = (line + 0.5 - start[:, along]) / (end[:, along] - start[:, along])
    at = start[:, across] + share * (end[:, across] - start[:, across]) - 0.5
    with torch.no_grad():
        pair = at.floor()
        third = flat_places[(edges.third[where[:, 1]] + where[:, 0] * vertices)[row]]
        side = (end[:, across] - start[:, across]) * (third[:, along] - start[:, along])
        side = side - (end[:, along] - start[:, along]) * (third[:, across] - start[:, across])
        before = side * (end[:, along] - start[:, along]) > 0  # the surface lies towards smaller coordinates
        within = (pair >= 0) & (pair < most - 1)
        pair = pair.clamp(0, max(most - 2, 0)).long()
        stride, base = (width, line) if columns else (1, line * width)
        base = base + where[row, 0] * (height * width)
        nearer, farther = base + pair * stride, base + (pair + 1) * stride
        inside, outside = torch.where(before, nearer, farther), torch.where(before, farther, nearer)
        ends_m = flat_depths[ends[row]]
        edge_m = 1 / torch.lerp(1 / ends_m[:, 0], 1 / ends_m[:, 1], share)
        seen_m, shown = depth_m.flatten(), face_id.flatten() >= 0
        kept = torch.nonzero(within)[:, 0]
        belongs = (seen_m[inside[kept]] - edge_m[kept]).abs() < near[where[row[kept], 0]] * edge_m[kept]
        open_there = ~shown[outside[kept]] | (seen_m[outside[kept]] > edge_m[kept])
        kept = kept[shown[inside[kept]] & belongs & open_there]
    distance = torch.where(before, at - pair, pair + 1 - at).index_select(0, kept)
    return _outermost(inside[kept], outside[kept], distance)


def _outermost(inside: Tensor, outside: Tensor, distance: Tensor) -> Crossings:
    """One crossing for each pair of pixels: the one farthest from the surface, where ragged outlines cross it often."""
    key, number = torch.unique(inside * 2 + (outside > inside), return_inverse=True)
    farthest = distance.detach().new_full((len(key),), -1.0)
    farthest = farthest.scatter_reduce(0, number, distance.detach(), "amax")
    chosen = torch.nonzero(distance.detach() == farthest[number])[:, 0]
    once = chosen.new_full((len(key),), 0).scatter(0, number[chosen], chosen)
    return Crossings(inside[once], outside[once], distance.index_select(0, once))
