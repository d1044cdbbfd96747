"""The surface of a canonical field as a triangle mesh (marching cubes), the largest piece of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.relit_field.body import CanonicalBody
from avatars.relit_field.fields import Fields
from shared.errors import EffigyError

POINTS_AT_ONCE = 1 << 18


def field_mesh(
    fields: Fields, body: CanonicalBody, resolution: int, levels: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices [V, 3] m, canonical, and triangles [F, 3], outwards counter-clockwise.

    resolution: cells along the box's longest side. Raises EffigyError where there is no surface yet.
    """
    from skimage.measure import marching_cubes

    low, high = body.volume.low.cpu().numpy(), body.volume.high.cpu().numpy()
    cell = float((high - low).max()) / resolution
    shape = np.maximum(np.ceil((high - low) / cell).astype(int) + 1, 2)
    values = np.empty(shape, np.float32)
    axes = [torch.from_numpy((low[axis] + cell * np.arange(shape[axis])).astype(np.float32)) for axis in range(3)]
    slab = max(1, POINTS_AT_ONCE // int(shape[1] * shape[2]))
    with torch.no_grad():
        for begun in range(0, int(shape[0]), slab):
            places = torch.cartesian_prod(axes[0][begun : begun + slab], axes[1], axes[2]).to(fields.centre.device)
            distance, _ = fields.distance(places, levels)
            values[begun : begun + slab] = distance.view(-1, shape[1], shape[2]).cpu().numpy()
    # What touches the box's sides is closed there.
    for axis in range(3):
        for end in (0, -1):
            side = np.moveaxis(values, axis, 0)[end]
            np.maximum(side, 0.25 * cell, out=side)
    if not values.min() < 0 < values.max():
        raise EffigyError("the field has no surface", found="distances of one sign", do="Train it longer")
    vertices, faces, _, _ = marching_cubes(values, 0.0, spacing=(cell,) * 3, gradient_direction="descent")
    return largest_piece((vertices + low).astype(np.float32), faces.astype(np.int64))


def largest_piece(
    vertices: NDArray[np.float32], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The connected piece with the most vertices, renumbered."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]]))
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices), len(vertices)))
    _, piece = connected_components(graph, directed=False)
    kept = piece == np.bincount(piece).argmax()
    number = np.cumsum(kept) - 1
    return vertices[kept], number[faces[kept[faces].all(1)]]
