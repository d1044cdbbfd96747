"""Measure where a detector's landmarks lie on the template, and what it makes of the template's movements.

From pictures of the template with exact parameters (our own renders). First each landmark's place: among all triangles
of the head the one that it scatters least around. Then, by ridge regression in the head's axes, what each action, the
jaw and the view add to it; what is left gives the covariance. People's own offsets are unknowns of the regression, so
they do not count as scatter: a fit finds them anew for each person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.tracking.correspondences import IRIS_LANDMARKS, LANDMARKS, Correspondences, DetectorResponse
from avatars.tracking.landmark_model import view_terms
from shared.template import TemplateArrays, joint_transforms, rest, skin

Array = NDArray[np.float64]
FACING = 0.15
FAR_M, ROBUST_M = 0.008, 0.003
WORST_MEDIAN_M = 0.012
RIDGE = 5.0
COVARIANCE_MODES = 80
FOLDS = 5


@dataclass(frozen=True, eq=False)
class TrueView:
    """One picture of the template, exactly. vertices: [V, 3] m in the camera; rotation: [3, 3] camera from head; focal:
    px; jaw: rad; expressions: [E]; centre: [2] px; gaze: [2, 3] directions of the eyes in the camera."""

    vertices: Array
    rotation: Array
    focal_px: float
    centre_px: Array
    jaw: float
    expressions: Array
    gaze: Array


def true_view(capture: Capture, arrays: TemplateArrays, index: int) -> TrueView:
    """What picture `index` of a capture shows, by the capture's own parameters. arrays: the whole template."""
    image = capture.images[index]
    motion, camera = capture.motion, capture.cameras[image.camera]
    expressions = motion.expressions[image.frame]
    vertices, joints = rest(
        arrays, preset=capture.template.preset, shape=capture.template.shape, expression=expressions
    )
    rotations = np.zeros((len(arrays.joint_names), 3))
    for row, name in enumerate(capture.joint_names):
        rotations[arrays.joint(name)] = motion.rotations[image.frame, row]
    skinning, world = joint_transforms(rotations, joints, arrays.parents, motion.translations[image.frame])
    posed = skin(vertices, arrays.weights, skinning).astype(np.float64)
    camera_from_world = np.linalg.inv(camera.world_from_camera)
    turn = camera_from_world[:3, :3]
    eyes = [turn @ world[arrays.joint(name), :3, :3] @ [0.0, -1.0, 0.0] for name in ("left_eye", "right_eye")]
    return TrueView(
        posed @ turn.T + camera_from_world[:3, 3],
        turn @ world[arrays.joint("head"), :3, :3],
        float(camera.K[0, 0]),
        camera.K[:2, 2].astype(np.float64),
        float(rotations[arrays.joint("jaw"), 0]),
        expressions.astype(np.float64),
        np.array(eyes),
    )


def mirrored(view: TrueView, arrays: TemplateArrays) -> TrueView:
    """What the mirrored picture shows: the symmetric template gives a second person for nothing. Needs centre_px in the
    middle of the picture."""
    from scipy.spatial import cKDTree

    flip = np.array([-1.0, 1.0, 1.0])
    other = cKDTree(arrays.vertices).query(arrays.vertices * flip)[1]
    swap = {"Left": "Right", "Right": "Left"}
    names = arrays.expression_names
    pairs = [next((name.replace(a, b) for a, b in swap.items() if a in name), name) for name in names]
    return replace(
        view,
        vertices=view.vertices[other] * flip,
        rotation=flip[:, None] * view.rotation * flip,
        expressions=view.expressions[[names.index(name) for name in pairs]],
        gaze=view.gaze[::-1] * flip,
    )


