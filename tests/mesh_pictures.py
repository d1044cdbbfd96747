"""Pictures of a posed FLAME-shaped head with exact soft masks, drawn by our mesh rasteriser."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.rendering.mesh import rasterise_mesh
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.opening import TemplateReference
from avatars.templates.template import Template, triangles_of
from shared.template import TemplateArrays

Z_UP_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
FINER = 2


def flame_vertices(
    reference: TemplateReference,
    shape: NDArray[np.float32],
    rotations: dict[str, NDArray[np.float64]],
    translation: NDArray[np.float64],
    expressions: dict[str, float],
    offset: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Vertices [V, 3] m in FLAME's axes. rotations (axis-angle rad by joint), translation, offset: in FLAME's axes."""
    arrays = reference.open()
    moved = None if offset is None else torch.from_numpy((offset @ Z_UP_FROM_Y_UP.T).astype(np.float32))
    head = HeadTemplate.make(Template(arrays), "", tuple(float(number) for number in shape), moved)
    turned = np.zeros((1, len(arrays.joint_names), 3), np.float32)
    for name, vector in rotations.items():
        turned[0, arrays.joint_names.index(name)] = Z_UP_FROM_Y_UP @ vector
    weights = np.zeros((1, len(arrays.expression_names)), np.float32)
    for name, weight in expressions.items():
        weights[0, arrays.expression_names.index(name)] = weight
    shift = torch.from_numpy((Z_UP_FROM_Y_UP @ translation).astype(np.float32))[None]
    with torch.no_grad():
        posed = head.posed_vertices(torch.from_numpy(turned), shift, torch.from_numpy(weights))
    return posed[0].double().numpy() @ Z_UP_FROM_Y_UP


def vertex_colours(arrays: TemplateArrays) -> NDArray[np.float64]:
    """[V, 3] in 0..1: stripes of skin over the rest mesh, dark hair above, so that every turn of the head shows."""
    x, y, z = ((arrays.vertices - arrays.vertices.mean(0)) / arrays.vertices.std(0)).T.astype(np.float64)
    stripes = 0.12 * np.sin(4 * x) + 0.08 * np.sin(5 * z)
    skin = np.stack((0.80 + stripes, 0.60 + stripes, 0.50 - stripes), 1)
    hair = np.clip((z + 0.4 * y - 0.6) * 3, 0, 1)[:, None]
    return np.clip(skin * (1 - hair) + np.array((0.22, 0.14, 0.10)) * hair, 0, 1)


def draw(
    vertices_in_camera: NDArray[np.float64],
    K: NDArray[np.float64],
    size: tuple[int, int],
    faces: NDArray[np.int32],
    colours: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Straight-alpha RGBA [H, W, 4] of a mesh [V, 3] m in OpenCV camera axes; size is width, height px."""
    projected = vertices_in_camera @ K.T
    pixels = np.concatenate((projected[:, :2] / projected[:, 2:], vertices_in_camera[:, 2:]), 1)
    pixels[:, :2] *= FINER
    width, height = size
    face_id, barycentrics, _ = rasterise_mesh(pixels, faces, width * FINER, height * FINER)
    seen = face_id >= 0
    colour = (colours[faces[np.maximum(face_id, 0)]] * barycentrics[..., None]).sum(-2) * seen[..., None]
    fine = np.concatenate((colour, seen[..., None]), -1)
    mean = fine.reshape(height, FINER, width, FINER, 4).mean((1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return (np.clip(mean, 0, 1) * 255 + 0.5).astype(np.uint8)


def all_faces(arrays: TemplateArrays) -> NDArray[np.int32]:
    """Triangles [F, 3] of all groups."""
    return np.concatenate([triangles_of(faces, arrays.uv_faces[name])[0] for name, faces in arrays.faces.items()])
