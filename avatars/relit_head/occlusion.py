"""Baking what the surface of a head sees of the sky: in poses of its recording, past everything solid of the template.

What follows from it: mouths, nostrils and the corners of eyes are dark, chins shade necks, and all of that moves with
lips, lids and the turn of the head.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.binding import UvBinding
from avatars.gaussians.frames import triangle_frames
from avatars.lighting.harmonics import turned
from avatars.lighting.surface_probes import SurfaceProbes, cast, fitted
from avatars.relit_body.initial import coarse
from avatars.relit_head.model import RelitHead
from avatars.relit_head.priors import is_hair
from avatars.relit_head.settings import HeadOcclusion
from avatars.templates.template import triangles_of
from shared.template import TemplateArrays

NOT_SOLID = ("lashes", "haircap", "tights")
"""Face groups that hide nothing: helpers for hair and clothes, which lie over the skin or are full of gaps."""
NEAR_M, DISTANT_FACES = 0.05, 1500
"""Beyond so many metres rays meet a coarser form of the surface, of about so many triangles: a quarter of the work."""


def solid_triangles(arrays: TemplateArrays) -> NDArray[np.int64]:
    """Triangles [F, 3] of the template that light cannot pass."""
    groups = [name for name in arrays.faces if name not in NOT_SOLID] or list(arrays.faces)
    return np.concatenate([triangles_of(arrays.faces[n], arrays.uv_faces[n])[0] for n in groups]).astype(np.int64)


def telling_poses(theta: Tensor, most: int) -> list[int]:
    """Up to `most` rows of θ [T, D] that differ most: the one nearest the mean, then always the farthest from all."""
    centre = theta.mean(0)
    chosen = [int((theta - centre).norm(dim=1).argmin())]
    distance = (theta - theta[chosen[0]]).norm(dim=1)
    while len(chosen) < min(most, len(theta)) and float(distance.max()) > 1e-6:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (theta - theta[chosen[-1]]).norm(dim=1))
    return chosen


def vertex_normals(vertices: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """[V, 3] unit, weighted by area; 0 where no triangle is."""
    corners = vertices[triangles]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], across)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)


def seen_from_surface(
    binding: UvBinding, vertices: Tensor, solid: NDArray[np.int64], whole: NDArray[np.int64], offset_m: float
) -> Tensor:
    """Harmonics [N, 25] of bound Gaussians in their triangles' axes, on posed vertices [V, 3] m.

    solid, whole: triangles that hide light, and all of the surface (for its normals). Rays start at vertices, so that
    many Gaussians cost no more than few; a Gaussian mixes its triangle's corners.
    """
    places = vertices.detach().cpu().double().numpy()
    used, inverse = torch.unique(binding.triangles.cpu(), return_inverse=True)
    outwards = vertex_normals(places, whole)[used.numpy()]
    shown, compact = np.unique(solid, return_inverse=True)
    rough_places, rough = coarse(places[shown], compact.reshape(solid.shape), DISTANT_FACES)
    starts = places[used.numpy()] + offset_m * outwards
    at_vertices = cast(starts, places[solid], distant=rough_places[rough], near_m=NEAR_M)
    face = binding.face.cpu()
    mixed = (at_vertices[inverse[face]] * binding.barycentrics.cpu()[..., None]).sum(1)
    corners = vertices.detach().cpu()[binding.triangles.cpu()]
    frames = triangle_frames(corners, binding.uv_corners.cpu(), "orthonormal")
    return turned(mixed, frames[face])


def baked(model: RelitHead, theta: Tensor, vertices: Tensor, settings: HeadOcclusion) -> SurfaceProbes:
    """Probes of a head's Gaussians. theta [T, D] and vertices [T, V, 3] m: of all poses it was recorded in."""
    arrays = model.head.head.template.arrays
    solid = solid_triangles(arrays)
    whole = np.concatenate([triangles_of(arrays.faces[n], arrays.uv_faces[n])[0] for n in arrays.faces])
    driven = model.driven(theta).cpu()
    rows = telling_poses(driven, settings.poses)
    found = [
        seen_from_surface(model.head.binding, vertices[row], solid, whole.astype(np.int64), settings.offset_m)
        for row in rows
    ]
    hidden = torch.where(is_hair(model.head.binding).cpu(), settings.hair, 1.0)[:, None]
    return fitted(driven[rows], torch.stack(found) * hidden, settings.directions).to(vertices.device)