def calibrate(
    arrays: TemplateArrays,
    views: Sequence[TrueView],
    landmarks: Array,
    person: Sequence[int],
    provenance: dict[str, object],
) -> tuple[Correspondences, DetectorResponse, dict[str, float]]:
    """Correspondences and response from views with landmarks [F, N, 2] px of people `person` [F], and their quality.

    Views whose landmarks went astray are left out.
    """
    scale = np.array([view.vertices[_head(arrays), 2].mean() / view.focal_px for view in views])
    where = _places(arrays, views, landmarks, scale, provenance)
    points = np.stack([(view.vertices[where.vertices] * where.weights[..., None]).sum(1) for view in views])
    focal = np.array([view.focal_px for view in views])[:, None, None]
    centre = np.stack([view.centre_px for view in views])[:, None]
    error = (landmarks - focal * points[..., :2] / points[..., 2:] - centre) * scale[:, None, None]
    kept = np.flatnonzero(np.median(np.linalg.norm(error, axis=2), axis=1) < WORST_MEDIAN_M)
    rotation = np.stack([views[row].rotation for row in kept])
    terms = np.concatenate(
        (
            np.ones((len(kept), 1)),
            np.array([[views[row].jaw] for row in kept]),
            view_terms(rotation),
            np.stack([views[row].expressions for row in kept]),
            np.eye(max(person) + 1)[np.asarray(person)[kept]],
        ),
        1,
    )
    error, planes = error[kept], rotation[:, :2]
    response = regressed(terms, planes, error)
    left = np.concatenate(
        [error[rows] - predicted(fit, terms[rows], planes[rows]) for rows, fit in _folds(terms, planes, error)]
    )
    own, modes = covariance(left)
    actions = len(arrays.expression_names)
    quality = {
        "pictures": float(len(kept)),
        "left_out": float(len(views) - len(kept)),
        "before_mm": float(np.sqrt((error**2).sum(2).mean()) * 1e3),
        "after_mm": float(np.sqrt((left**2).sum(2).mean()) * 1e3),
    }
    made = DetectorResponse(
        response[:, 0],
        response[:, 8 : 8 + actions].transpose(1, 0, 2),
        response[:, 1],
        response[:, 2:8].transpose(1, 0, 2),
        own,
        modes,
    )
    return where, made, quality


def _head(arrays: TemplateArrays) -> NDArray[np.int64]:
    """Vertices of the head's skin."""
    weight = arrays.weights[:, [arrays.joint("head"), arrays.joint("jaw")]].sum(1)
    skin_vertices = arrays.group_vertices("skin")
    found: NDArray[np.int64] = skin_vertices[weight[skin_vertices] > 0.5].astype(np.int64)
    return found


def _triangles(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]).astype(np.int64)


def _places(
    arrays: TemplateArrays, views: Sequence[TrueView], landmarks: Array, scale: Array, provenance: dict[str, object]
) -> Correspondences:
    head = _head(arrays)
    face = _triangles(arrays.faces["skin"])
    face = face[np.isin(face, head).all(1)]
    eyes = np.concatenate([_triangles(arrays.faces[name]) for name in ("eye_l", "eye_r")])
    used = np.unique(np.concatenate((face.ravel(), eyes.ravel())))
    new = np.full(len(arrays.vertices), -1)
    new[used] = np.arange(len(used))
    flat = np.empty((len(views), len(used), 2))
    facing = np.empty((len(views), len(used)))
    for row, view in enumerate(views):
        points = view.vertices
        normals = np.zeros_like(points)
        for triangles in (face, eyes):
            across = np.cross(
                points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]]
            )
            for corner in range(3):
                np.add.at(normals, triangles[:, corner], across)
        length = np.linalg.norm(normals, axis=1) * np.linalg.norm(points, axis=1)
        facing[row] = -((normals * points).sum(1) / np.maximum(length, 1e-12))[used]
        pixels = view.focal_px * points[used, :2] / points[used, 2:] + view.centre_px
        flat[row] = pixels * scale[row]
    seen = landmarks * scale[:, None, None]
    groups = [(triangles, np.unique(triangles)) for triangles in (new[face], new[eyes])]
    vertices, weights = np.zeros((LANDMARKS, 3), np.int64), np.zeros((LANDMARKS, 3))
    spread = np.zeros(LANDMARKS)
    for landmark in range(LANDMARKS):
        triangles, candidates = groups[landmark >= LANDMARKS - IRIS_LANDMARKS]
        distance = np.linalg.norm(flat[:, candidates] - seen[:, landmark, None], axis=2)
        visible = facing[:, candidates] > FACING
        cost = (np.minimum(distance, FAR_M) * visible).sum(0) / np.maximum(visible.sum(0), 1)
        cost[visible.sum(0) <= 8] = np.inf
        best = candidates[np.argsort(cost)[:4]]
        chosen = best_triangle(triangles[np.isin(triangles, best).any(1)], flat, facing, seen[:, landmark])
        vertices[landmark], weights[landmark], spread[landmark] = used[chosen[0]], chosen[1], chosen[2]
    return Correspondences(vertices, weights, spread, arrays.digest, provenance)


