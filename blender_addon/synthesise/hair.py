"""Strand shapes: short hair on the scalp, eyebrows and lashes. Pure numpy; every strand starts on a skin triangle."""

from __future__ import annotations

import numpy as np

from .anatomy import HeadFrame, brow_coordinates, brow_density, hair_density, hairline_margin
from .noise import smoothstep, value_noise
from .surface import Array, Index, SurfacePoints, nearest_index, scatter, unit

_POINTS = 8


def scalp_hair(
    vertices: Array,
    normals: Array,
    tri: Index,
    frame: HeadFrame,
    count: int,
    rng: np.random.Generator,
    *,
    length_scale: float = 1.0,
) -> tuple[SurfacePoints, Array]:
    """A short cut: cropped sides, longer on top and swept forward from the crown. Roots and points [N, K, 3] m."""
    coordinates = frame.coordinates(vertices)
    roots = scatter(vertices, tri, hair_density(coordinates), count, rng)
    root, normal = roots.at(vertices), unit(roots.at(normals))
    place = frame.coordinates(root)
    top = smoothstep(0.35, 1.15, place[:, 2]) * smoothstep(-2.9, -2.2, place[:, 1])
    edge = smoothstep(0.0, 0.40, hairline_margin(place))
    length = (0.010 + 0.032 * top) * (0.55 + 0.45 * edge) * rng.uniform(0.7, 1.15, len(root)) * length_scale
    lift = (0.22 + 0.30 * top) * rng.uniform(0.7, 1.3, len(root))

    used = np.unique(tri)
    skull, skull_normal = vertices[used], normals[used]
    points = np.empty((len(root), _POINTS, 3))
    points[:, 0] = root
    direction = unit(_combed(place, normal, frame) + lift[:, None] * normal)
    for k in range(1, _POINTS):
        point = points[:, k - 1] + direction * (length / (_POINTS - 1))[:, None]
        near = nearest_index(point, skull)
        height = ((point - skull[near]) * skull_normal[near]).sum(1)
        floor = 0.0012 + 0.0045 * top * min(k / 3, 1.0)
        points[:, k] = point + np.maximum(floor - height, 0)[:, None] * skull_normal[near]
        wanted = _combed(frame.coordinates(points[:, k]), skull_normal[near], frame)
        sink = np.where(height > 0.012, -0.35, 0.02)[:, None] * skull_normal[near]
        direction = unit(0.62 * direction + 0.38 * wanted + sink)
    points = _wave(points, length, 0.05, rng)
    return roots, _clump(points, max(len(root) // 28, 1), 0.42, rng)


def _combed(place: Array, normal: Array, frame: HeadFrame) -> Array:
    """Unit combing direction in world axes at head coordinates [N, 3], tangent to the skull."""
    crown = np.array([0.25, -2.35, 1.55])
    away = (place - crown) * [1, 1, 1]
    sweep = 0.55 * smoothstep(-1.6, 0.1, place[:, 1]) * smoothstep(0.5, 1.2, place[:, 2])
    away = unit(away) + np.stack([-sweep, 0 * sweep, 0.30 * sweep], axis=1)
    away[:, 2] -= 0.8 * smoothstep(0.9, 0.1, place[:, 2])
    noise = np.stack([value_noise(place, 2.2, 60 + k) - 0.5 for k in range(3)], axis=1)
    direction = (unit(away) + 0.55 * noise) * [1, -1, 1]
    return unit(direction - (direction * normal).sum(1, keepdims=True) * normal)


def brow_hair(
    vertices: Array, normals: Array, tri: Index, frame: HeadFrame, count: int, rng: np.random.Generator
) -> tuple[SurfacePoints, Array]:
    """Both eyebrows: hairs stand up at the inner end, lie along the arch and fall at the tail."""
    roots = scatter(vertices, tri, brow_density(frame.coordinates(vertices)), 6 * count, rng)
    place = frame.coordinates(roots.at(vertices))
    keep = np.flatnonzero(rng.random(len(roots)) < brow_density(place))[:count]
    roots, place = roots.chosen(keep), place[keep]
    root, normal = roots.at(vertices), unit(roots.at(normals))
    along, across = brow_coordinates(place)
    rise = np.interp(along, [0.0, 0.15, 0.4, 0.7, 1.0], [1.35, 0.85, 0.38, 0.02, -0.35])
    angle = rise - 2.6 * across + rng.normal(0, 0.13, len(root))
    outward = np.where(place[:, 0] > 0, 1.0, -1.0)
    direction = np.stack([outward * np.cos(angle), 0.25 * np.cos(angle), np.sin(angle)], axis=1)
    direction = unit(direction - (direction * normal).sum(1, keepdims=True) * normal)
    length = 0.0062 * np.interp(along, [0.0, 0.3, 1.0], [0.75, 1.0, 0.70]) * rng.uniform(0.7, 1.2, len(root))
    t = np.linspace(0, 1, 5)[None, :, None]
    size = length[:, None, None]
    points = root[:, None] + size * (t * direction[:, None] + (0.22 * t - 0.14 * t**2) * normal[:, None])
    droop = np.stack([0.25 * outward, 0 * outward, -0.20 + 0 * outward], axis=1)
    return roots, points + size * t**2 * droop[:, None]


def lashes(
    vertices: Array, tri: Index, skin_points: Array, eye_centres: Array, count: int, rng: np.random.Generator
) -> tuple[SurfacePoints, Array]:
    """One row of lashes along each lid edge, curled away from the eye. eye_centres: [2, 3] m, left first."""
    used = np.unique(tri)
    gap = np.linalg.norm(vertices[used] - skin_points[nearest_index(vertices[used], skin_points)], axis=1)
    at_lid = np.zeros(len(vertices))
    at_lid[used] = smoothstep(0.0022, 0.0004, gap)
    roots = scatter(vertices, tri, at_lid, count, rng)
    root = roots.at(vertices)
    eye = np.where(root[:, :1] > 0, eye_centres[0], eye_centres[1])
    upper = root[:, 2] > eye[:, 2] - 0.0025
    keep = rng.random(len(root)) < np.where(upper, 1.0, 0.4)
    roots, root, eye, upper = roots.chosen(keep), root[keep], eye[keep], upper[keep]
    away = unit((root - eye) * [1.0, 0.9, 0.6])
    length = np.where(upper, 0.0068, 0.0040) * rng.uniform(0.7, 1.15, len(root))
    t = np.linspace(0, 1, 5)[None, :, None]
    curl = np.where(upper, 0.55, -0.30)[:, None, None] * np.array([0.0, 0.0, 1.0])
    return roots, root[:, None] + length[:, None, None] * (t * away[:, None] + t**2 * curl)


def _wave(points: Array, length: Array, strength: float, rng: np.random.Generator) -> Array:
    """A slight irregular wave that grows towards the tip."""
    t = np.linspace(0, 1, points.shape[1])[None, :]
    phase = rng.uniform(0, 2 * np.pi, (len(points), 1))
    wave = np.stack([np.sin(5 * t + phase), np.cos(4 * t + 1.7 * phase), np.sin(6 * t + 0.6 * phase)], axis=2)
    return points + strength * (length[:, None] * t)[:, :, None] * wave


def _clump(points: Array, clumps: int, strength: float, rng: np.random.Generator) -> Array:
    """Draw the tips of neighbouring strands together, as real hair does."""
    guide = rng.choice(len(points), min(clumps, len(points)), replace=False)
    mine = guide[nearest_index(points[:, 0], points[guide, 0])]
    t = np.linspace(0, 1, points.shape[1])[None, :, None]
    weight = strength * t**1.4 * rng.uniform(0.3, 1.0, (len(points), 1, 1))
    target = points[mine] + 0.35 * (points[:, :1] - points[mine, :1])
    return points * (1 - weight) + target * weight
