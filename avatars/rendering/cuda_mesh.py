"""Faces at pixels on CUDA: one Triton program a face, the nearest wins by one 64-bit maximum of closeness and face."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.rendering.has_triton import available
from shared.errors import EffigyError

SUBPIXELS = 256
FARTHEST_PX = 2.0**20


def usable(places: Tensor) -> bool:
    """Whether the kernel serves these tensors."""
    return places.is_cuda and available()


def face_ids(places_px: Tensor, depths_m: Tensor, faces: Tensor, width_px: int, height_px: int) -> Tensor:
    """[B, H, W] int64, as `mesh_drawing.face_ids`, of the same snapped places as the CPU's."""
    from avatars.rendering import cuda_mesh_kernels as kernels

    frames, vertices = depths_m.shape
    if len(faces) >= 1 << 31:
        raise EffigyError("too many faces to draw", found=str(len(faces)))
    fine = torch.isfinite(places_px).all(-1) & (places_px.abs() < FARTHEST_PX).all(-1) & (depths_m > 0)
    grid = (torch.where(fine[..., None], places_px, 0.0) * SUBPIXELS).round().int().contiguous()
    closeness = torch.where(fine, 1 / torch.where(fine, depths_m, 1.0), -1.0).float().contiguous()
    nearest = torch.zeros(frames, height_px, width_px, dtype=torch.int64, device=places_px.device)
    if frames and len(faces):
        triangles = faces.int().contiguous()
        sizes = (len(faces), vertices, width_px, height_px)
        kernels.fill_faces[(len(faces), frames)](grid, closeness, triangles, nearest, *sizes, num_warps=1)
    return torch.where(nearest > 0, 0x7FFFFFFF - (nearest & 0x7FFFFFFF), -1)