def best_triangle(
    triangles: NDArray[np.int64], flat: Array, facing: Array, seen: Array
) -> tuple[NDArray[np.int64], Array, float]:
    """Triangle, weights and spread m of the place that points seen [F, 2] m scatter least around."""
    best = (np.inf, triangles[0], np.array([1.0, 0, 0]), FAR_M)
    for triangle in triangles:
        visible = (facing[:, triangle].min(1) > FACING).astype(np.float64)
        if visible.sum() < 8:
            continue
        first, second, third = (flat[:, corner] for corner in triangle)
        edges, target, weight = np.stack([second - first, third - first], -1), seen - first, visible
        for _ in range(4):
            root = np.sqrt(np.repeat(weight, 2))
            solved = np.linalg.lstsq(edges.reshape(-1, 2) * root[:, None], target.ravel() * root, rcond=None)[0]
            solved = np.clip(solved, 0, 1)
            solved /= max(1.0, solved.sum())
            distance = np.linalg.norm(edges @ solved - target, axis=1)
            weight = visible / (1 + (distance / ROBUST_M) ** 2)
        cost = (np.minimum(distance, FAR_M) * visible).sum() / visible.sum()
        if cost < best[0]:
            spread = np.sqrt((np.minimum(distance, 2 * FAR_M) ** 2 * visible).sum() / visible.sum())
            best = (cost, triangle, np.array([1 - solved.sum(), *solved]), float(spread))
    return best[1], best[2], best[3]


def regressed(terms: Array, planes: Array, error: Array) -> Array:
    """[N, terms, 3] by ridge of errors [F, N, 2] m in the image planes [F, 2, 3], each term [F, terms] counted in units
    of its own size; the mean's is nearly free."""
    size = np.sqrt((terms**2).mean(0)) + 1e-9
    rows = np.einsum("fij,fk->fikj", planes, terms / size).reshape(2 * len(terms), -1)
    matrix = rows.T @ rows
    held = np.full(terms.shape[1], RIDGE * len(terms) / 100)
    held[0] *= 0.01
    matrix += np.diag(np.repeat(held, 3))
    right = rows.T @ error.transpose(0, 2, 1).reshape(2 * len(terms), -1)
    solved = np.linalg.solve(matrix, right).reshape(terms.shape[1], 3, -1)
    solved[size < 1e-6] = 0.0
    found: Array = solved.transpose(2, 0, 1) / size[None, :, None]
    return found


def predicted(response: Array, terms: Array, planes: Array) -> Array:
    """[F, N, 2] m: what a response [N, terms, 3] adds in the image planes [F, 2, 3] of pictures with such terms."""
    found: Array = np.einsum("fij,fk,nkj->fni", planes, terms, response, optimize=True)
    return found


def _folds(terms: Array, planes: Array, error: Array) -> list[tuple[NDArray[np.int64], Array]]:
    every = np.arange(len(terms))
    parts = []
    for fold in range(FOLDS):
        held = every[fold::FOLDS]
        rest_of = np.setdiff1d(every, held)
        parts.append((held, regressed(terms[rest_of], planes[rest_of], error[rest_of])))
    return parts


def covariance(left: Array) -> tuple[Array, Array]:
    """Own variances [2 N] and modes [2 N, M] of residuals [F, N, 2]; frames that went astray are shrunk."""
    flat = left.reshape(len(left), -1)
    middle = np.median(np.linalg.norm(left, axis=2), axis=1)
    flat = flat * np.minimum(1, 0.004 / np.maximum(middle, 1e-9))[:, None]
    _, sizes, directions = np.linalg.svd(flat / np.sqrt(len(flat)), full_matrices=False)
    count = min(COVARIANCE_MODES, len(sizes) // 2)
    modes = directions[:count].T * sizes[:count]
    own = np.maximum((flat**2).mean(0) - (modes**2).sum(1), 1e-8)
    return own, modes
