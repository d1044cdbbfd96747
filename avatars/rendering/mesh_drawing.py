"""Drawing a posed mesh so that pictures have gradients: to what its vertices carry, and to where they are.

Which face a pixel shows is decided without gradients, by compiled code. Everything after that is plain torch on the
pixels that show something: barycentric weights follow the vertices, and along silhouettes `antialiased` blends the two
sides by how much of the pixel the edge leaves to each (Laine et al., "Modular Primitives for High-Performance
Differentiable Rendering", 2020), which is what lets a picture say that an outline is in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from avatars.rendering import cuda_mesh
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.mesh import rasterise_mesh
from avatars.rendering.mesh_edges import MeshEdges, blended_across
from shared.errors import EffigyError

MeshImplementation = Literal["auto", "cpu", "triton", "nvdiffrast", "reference"]
LEAST_AREA_PX2 = 1e-9


@dataclass(frozen=True, eq=False)
class MeshDrawing:
    """What each pixel of B pictures shows of a mesh with V vertices and F faces.

    places_px: [B, V, 2] of the vertices (pixel centres at +0.5); depths_m: [B, V] camera z; face_id: [B, H, W] int64,
    -1 where nothing is; faces: [F, 3] int64. Places and depths carry gradients to the vertices.
    """

    places_px: Tensor
    depths_m: Tensor
    face_id: Tensor
    faces: Tensor
    cameras: CameraBatch

    @cached_property
    def shown(self) -> Tensor:
        """The P pixels that show a face, as rows of pictures laid flat [B * H * W], ascending."""
        return torch.nonzero(self.face_id.flatten() >= 0)[:, 0]

    @cached_property
    def frames(self) -> Tensor:
        """[P] which picture each of the pixels is in."""
        height, width = self.face_id.shape[1:]
        return self.shown // (height * width)

    @cached_property
    def corners(self) -> Tensor:
        """[P, 3] the three vertices of what each of the pixels shows, as rows of [B * V]."""
        face = self.face_id.flatten()[self.shown]
        return self.faces[face] + self.frames[:, None] * self.places_px.shape[1]

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        height, width = self.face_id.shape[1:]
        within = self.shown - self.frames * (height * width)
        centre = torch.stack((within % width, within // width), -1).to(self.places_px) + 0.5
        rows = self.corners.flatten()
        place = self.places_px.flatten(0, 1).index_select(0, rows).view(-1, 3, 2) - centre[:, None]
        (ax, ay), (bx, by), (cx, cy) = (part.unbind(-1) for part in place.unbind(1))
        shares = torch.stack((bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx), -1)
        # Faces are found with places rounded to 1/256 px, so that a centre may lie just outside.
        shares = (shares * shares.detach().sum(-1, keepdim=True).sign()).clamp_min(0)
        flat = shares.detach().sum(-1, keepdim=True) < LEAST_AREA_PX2
        shares = torch.where(flat, 1.0, shares)
        closeness = shares
        if not self.cameras.orthographic:
            depth = self.depths_m.flatten().index_select(0, rows).view(-1, 3)
            closeness = shares / depth
        total = closeness.sum(-1, keepdim=True)
        barycentrics = closeness / total
        if self.cameras.orthographic:
            depth = self.depths_m.flatten().index_select(0, rows).view(-1, 3)
            return barycentrics, (barycentrics * depth).sum(-1)
        return barycentrics, shares.sum(-1) / total[:, 0]

    @property
    def barycentrics(self) -> Tensor:
        """[P, 3] perspective-correct weights of the three vertices, differentiable."""
        return self._weights[0]

    @property
    def depth_m(self) -> Tensor:
        """[P] camera z of what the pixels show, differentiable."""
        return self._weights[1]

    def interpolated(self, values: Tensor) -> Tensor:
        """[P, C] of what vertices carry, [B, V, C], or [1, V, C] where that is the same in all pictures."""
        count = self.places_px.shape[1]
        if values.ndim != 3 or values.shape[1] != count or len(values) not in (1, len(self.places_px)):
            raise EffigyError(
                "values do not fit the mesh", found=str(list(values.shape)), expected=f"[B, {count}, C], B 1 or all"
            )
        rows = self.corners - self.frames[:, None] * count if len(values) == 1 else self.corners
        found = values.flatten(0, 1).index_select(0, rows.flatten()).view(len(rows), 3, values.shape[2])
        return (found * self.barycentrics[..., None]).sum(1)

    def picture(self, values: Tensor) -> Tensor:
        """[B, H, W, C] of values [P, C] at the pixels that show something, 0 elsewhere."""
        empty = values.new_zeros(self.face_id.numel(), values.shape[1])
        return empty.index_copy(0, self.shown, values).view(*self.face_id.shape, -1)

    def depth_picture(self) -> Tensor:
        """[B, H, W] camera z in m, 0 where nothing is, without gradients."""
        empty = self.depths_m.new_zeros(self.face_id.numel())
        return empty.index_copy(0, self.shown, self.depth_m.detach()).view(self.face_id.shape)

    def antialiased(self, image: Tensor, edges: MeshEdges) -> Tensor:
        """The picture [B, H, W, C] with silhouettes blended by coverage, with gradients to the picture and to vertices.

        edges: of this mesh's faces. Give it colours and coverage in one picture, before the background comes in.
        """
        pixel_m = 1 / self.cameras.K[:, 0, 0]
        drawn = (self.face_id, self.depth_picture(), self.places_px, self.depths_m, self.faces)
        return blended_across(image, *drawn, edges, pixel_m)


def draw_mesh(
    vertices: Tensor, faces: Tensor, cameras: CameraBatch, *, implementation: MeshImplementation = "auto"
) -> MeshDrawing:
    """See where triangles are: vertices [B, V, 3] m in world axes, faces [F, 3] int64, B cameras.

    Both windings are drawn, the nearest wins. A face with a vertex nearer than the near plane, or with one that is not
    finite, is left out and gives no gradients. "auto" is Triton for CUDA tensors and numba otherwise; nvdiffrast has to
    be installed by whoever asks for it.
    """
    if vertices.ndim != 3 or vertices.shape[2] != 3 or len(vertices) != cameras.frames:
        raise EffigyError(
            "vertices do not fit the cameras", found=str(list(vertices.shape)), expected=f"[{cameras.frames}, V, 3]"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int64:
        raise EffigyError(
            "faces have the wrong shape", found=f"{list(faces.shape)} {faces.dtype}", expected="[F, 3] int64"
        )
    pose = cameras.camera_from_world
    seen = vertices @ pose[:, :3, :3].transpose(1, 2) + pose[:, None, :3, 3]
    depths = seen[..., 2]
    usable = (torch.isfinite(seen).all(-1) & (depths > cameras.near_m)).detach()
    depths = torch.where(usable, depths, 1.0)
    over = seen[..., :2] if cameras.orthographic else seen[..., :2] / depths[..., None]
    centre, focal = cameras.K[:, None, :2, 2], torch.stack((cameras.K[:, 0, 0], cameras.K[:, 1, 1]), -1)[:, None]
    places = torch.where(usable[..., None], over * focal + centre, 0.0)
    depths = torch.where(usable, depths, -1.0)
    face_id = face_ids(places.detach(), depths.detach(), faces, cameras, implementation)
    return MeshDrawing(places, depths, face_id, faces, cameras)


def face_ids(
    places_px: Tensor, depths_m: Tensor, faces: Tensor, cameras: CameraBatch, implementation: MeshImplementation
) -> Tensor:
    """[B, H, W] int64: the face at each pixel centre, -1 where none is; places [B, V, 2], depths [B, V], < 0 broken."""
    if implementation == "auto":
        implementation = "triton" if cuda_mesh.usable(places_px) else "cpu"
    if implementation == "triton":
        return cuda_mesh.face_ids(places_px, depths_m, faces, cameras.width_px, cameras.height_px)
    if implementation == "nvdiffrast":
        from avatars.rendering import nvdiffrast_mesh

        return nvdiffrast_mesh.face_ids(places_px, depths_m, faces, cameras.width_px, cameras.height_px, cameras.near_m)
    if implementation == "reference":
        from avatars.rendering import mesh_reference

        return mesh_reference.face_ids(places_px, depths_m, faces, cameras.width_px, cameras.height_px)
    if implementation != "cpu":
        raise EffigyError(f"unknown rasteriser {implementation!r}", expected="auto, cpu, triton, nvdiffrast, reference")
    corners, triangles = torch.cat((places_px, depths_m[..., None]), -1).cpu().numpy(), faces.cpu().numpy()
    found = [rasterise_mesh(frame, triangles, cameras.width_px, cameras.height_px)[0] for frame in corners]
    if not found:
        return torch.full((0, cameras.height_px, cameras.width_px), -1, device=faces.device)
    return torch.stack([torch.from_numpy(picture) for picture in found]).long().to(faces.device)
