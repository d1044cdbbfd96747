"""Plain mesh arithmetic on quads [F, 4] (a triangle repeats its last index): normals, sampling, frames, clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def triangles(faces: NDArray[np.int32]) -> Index:
    """[T, 3] triangles of quads, without the degenerate halves of repeated indices."""
    both = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]).astype(np.int64)
    return both[(both[:, 0] != both[:, 1]) & (both[:, 1] != both[:, 2]) & (both[:, 2] != both[:, 0])]


def unit(vectors: Array) -> Array:
    """Vectors [..., 3] scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def vertex_normals(vertices: Array, faces: NDArray[np.int32]) -> Array:
    """[V, 3] area-weighted unit normals; zero for vertices that no face uses."""
    tri = triangles(faces)
    corner = vertices[tri]
    face_normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(normals, tri[:, k], face_normal)
    return unit(normals)


def triangle_frames(vertices: Array, tri: Index) -> Array:
    """[N, 3, 3] orthonormal frames (columns: along the first edge, across, normal) of triangles [N, 3]."""
    a, b, c = vertices[tri[:, 0]], vertices[tri[:, 1]], vertices[tri[:, 2]]
    along, normal = unit(b - a), unit(np.cross(b - a, c - a))
    return np.stack([along, np.cross(normal, along), normal], axis=2)


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on a mesh. tri: [N, 3] vertex indices; barycentrics: [N, 3]."""

    tri: Index
    barycentrics: Array

    def at(self, values: Array) -> Array:
        """Per-vertex values [V, C] interpolated at the points: [N, C]."""
        return np.einsum("nk,nkc->nc", self.barycentrics, values[self.tri])

    def chosen(self, mask: NDArray[np.bool_]) -> SurfacePoints:
        """The points where mask [N] is true."""
        return SurfacePoints(self.tri[mask], self.barycentrics[mask])

    def __len__(self) -> int:
        return len(self.tri)


def scatter(vertices: Array, tri: Index, density: Array, count: int, rng: np.random.Generator) -> SurfacePoints:
    """`count` random points on triangles [T, 3], with probability per area given by vertex `density` [V]."""
    corner = vertices[tri]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    weight = area * density[tri].max(axis=1)
    if not weight.sum() > 0:
        return SurfacePoints(tri[:0], np.zeros((0, 3)))
    chosen = tri[rng.choice(len(tri), 2 * count, p=weight / weight.sum())]
    u, w = rng.random((2, len(chosen)))
    root = np.sqrt(u)
    points = SurfacePoints(chosen, np.stack([1 - root, root * (1 - w), root * w], axis=1))
    accept = rng.random(len(points)) * density[chosen].max(axis=1) <= points.at(density[:, None])[:, 0]
    return points.chosen(np.flatnonzero(accept)[:count])


@dataclass(frozen=True, eq=False)
class ClippedMesh:
    """Polygons over new vertices, each a mix of two old ones: (1 - mix) * pair[:, 0] + mix * pair[:, 1]."""

    polygons: tuple[tuple[int, ...], ...]
    pair: Index
    mix: Array

    def at(self, values: Array) -> Array:
        """Old vertex values [V, C] at the new vertices [N, C]."""
        mix = self.mix[:, None]
        return (1 - mix) * values[self.pair[:, 0]] + mix * values[self.pair[:, 1]]


def clip_to_level(faces: NDArray[np.int32], level: Array) -> ClippedMesh:
    """The part of a mesh where the vertex values `level` [V] are >= 0, cut exactly along the zero line.

    Every polygon is clipped by linear interpolation along its edges (Sutherland and Hodgman 1974); neighbours share the
    new edge vertices, so the border is one clean line.
    """
    index: dict[tuple[int, int], int] = {}
    pairs: list[tuple[int, int]] = []
    mixes: list[float] = []

    def vertex(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in index:
            index[key] = len(pairs)
            pairs.append(key)
            mixes.append(0.0 if a == b else float(level[key[0]] / (level[key[0]] - level[key[1]])))
        return index[key]

    polygons = []
    for face in faces.tolist():
        corners = list(dict.fromkeys(face))
        polygon: list[int] = []
        for a, b in zip(corners, corners[1:] + corners[:1]):
            if level[a] >= 0:
                polygon.append(vertex(a, a))
            if (level[a] >= 0) != (level[b] >= 0):
                polygon.append(vertex(a, b))
        polygon = list(dict.fromkeys(polygon))
        if len(polygon) >= 3:
            polygons.append(tuple(polygon))
    return ClippedMesh(tuple(polygons), np.array(pairs, np.int64).reshape(-1, 2), np.array(mixes))


def edges_of(polygons: tuple[tuple[int, ...], ...]) -> tuple[Index, NDArray[np.bool_]]:
    """Undirected edges [E, 2] of polygons, and which of them are borders (used once)."""
    directed = np.array([sorted(pair) for p in polygons for pair in zip(p, p[1:] + p[:1])], np.int64)
    edges, count = np.unique(directed, axis=0, return_counts=True)
    return edges, count == 1


def relax(points: Array, edges: Index, fixed: NDArray[np.bool_], rounds: int) -> Array:
    """Laplacian smoothing of points [N, 3] along edges [E, 2]; `fixed` points stay, and those without edges."""
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    moved, first, count = np.unique(both[:, 0], return_index=True, return_counts=True)
    free = ~fixed[moved]
    points = points.copy()
    for _ in range(rounds if len(both) else 0):
        middle = np.add.reduceat(points[both[:, 1]], first, axis=0) / count[:, None]
        points[moved[free]] = 0.5 * points[moved[free]] + 0.5 * middle[free]
    return points


def nearest_index(points: Array, targets: Array, *, chunk: int = 2048) -> Index:
    """[N] index of the target [M, 3] nearest to each point [N, 3] (exhaustive, in chunks)."""
    targets32 = targets.astype(np.float32)
    squared = (targets32**2).sum(1)
    parts = [
        np.argmin(squared - 2 * points[k : k + chunk].astype(np.float32) @ targets32.T, axis=1)
        for k in range(0, len(points), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def refined(polygons: Sequence[Sequence[int]], values: Array, rounds: int) -> tuple[list[tuple[int, ...]], Array]:
    """Each polygon of n corners becomes n quads around its centre, `rounds` times; values [N, C] are interpolated.

    New corners lie in the middles of edges and polygons, so the surface stays where it is (a plain linear split).
    """
    result = [tuple(polygon) for polygon in polygons]
    for _ in range(rounds):
        middle: dict[tuple[int, int], int] = {}
        for polygon in result:
            for a, b in zip(polygon, polygon[1:] + polygon[:1]):
                middle.setdefault((min(a, b), max(a, b)), len(values) + len(middle))
        centres = np.array([values[list(polygon)].mean(0) for polygon in result])
        ends = np.array(list(middle), np.int64)
        first_centre = len(values) + len(middle)
        values = np.concatenate((values, (values[ends[:, 0]] + values[ends[:, 1]]) / 2, centres))
        split = []
        for k, polygon in enumerate(result):
            edges = [middle[min(a, b), max(a, b)] for a, b in zip(polygon, polygon[1:] + polygon[:1])]
            split += [(corner, edges[i], first_centre + k, edges[i - 1]) for i, corner in enumerate(polygon)]
        result = split
    return result, values


def triangles_of_polygons(polygons: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Polygons as fans, in the quad form [T, 4] of `triangles` (the last index repeated)."""
    fans = [(p[0], p[k], p[k + 1], p[k + 1]) for p in polygons for k in range(1, len(p) - 1)]
    return np.array(fans, np.int32).reshape(-1, 4)
