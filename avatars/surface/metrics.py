"""How near two surfaces are: chamfer distance, points to surface, normals; metres and degrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatars.skinning.closest_points import closest_points
from avatars.surface.unwrap import smooth_normals, unit
from shared.errors import BadConfig

Floats = NDArray[np.float64]
NEAR_M = (0.002, 0.005, 0.01)


@dataclass(frozen=True)
class SurfaceMetrics:
    """Of a surface against the truth. Distances go from points spread evenly over one to the nearest on the other.

    accuracy_m: mean from the surface to the truth; completeness_m: from the truth to the surface; chamfer_m: the mean
    of both. farthest_m: the largest of all. normal_error_deg: mean angle between the triangles at such pairs, both
    ways; shaded_error_deg: of normals mixed from those at the corners, as renderers shade both;
    normal_consistency: mean of its |cosine|. within: share of points of both nearer than 2, 5 and 10 mm.
    arah_chamfer_cm2, arah_normals: as in ARAH's protocol on vertices: mean squared distance to the nearest vertex, both
    ways, halved, in cm^2; and 1 - mean |n - n'| over the truth's vertices.
    """

    chamfer_m: float
    accuracy_m: float
    completeness_m: float
    farthest_m: float
    normal_error_deg: float
    shaded_error_deg: float
    normal_consistency: float
    within: tuple[float, ...]
    arah_chamfer_cm2: float
    arah_normals: float
    samples: int

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"within_m": list(NEAR_M)}


Mesh = tuple[NDArray[np.floating], NDArray[np.integer]]


def compare_surfaces(found: Mesh, truth: Mesh, samples: int = 100_000, seed: int = 0) -> SurfaceMetrics:
    """Measure a mesh (vertices [V, 3] m, triangles [F, 3]) against the true one. Raises BadConfig for empty meshes."""
    for name, (vertices, faces) in (("surface", found), ("truth", truth)):
        if not len(faces) or not np.isfinite(vertices).all():
            raise BadConfig(f"the {name} to be measured is no mesh", found=f"{len(faces)} faces", expected="triangles")
    if samples < 1:
        raise BadConfig("measuring needs samples", found=str(samples), expected="at least 1")
    rng = np.random.default_rng(seed)
    there, there_cosines, there_shaded = _one_way(found, truth, samples, rng)
    back, back_cosines, back_shaded = _one_way(truth, found, samples, rng)
    both, cosines = np.concatenate((there, back)), np.concatenate((there_cosines, back_cosines))
    chamfer, normals = _as_arah(found, truth)
    return SurfaceMetrics(
        chamfer_m=float((there.mean() + back.mean()) / 2),
        accuracy_m=float(there.mean()),
        completeness_m=float(back.mean()),
        farthest_m=float(both.max()),
        normal_error_deg=_mean_angle_deg(cosines),
        shaded_error_deg=_mean_angle_deg(np.concatenate((there_shaded, back_shaded))),
        normal_consistency=float(np.abs(cosines).mean()),
        within=tuple(float((both < near).mean()) for near in NEAR_M),
        arah_chamfer_cm2=chamfer,
        arah_normals=normals,
        samples=samples,
    )


def distances_to(points: NDArray[np.floating], truth: Mesh) -> Floats:
    """Distances [P] m from points [P, 3] to the nearest place on a mesh."""
    return closest_points(points, *truth).distance_m


def spread(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Points [count, 3] m spread evenly over a mesh: the face each lies on, and its barycentrics there."""
    corners = np.asarray(mesh[0], np.float64)[np.asarray(mesh[1])]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    shares = np.stack((1 - u, u * (1 - v), u * v), 1)
    return (corners[face] * shares[..., None]).sum(1), face, shares


def _one_way(a: Mesh, b: Mesh, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Distances [N] m from points of one mesh to the other, cosines between their triangles and as they are shaded."""
    points, face, shares = spread(a, samples, rng)
    near = closest_points(points, *b)
    flat = _flat_normals(a, face) * _flat_normals(b, near.face)
    shaded = _shaded_normals(a, face, shares) * _shaded_normals(b, near.face, near.barycentrics)
    return near.distance_m, flat.sum(1), shaded.sum(1)


def _flat_normals(mesh: Mesh, face: NDArray[np.integer]) -> Floats:
    corners = np.asarray(mesh[0], np.float64)[np.asarray(mesh[1])[face]]
    return unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))


def _shaded_normals(mesh: Mesh, face: NDArray[np.integer], shares: NDArray[np.floating]) -> Floats:
    return unit((smooth_normals(*mesh)[np.asarray(mesh[1])[face]] * shares[..., None]).sum(1))


def _mean_angle_deg(cosines: Floats) -> float:
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())


def _as_arah(found: Mesh, truth: Mesh) -> tuple[float, float]:
    ours, theirs = (np.asarray(mesh[0], np.float64)[np.unique(mesh[1])] for mesh in (found, truth))
    there = cKDTree(theirs).query(ours)[0]
    back, near = cKDTree(ours).query(theirs)
    n_found, n_true = (smooth_normals(*mesh)[np.unique(mesh[1])] for mesh in (found, truth))
    apart = np.linalg.norm(n_found[near] - n_true, axis=1)
    return float(((there**2).mean() + (back**2).mean()) / 2 * 1e4), float(1 - apart.mean())
