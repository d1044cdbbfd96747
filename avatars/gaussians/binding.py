"""Where Gaussians sit on a template: one per texel of the UV layout (RGBAvatar, CVPR 2025; method page 2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.frames import FrameKind, frame_quaternions, triangle_frames
from avatars.gaussians.regions import patch_triangles
from avatars.gaussians.uv_texels import covered_texels
from avatars.templates.template import template_triangles
from avatars.whole_sums import summed_at_corners
from shared.errors import BadTemplate
from shared.template import TemplateArrays


@dataclass(frozen=True, eq=False)
class UvBinding:
    """N Gaussians on the triangles of a template.

    triangles [F, 3] int64 vertex indices of the triangles in use; uv_corners [F, 3, 2]; face [N] int64 row of
    `triangles`; barycentrics [N, 3] summing to 1; group [N] int64 into group_names. extent_m [N, 2]: the size of the
    texel on the surface along T and B at rest.
    """

    triangles: Tensor
    uv_corners: Tensor
    face: Tensor
    barycentrics: Tensor
    group: Tensor
    group_names: tuple[str, ...]
    extent_m: Tensor

    def __len__(self) -> int:
        return len(self.face)

    def keep(self, chosen: Tensor) -> UvBinding:
        """Only the Gaussians where `chosen` [N] bool is true; triangles that lose their last one are dropped."""
        used, face = torch.unique(self.face[chosen], return_inverse=True)
        return UvBinding(
            self.triangles[used],
            self.uv_corners[used],
            face,
            self.barycentrics[chosen],
            self.group[chosen],
            self.group_names,
            self.extent_m[chosen],
        )

    def to(self, device: str | torch.device) -> UvBinding:
        """The same binding on another device."""
        names = ("triangles", "uv_corners", "face", "barycentrics", "group", "extent_m")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True, eq=False)
class Anchors:
    """The posed surface under bound Gaussians: points [B, N, 3] m, frames [B, N, 3, 3], quats [B, N, 4]."""

    points: Tensor
    frames: Tensor
    quats: Tensor


def stack_anchors(parts: Sequence[Anchors]) -> Anchors:
    """Anchors of several frames as one batch."""
    return Anchors(*(torch.cat([getattr(part, name) for part in parts]) for name in ("points", "frames", "quats")))


def anchors(binding: UvBinding, vertices: Tensor, kind: FrameKind) -> Anchors:
    """Points and frames of a binding on posed vertices [B, V, 3] m. Frames and their quaternions carry no gradient."""
    corners = vertices[:, binding.triangles]
    frames = triangle_frames(corners, binding.uv_corners, kind)
    quats = frame_quaternions(frames, kind)
    points = (corners[:, binding.face] * binding.barycentrics[:, :, None]).sum(2)
    return Anchors(points, frames[:, binding.face], quats[:, binding.face])


def smooth_normals(binding: UvBinding, vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [B, N, 3] of the surface under bound Gaussians, interpolated from vertices.

    vertices [B, V, 3] m; faces [F, 3] all triangles of the surface. A vertex's normal is the mean of its triangles'
    weighted by area; where they cancel out the Gaussian gets +z. Flat normals would show every triangle when a head is
    lit anew.
    """
    corners = vertices[:, faces]
    areas = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    at_vertices = summed_at_corners(faces, areas, vertices.shape[1])
    at_vertices = torch.nn.functional.normalize(at_vertices, dim=-1, eps=1e-20)
    own = binding.triangles[binding.face]
    normals = (at_vertices[:, own] * binding.barycentrics[:, :, None]).sum(2)
    length = normals.norm(dim=-1, keepdim=True)
    z = torch.zeros_like(normals)
    z[..., 2] = 1
    return torch.where(length > 1e-6, normals / length.clamp_min(1e-6), z)


