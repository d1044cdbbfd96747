"""A trained field on its own: pictures of it in any pose through any camera, and its surface at any resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.rendering.cameras import CameraBatch
from avatars.surface.extract import largest_piece
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.march import posed
from avatars.surface_body.mesh_state import blended, eight_of, skinned
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.picture import Picture, picture
from avatars.surface_body.storage import open_field
from shared.errors import BadAvatar

Floats = NDArray[np.float64]
POINTS_AT_ONCE = 1 << 17
STEPS_TO_SURFACE, FARTHEST_M, ON_IT_M = 3, 0.01, 0.002


def field_of(avatar: Avatar, device: str) -> SurfaceModel:
    """The field an avatar was made of. Raises BadAvatar where it has none."""
    if not isinstance(avatar, SurfaceAvatar) or not avatar.field:
        raise BadAvatar(
            "this avatar has no distance field",
            found=avatar.method if not isinstance(avatar, SurfaceAvatar) else "surface_body trained without keep_field",
            expected="surface_body with its field",
            do="Train it with a surface_* preset and surface.keep_field=true",
        )
    return open_field(avatar.template(), avatar.field_description, avatar.field, device)


class FieldView:
    """Volumetric pictures of a field."""

    def __init__(self, model: SurfaceModel) -> None:
        self.model = model
        with torch.no_grad():
            self.rows = model.weights.rows()

    def picture(self, rotations: Tensor, translations: Tensor, expressions: Tensor, cameras: CameraBatch) -> Picture:
        """Poses [B, J, 3], [B, 3], [B, E] through B cameras."""
        with torch.no_grad():
            body = self.model.body
            transforms = body.transforms(rotations, translations, expressions)
            guides = [body.guide(one) for one in transforms]
            ready = posed(self.model, transforms, guides, self.rows, self.model.weights.lattice)
            return picture(self.model, ready, cameras)


@dataclass(frozen=True, eq=False)
class FieldMesh:
    """A field's surface: vertices [V, 3] m canonical, faces [F, 3], what vertices follow ([V, 8] each), and colours
    [V, 3] sRGB seen straight on. evaluations: how many distances were asked for."""

    vertices: Floats
    faces: NDArray[np.int64]
    joints: NDArray[np.int64]
    weights: NDArray[np.float32]
    colours: Floats
    evaluations: int

    def posed(self, model: SurfaceModel, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Floats:
        """Vertices [V, 3] m in a pose [1, J, 3], [1, 3], [1, E], as the model itself skins."""
        device = model.device
        with torch.no_grad():
            moved = model.body.transforms(rotations, translations, expressions)
            joints, weights = torch.from_numpy(self.joints).to(device), torch.from_numpy(self.weights).to(device)
            transforms = blended(moved, joints, weights)
            places = torch.from_numpy(self.vertices.astype(np.float32)).to(device)
            found: Floats = skinned(places, transforms)[0].cpu().double().numpy()
        return found


def field_mesh(model: SurfaceModel, resolution: int, threshold_m: float = 0.0, at_box: str = "refuse") -> FieldMesh:
    """The largest piece of the surface at distance threshold_m, with `resolution` cells along the box's longest side.

    Only blocks of cells near the surface are evaluated. at_box: what to do with a body that leaves the box, as in
    `extract_surface`. Raises BadConfig for such a body or a box too fine, EffigyError where there is no surface.
    """
    found = model.extracted(resolution, threshold_m=threshold_m, at_box=at_box)
    vertices, faces = largest_piece(*found.numpy())
    places = torch.from_numpy(vertices).to(model.device)
    with torch.no_grad():
        colours = torch.cat([_seen_straight_on(model, some) for some in places.split(POINTS_AT_ONCE)])
    joints, weights = followed_at(model, places)
    return FieldMesh(vertices.astype(np.float64), faces, joints, weights, colours.cpu().double().numpy(), found.asked)


def followed_at(model: SurfaceModel, places: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The eight joints and weights, each [P, 8], that canonical places [P, 3] m follow most."""
    with torch.no_grad():
        sorted_by = [model.weights.at(some).sort(dim=1, descending=True) for some in places.split(POINTS_AT_ONCE)]
        skin = [eight_of(joints, weights) for weights, joints in sorted_by]
        joints, weights = (torch.cat([pair[k] for pair in skin]) for k in (0, 1))
    return joints.cpu().long().numpy(), weights.cpu().float().numpy()


def field_normals(model: SurfaceModel) -> Callable[[Floats, Floats], Floats]:
    """(points [P, 3] m canonical, a mesh's normals [P, 3] there) -> normals [P, 3] of the field's surface beside them.

    Points go down the slope to the surface, at most FARTHEST_M; where that leads away, the mesh's own normals stay.
    """

    def normals(points: Floats, outwards: Floats) -> Floats:
        parts = [
            np.asarray(points, np.float32)[at : at + POINTS_AT_ONCE] for at in range(0, len(points), POINTS_AT_ONCE)
        ]
        own = np.concatenate([_surface_normals(model, part) for part in parts]) if parts else np.zeros((0, 3))
        towards = (own * outwards).sum(1, keepdims=True)
        found: Floats = np.where(towards > 0, own, outwards)
        return found

    return normals


def _surface_normals(model: SurfaceModel, points: NDArray[np.float32]) -> Floats:
    start = places = torch.from_numpy(points).to(model.device)
    with torch.no_grad():
        model.field.begin()
        for _ in range(STEPS_TO_SURFACE):
            geometry = model.field.geometry(places, None)
            steep = geometry.gradient.square().sum(-1, keepdim=True).clamp_min(0.25)
            moved = places - geometry.distance_m[:, None] * geometry.gradient / steep
            places = torch.where((moved - start).norm(dim=-1, keepdim=True) < FARTHEST_M, moved, places)
        geometry = model.field.geometry(places, None)
        close = geometry.distance_m.abs()[:, None] < ON_IT_M
        along = torch.nn.functional.normalize(geometry.gradient, dim=-1, eps=1e-6)
        found: Floats = torch.where(close, along, torch.zeros_like(along)).cpu().double().numpy()
    return found


def _seen_straight_on(model: SurfaceModel, places: Tensor) -> Tensor:
    """Colours [P, 3] of canonical places [P, 3], looked at against their normals."""
    geometry = model.field.geometry(places, None)
    normals = torch.nn.functional.normalize(geometry.gradient, dim=-1, eps=1e-6)
    return model.field.colour(places, geometry, -normals, normals, None).clamp(0, 1)
