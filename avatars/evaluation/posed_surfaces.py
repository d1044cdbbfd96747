"""The surface of any avatar in a pose: its own trained mesh, its field's, or the light mesh that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from shared.template import joint_transforms
from shared.types import Pose, ProxyMesh, Rig

Floats = NDArray[np.float64]
Mesh = tuple[Floats, NDArray[np.int64]]
PosedSurface = Callable[[Pose], Mesh]
"""The surface in a pose: vertices [V, 3] m in the world and triangles [F, 3]."""


def surface_of(avatar: Avatar) -> tuple[PosedSurface, str]:
    """The best surface an avatar has, and what it is in a word: its own mesh, else the one that stands for it."""
    vertices = getattr(avatar, "vertices", None)
    mesh = getattr(avatar, "mesh", None)
    if vertices is None or mesh is None:
        proxy, rig = avatar.proxy(), avatar.rig()
        return lambda pose: (posed_proxy(proxy, rig, pose), triangles_of_quads(proxy.faces)), "stand-in mesh"
    faces = mesh.faces.cpu().numpy().astype(np.int64)

    def own(pose: Pose) -> Mesh:
        return vertices(*batch_of(pose, mesh.vertices.device))[0].cpu().double().numpy(), faces

    return own, "trained mesh"


def posed_proxy(proxy: ProxyMesh, rig: Rig, pose: Pose) -> Floats:
    """Vertices [V, 3] m of a stand-in mesh in a pose."""
    vertices = proxy.vertices.astype(np.float64)
    if proxy.expression_vertices.size:
        vertices[proxy.expression_vertices] += np.tensordot(pose.expression, proxy.expression_offsets, 1)
    skinning, _ = joint_transforms(pose.rotations, rig.rest_joints, rig.parents, pose.translation)
    blended = (skinning[proxy.joints, :3] * proxy.weights[..., None, None]).sum(1)
    posed: Floats = np.einsum("vab,vb->va", blended[..., :3], vertices) + blended[..., 3]
    return posed


def triangles_of_quads(quads: NDArray[np.integer]) -> NDArray[np.int64]:
    """[T, 3] of faces [F, 4] that repeat their last index where they are triangles."""
    faces = np.asarray(quads, np.int64)
    square = faces[faces[:, 2] != faces[:, 3]]
    return np.concatenate((faces[:, :3], square[:, [0, 2, 3]]))


def batch_of(pose: Pose, device: torch.device | str) -> tuple[Any, Any, Any]:
    """A pose as tensors of one frame: rotations [1, J, 3], translations [1, 3], expressions [1, E]."""
    parts = (pose.rotations, pose.translation, pose.expression)
    rotations, translations, expressions = (torch.from_numpy(part[None].copy()).to(device) for part in parts)
    return rotations, translations, expressions