def bind_texels(
    template: TemplateArrays, vertices: NDArray[np.floating], shares: Mapping[str, float], target_gaussians: int
) -> UvBinding:
    """One Gaussian per covered texel, about `target_gaussians` in all.

    vertices [V, 3] m at rest. The layout covers a whole body, so one grid for all would spend its texels on legs: each
    patch in `shares` (see `regions.patch_triangles` -> density relative to the others, per surface area; 0 leaves it
    out) gets a grid of its own, fine enough to give it its part of the target. Texel order is row-major in each patch
    with row 0 near v = 0. Raises BadTemplate for a patch the template lacks.
    """
    names, triangles, uv_corners, wanted = [], [], [], []
    for name, share in shares.items():
        if share <= 0:
            continue
        faces, uv_faces = patch_triangles(template, name)
        if not len(faces):
            continue
        names.append(name)
        corners = np.asarray(vertices, np.float64)[faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
        triangles.append(faces)
        uv_corners.append(np.asarray(template.uv, np.float64)[uv_faces])
        wanted.append(area * share)
    if not names:
        raise BadTemplate("no patch of the template would carry Gaussians", do="Give some patch a density above 0")
    total = sum(wanted)
    parts = []
    start = 0
    for index, (faces, uv) in enumerate(zip(triangles, uv_corners, strict=True)):
        face, barycentrics, texel = _texels(uv, target_gaussians * wanted[index] / total)
        corners = np.asarray(vertices, np.float64)[faces]
        extent = _extents(corners, uv)[face] * texel
        parts.append((face + start, barycentrics, np.full(len(face), index), extent))
        start += len(faces)
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    everything = UvBinding(
        torch.from_numpy(np.concatenate(triangles).astype(np.int64)),
        torch.from_numpy(np.concatenate(uv_corners).astype(np.float32)),
        torch.from_numpy(joined[0].astype(np.int64)),
        torch.from_numpy(joined[1].astype(np.float32)),
        torch.from_numpy(joined[2].astype(np.int64)),
        tuple(names),
        torch.from_numpy(joined[3].astype(np.float32)),
    )
    return everything.keep(torch.ones(len(everything), dtype=torch.bool))


def bind_uv_grid(template: TemplateArrays, vertices: NDArray[np.floating], tex_size: int) -> UvBinding:
    """The paper's binding: one Gaussian per texel of one `tex_size`² grid over the whole UV square (method page 2.5).

    vertices [V, 3] m at rest, for the texels' size on the surface. A texel counts where its centre lies in a UV face;
    order is row-major, row 0 near v = 0. Groups are the template's face groups, faces count through them in order, and
    where UV faces overlap the first wins. Raises BadTemplate for a size that covers nothing.
    """
    faces, uv_faces, owner = template_triangles(template)
    uv = np.asarray(template.uv, np.float64)[uv_faces]
    face, barycentrics = covered_texels(uv * tex_size, tex_size, tex_size)
    if not len(face):
        raise BadTemplate(f"a grid of {tex_size} x {tex_size} texels meets no face of the template")
    extent = _extents(np.asarray(vertices, np.float64)[faces], uv)[face] / tex_size
    everything = UvBinding(
        torch.from_numpy(faces.astype(np.int64)),
        torch.from_numpy(uv.astype(np.float32)),
        torch.from_numpy(face),
        torch.from_numpy(barycentrics.astype(np.float32)),
        torch.from_numpy(owner[face]),
        tuple(template.faces),
        torch.from_numpy(extent.astype(np.float32)),
    )
    return everything.keep(torch.ones(len(everything), dtype=torch.bool))


def _texels(uv: NDArray[np.float64], wanted: float) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Face [n] and barycentrics [n, 3] of covered texels of UV triangles [F, 3, 2], and the texel's size in UV."""
    edge1, edge2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = np.abs(edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]).sum() / 2
    texels_per_unit = np.sqrt(max(wanted, 1.0) / max(area, 1e-12))
    corner = np.floor(uv.min((0, 1)) * texels_per_unit)
    size = np.ceil(uv.max((0, 1)) * texels_per_unit) - corner
    pixels = uv * texels_per_unit - corner
    face, barycentrics = covered_texels(pixels, int(size[0]), int(size[1]))
    return face, barycentrics, 1 / texels_per_unit


def _extents(corners: NDArray[np.float64], uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres per UV unit along u and v of each triangle, [F, 2]."""
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (du1, dv1), (du2, dv2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    determinant = du1 * dv2 - dv1 * du2
    safe = np.where(np.abs(determinant) < 1e-14, 1.0, determinant)
    along_u = np.linalg.norm(dv2[:, None] * edge1 - dv1[:, None] * edge2, axis=1) / np.abs(safe)
    along_v = np.linalg.norm(du1[:, None] * edge2 - du2[:, None] * edge1, axis=1) / np.abs(safe)
    return np.stack((along_u, along_v), 1)
