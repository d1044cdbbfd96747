"""Pictures of an avatar for `infer`: through its Gaussians, its mesh or its field, with normals beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.overlay import projected
from avatars.evaluation.posed_surfaces import Mesh, PosedSurface, batch_of, surface_of
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.mesh import rasterise_mesh
from avatars.rendering.rasterise import rasterise
from avatars.surface.unwrap import smooth_normals, unit
from shared.errors import BadConfig
from shared.types import Camera, Pose

WAYS = ("gaussians", "mesh", "field")
COVERED = 0.5
"""Normals are drawn where so much of a pixel is covered."""
Draw = Callable[[Pose, Camera], "Drawn"]
Covered = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]
"""What `rasterise_mesh` gives."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One picture. rgba: [H, W, 4] display-encoded, premultiplied; normals: [H, W, 3] unit, world, 0 where empty."""

    rgba: Tensor
    normals: NDArray[np.float32]


def drawer(avatar: Avatar, way: str, device: str) -> Draw:
    """What draws an avatar in a pose through a camera. Raises BadConfig, BadAvatar for a way it cannot be drawn."""
    if way not in WAYS:
        raise BadConfig("unknown --through", found=way, expected=", ".join(WAYS))
    surface, _ = surface_of(avatar)
    if way == "field":
        return _through_field(avatar, device)
    return _through_mesh(avatar, surface) if way == "mesh" else _through_gaussians(avatar, surface, device)


def _through_gaussians(avatar: Avatar, surface: PosedSurface, device: str) -> Draw:
    def draw(pose: Pose, camera: Camera) -> Drawn:
        with torch.no_grad():
            posed = avatar.pose(*batch_of(pose, device))
            cameras = CameraBatch.from_cameras([camera], device)
            posed = posed.seen_from(cameras.positions())
            found = rasterise(posed, cameras, posed.colours)
            rgba = torch.cat((found.features, found.alpha[..., None]), -1)[0]
            if posed.normals is None:
                return Drawn(rgba, mesh_normals(surface(pose), camera))
            towards = rasterise(posed, cameras, posed.normals).features[0]
        normals = torch.nn.functional.normalize(towards, dim=-1, eps=1e-6) * (rgba[..., 3:] > COVERED)
        return Drawn(rgba, normals.cpu().numpy().astype(np.float32))

    return draw


def _through_mesh(avatar: Avatar, surface: PosedSurface) -> Draw:
    """Its own mesh, the colours of its vertices mixed within faces. Raises BadConfig for an avatar without one."""
    mesh = getattr(avatar, "mesh", None)
    if mesh is None or not hasattr(mesh, "look"):
        raise BadConfig("this avatar has no mesh of its own", found=avatar.method, expected="--through gaussians")

    def draw(pose: Pose, camera: Camera) -> Drawn:
        vertices, faces = surface(pose)
        face, shares, _ = covered = _rasterised(vertices, faces, camera)
        rows, columns = np.nonzero(face >= 0)
        corners, mixed = faces[face[rows, columns]], shares[rows, columns]
        canonical = mesh.vertices.cpu().numpy()
        places = (canonical[corners] * mixed[..., None]).sum(1).astype(np.float32)
        rgba = np.zeros((*face.shape, 4), np.float32)
        with torch.no_grad():
            colours = mesh.look(torch.from_numpy(places).to(mesh.vertices.device)).clamp(0, 1).cpu().numpy()
        rgba[rows, columns] = np.concatenate((colours, np.ones((len(rows), 1), np.float32)), 1)
        return Drawn(torch.from_numpy(rgba), _normals((vertices, faces), covered))

    return draw


def _through_field(avatar: Avatar, device: str) -> Draw:
    from avatars.surface_body.inference import FieldView, field_of

    view = FieldView(field_of(avatar, device))

    def draw(pose: Pose, camera: Camera) -> Drawn:
        found = view.picture(*batch_of(pose, device), CameraBatch.from_cameras([camera], device))
        rgba = torch.cat((found.colour, found.alpha[..., None]), -1)[0]
        normals = found.normals[0] * (rgba[..., 3:] > COVERED)
        return Drawn(rgba, normals.cpu().numpy().astype(np.float32))

    return draw


def mesh_normals(mesh: Mesh, camera: Camera) -> NDArray[np.float32]:
    """Smooth normals [H, W, 3] of a mesh, unit, in world axes, 0 where nothing is."""
    return _normals(mesh, _rasterised(*mesh, camera))


def _normals(mesh: Mesh, covered: Covered) -> NDArray[np.float32]:
    vertices, faces = mesh
    face, shares, _ = covered
    found = np.zeros((*face.shape, 3), np.float32)
    rows, columns = np.nonzero(face >= 0)
    around = smooth_normals(vertices, faces)[faces[face[rows, columns]]]
    found[rows, columns] = unit((around * shares[rows, columns][..., None]).sum(1))
    return found


def _rasterised(vertices: NDArray[np.float64], faces: NDArray[np.int64], camera: Camera) -> Covered:
    pixels = projected(vertices, camera.camera_from_world(), camera.K)
    return rasterise_mesh(pixels, faces, camera.width_px, camera.height_px)


def normals_picture(normals: NDArray[np.float32], camera: Camera) -> NDArray[np.uint8]:
    """Normals [H, W, 3] in the camera's axes as people draw them: x right, y up, z towards the eye, -1..1 as 0..255.

    With alpha: [H, W, 4], empty where they are 0.
    """
    axes = camera.world_from_camera[:3, :3] * np.array((1.0, -1.0, -1.0))
    covered = (np.abs(normals).sum(-1) > 0)[..., None]
    turned = np.clip((normals @ axes) * 0.5 + 0.5, 0, 1) * covered
    found: NDArray[np.uint8] = (np.concatenate((turned, covered), -1) * 255 + 0.5).astype(np.uint8)
    return found
