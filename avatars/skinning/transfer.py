"""Skinning weights of a clothed mesh from the body beneath it: copied where cloth lies on skin, else solved for.

Source: "Robust Skin Weights Transfer via Weight Inpainting" (Abdrashitov et al., SIGGRAPH Asia 2023): where the nearest
skin is close and faces the same way its weights are copied; the rest minimises tr(Wᵀ L M⁻¹ L W).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from avatars.skinning.closest_points import closest_points
from shared.errors import EffigyError

Floats = NDArray[np.float64]

NEAR_SHARE = 0.05
"""Of the body's height: skin farther away says nothing about cloth."""
ANGLE_DEG = 35.0


@dataclass(frozen=True, eq=False)
class TransferredWeights:
    """weights [T, J] float32, rows >= 0 that sum to 1; copied [T]: which came from skin nearby, the rest was solved."""

    weights: NDArray[np.float32]
    copied: NDArray[np.bool_]


def transfer_weights(
    vertices: NDArray[np.floating],
    triangles: NDArray[np.integer],
    body_vertices: NDArray[np.floating],
    body_triangles: NDArray[np.integer],
    body_weights: NDArray[np.floating],
    *,
    near_m: float | None = None,
    angle_deg: float = ANGLE_DEG,
    either_side: bool = False,
) -> TransferredWeights:
    """Weights for a mesh [T, 3], [F, 3] from a body [V, 3], [G, 3] with weights [V, J], both in one pose and in m.

    near_m: how far skin may be, None for 5 % of the body's height. either_side: let cloth that faces the other way
    (its inside) copy too. Pieces of the mesh that lie near no skin take the nearest weights. Raises EffigyError.
    """
    if body_weights.shape[0] != len(body_vertices):
        raise EffigyError("body weights and vertices differ", found=f"{len(body_weights)} and {len(body_vertices)}")
    height = float(np.ptp(np.asarray(body_vertices)[:, 2]))
    found = closest_points(vertices, body_vertices, body_triangles)
    corners = np.asarray(body_triangles)[found.face]
    copied_weights = np.einsum("tk,tkj->tj", found.barycentrics, np.asarray(body_weights, np.float64)[corners])
    own, skin = vertex_normals(vertices, triangles), vertex_normals(body_vertices, body_triangles)
    beneath = np.einsum("tk,tkc->tc", found.barycentrics, skin[corners])
    cosine = (own * beneath).sum(1) / np.maximum(np.linalg.norm(beneath, axis=1), 1e-12)
    facing = np.abs(cosine) if either_side else cosine
    copied = (found.distance_m < (NEAR_SHARE * height if near_m is None else near_m)) & (
        facing > np.cos(np.radians(angle_deg))
    )
    copied = _with_lonely_pieces(copied, np.asarray(triangles), len(vertices))
    weights = inpainted(vertices, triangles, copied_weights, copied)
    return TransferredWeights(weights.astype(np.float32), copied)


def inpainted(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer], weights: Floats, known: NDArray[np.bool_]
) -> Floats:
    """[T, J]: rows where `known` as given, the others as smooth as can be over the mesh; >= 0, rows sum to 1.

    One sparse factorisation serves all joints. Every connected piece must have a known row.
    """
    result = np.array(weights, np.float64)
    unknown = np.flatnonzero(~known)
    if len(unknown):
        L, mass = laplacian(vertices, triangles)
        energy = (L @ sparse.diags(1.0 / mass) @ L).tocsr()
        given = np.flatnonzero(known)
        rows = energy[unknown]
        result[unknown] = splu(rows[:, unknown].tocsc()).solve(-(rows[:, given] @ result[given]))
    result = np.maximum(result, 0.0)
    return result / np.maximum(result.sum(1, keepdims=True), 1e-12)


def laplacian(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> tuple[sparse.csr_matrix, Floats]:
    """Cotangent matrix L [T, T] (rows sum to 0, diagonal > 0) and lumped areas [T] m² of a mesh.

    Slivers count as if their corners were not sharper than a thousandth of a radian.
    """
    places, index = np.asarray(vertices, np.float64), np.asarray(triangles, np.int64)
    corners, count = places[index], len(vertices)
    mass = np.zeros(count)
    entries: list[Floats] = []
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    double_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    for k in range(3):
        i, j = index[:, (k + 1) % 3], index[:, (k + 2) % 3]
        first, second = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cotangent = (first * second).sum(1) / np.maximum(double_area, np.maximum(1e-3 * lengths, 1e-18))
        np.add.at(mass, index[:, k], double_area / 6)
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        entries += [-cotangent / 2, -cotangent / 2, cotangent / 2, cotangent / 2]
    matrix = sparse.csr_matrix(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), (count, count)
    )
    least = 1e-6 * float(mass[mass > 0].mean()) if (mass > 0).any() else 1.0
    return matrix, np.maximum(mass, least)


def vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> Floats:
    """[T, 3] area-weighted unit normals; zero for a vertex without faces."""
    places, index = np.asarray(vertices, np.float64), np.asarray(triangles, np.int64)
    across = np.cross(places[index[:, 1]] - places[index[:, 0]], places[index[:, 2]] - places[index[:, 0]])
    normals = np.zeros_like(places)
    for k in range(3):
        np.add.at(normals, index[:, k], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _with_lonely_pieces(copied: NDArray[np.bool_], triangles: NDArray[np.integer], count: int) -> NDArray[np.bool_]:
    """Also every vertex of a connected piece none of which was copied: there is nothing else to go by."""
    edges = np.concatenate((triangles[:, :2], triangles[:, 1:]))
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    pieces, label = connected_components(graph, directed=False)
    some = np.zeros(pieces, bool)
    np.logical_or.at(some, label, copied)
    return copied | ~some[label]
