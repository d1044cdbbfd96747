"""A teacher that is the template's own surface with materials at its vertices, drawn by the mesh rasteriser."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.prefilter import filtered_environment
from avatars.lighting.shading import Material, shade
from avatars.relit_body.person import Person
from avatars.relit_body.teacher import TeacherImages, TeacherPoints
from avatars.rendering import CameraBatch, rasterise_mesh
from avatars.templates.opening import TemplateReference
from shared.types import Environment


class MeshTeacher:
    """A `Teacher` that is the bare template. canonical_rotations: [J, 3] rad; environment: the light of pictures.

    albedo [V, 3], roughness and metallic [V] are grey until somebody sets them.
    """

    def __init__(self, reference: TemplateReference, canonical_rotations: Tensor, environment: Environment) -> None:
        self.person = Person(reference, canonical_rotations)
        self.canonical_rotations = self.person.canonical_rotations
        self._environment = environment
        self.light = filtered_environment(environment)
        self.faces = self.person.faces
        self.used = np.unique(self.faces)
        self.vertices = self.person.vertices
        count = len(self.vertices)
        self.albedo, self.roughness, self.metallic = (
            torch.full((count, 3), 0.5),
            torch.full((count,), 0.6),
            torch.zeros(count),
        )
        self.normals = vertex_normals(self.vertices, self.faces)
        self.skin = self.person.skin_of(self.vertices)
        self._there: tuple[Tensor, ...] | None = None
        self.tree = cKDTree(self.vertices.numpy()[self.used])

    def template(self) -> TemplateReference:
        """The template its poses are of."""
        return self.person.reference

    def environment(self) -> Environment:
        """The light of its pictures."""
        return self._environment

    def mesh(self) -> tuple[Tensor, Tensor]:
        """Its surface in canonical space."""
        return self.vertices, torch.from_numpy(self.faces.astype(np.int64))

    def query(self, points: Tensor) -> TeacherPoints:
        """Shape and materials at canonical points [P, 3]: those of the nearest vertex, distance along its normal."""
        if points.is_cuda:
            return self._query_on_device(points.detach())
        near = torch.from_numpy(self.used[self.tree.query(points.detach().numpy())[1]])
        normals = self.normals[near]
        distance = ((points.detach() - self.vertices[near]) * normals).sum(-1)
        return TeacherPoints(distance, normals, self.albedo[near], self.roughness[near], self.metallic[near])

    def _query_on_device(self, points: Tensor) -> TeacherPoints:
        """The same by comparing with every vertex, which waits for nobody."""
        if self._there is None or self._there[0].device != points.device:
            parts = (self.vertices, self.normals, self.albedo, self.roughness, self.metallic)
            self._there = tuple(part[self.used].to(points.device) for part in parts)
        vertices, normals, *materials = self._there
        near = torch.cdist(points, vertices).argmin(-1)
        distance = ((points - vertices[near]) * normals[near]).sum(-1)
        albedo, roughness, metallic = (part[near] for part in materials)
        return TeacherPoints(distance, normals[near], albedo, roughness, metallic)

    def images(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, cameras: CameraBatch
    ) -> TeacherImages:
        """Pictures of poses [B, J, 3] rad, [B, 3] m, [B, E] through B cameras."""
        device = rotations.device
        posed = self.posed(rotations, translations, expressions)
        pictures = [self._picture(posed[frame], cameras.one(frame)) for frame in range(len(posed))]
        return TeacherImages(*(torch.stack(parts).to(device) for parts in zip(*pictures, strict=True)))

    def posed(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """Its vertices [B, V, 3] m in poses, on the CPU."""
        moved = self.person.moved(rotations.cpu(), translations.cpu(), expressions.cpu())
        skin = self.skin
        blended = (moved[:, skin.joints] * skin.weights[None, ..., None, None]).sum(2)
        place = self.vertices[None]
        if expressions.shape[1]:
            place = place + torch.einsum("be,enc->bnc", expressions.cpu(), skin.expression_dirs)
        return (blended[..., :3, :3] @ place[..., None])[..., 0] + blended[..., :3, 3]

    def on_image(self, vertices: Tensor, camera: CameraBatch) -> Tensor:
        """Posed vertices [V, 3] m as column, row (px) and depth (m) in one camera, [V, 3]."""
        pose, K = camera.camera_from_world[0].cpu(), camera.K[0].cpu()
        seen = vertices @ pose[:3, :3].T + pose[:3, 3]
        place = seen[:, :2] / seen[:, 2:].clamp(min=1e-6) * K.diagonal()[:2] + K[:2, 2]
        return torch.cat([place, seen[:, 2:]], dim=-1)

    def _picture(self, vertices: Tensor, camera: CameraBatch) -> tuple[Tensor, ...]:
        corners = self.on_image(vertices, camera).numpy()
        face_id, shares, depth = rasterise_mesh(corners, self.faces, camera.width_px, camera.height_px)
        inside = torch.from_numpy(face_id >= 0)
        used = torch.from_numpy(self.faces[np.maximum(face_id, 0)].astype(np.int64))[inside]
        share = torch.from_numpy(shares)[inside][..., None]

        def mixed(values: Tensor) -> Tensor:
            return (values[used] * share).sum(1)

        normals = normalize(mixed(vertex_normals(vertices, self.faces)), dim=-1)
        to_eye = normalize(camera.positions()[0].cpu() - mixed(vertices), dim=-1)
        normals = torch.where((normals * to_eye).sum(-1, keepdim=True) < 0, -normals, normals)
        albedo, roughness, metallic = mixed(self.albedo), mixed(self.roughness[:, None]), mixed(self.metallic[:, None])
        radiance = shade(Material(albedo, roughness, metallic), normals, to_eye, self.light).total

        def picture(values: Tensor) -> Tensor:
            image = values.new_zeros(*inside.shape, *values.shape[1:])
            image[inside] = values
            return image

        encoded = srgb_from_linear(radiance).clamp(0, 1)
        maps = (normals, albedo, roughness[:, 0], metallic[:, 0])
        return picture(encoded), inside.float(), *(picture(part) for part in maps), torch.from_numpy(depth)


def vertex_normals(vertices: Tensor, faces: np.ndarray) -> Tensor:
    """Unit normals [V, 3] of a mesh [V, 3], [F, 3], weighted by area; 0 where no face is."""
    index = torch.from_numpy(faces.astype(np.int64))
    corners = vertices[index]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(0, index[:, corner], across)
    return normalize(total, dim=-1)
