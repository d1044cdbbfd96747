"""Bound Gaussians put into the world by two Triton kernels instead of some sixty torch operations (CUDA only).

`RgbHead.place` in torch is the reference: the tests hold both against each other, values and gradients.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.gaussians.binding import UvBinding
from avatars.gaussians.frames import FrameKind

FUSED_KINDS: tuple[FrameKind, ...] = ("uv", "orthonormal")


@dataclass(frozen=True, eq=False)
class FaceRows:
    """Posed triangles of B frames, one row each: [B, F, 24] (see cuda_kernels)."""

    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@cache
def available() -> bool:
    """Whether Triton is here; torch's CUDA builds for Linux bring it."""
    return importlib.util.find_spec("triton") is not None


def usable(device: torch.device, kind: FrameKind) -> bool:
    """Whether the kernels serve this device and kind of frame."""
    return device.type == "cuda" and kind in FUSED_KINDS and available()


def face_rows(binding: UvBinding, vertices: Tensor, frames: Tensor, kind: FrameKind) -> FaceRows:
    """Rows of the triangles in use, for frames [B] int64 of posed vertices [T, V, 3] m. Carries no gradient."""
    from avatars.rgb_head.cuda_kernels import FACE_ROW, FACES_A_BLOCK
    from avatars.rgb_head.cuda_kernels import face_rows as kernel

    vertices = vertices.detach().contiguous()
    faces = len(binding.triangles)
    rows = vertices.new_empty(len(frames), faces, FACE_ROW)
    if rows.numel():
        kernel[(-(-faces // FACES_A_BLOCK), len(frames))](
            vertices,
            frames,
            binding.triangles,
            binding.uv_corners,
            rows,
            vertices.shape[1],
            faces,
            ORTHONORMAL=kind == "orthonormal",
            BLOCK=FACES_A_BLOCK,
        )
    return FaceRows(rows)


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        face: Tensor,
        barycentrics: Tensor,
        hidden: Tensor,
        *differentiable: Tensor | None,
    ) -> tuple[Tensor, ...]:
        from avatars.rgb_head.cuda_kernels import GAUSSIANS_A_BLOCK
        from avatars.rgb_head.cuda_kernels import place as kernel

        positions, rotations, scales, opacities, colours, moved, turned, tinted = differentiable
        assert positions is not None
        batch, count = len(rows), len(face)
        shapes = ((3,), (4,), (3,), (), (3,))
        out = tuple(positions.new_empty(batch, count, *shape) for shape in shapes)
        if batch * count:
            kernel[(-(-count // GAUSSIANS_A_BLOCK), batch)](
                rows, face, barycentrics, positions, rotations, scales, opacities, colours, hidden,
                positions if moved is None else moved,
                positions if turned is None else turned,
                positions if tinted is None else tinted,
                *out, rows.shape[1], count, MOVED=moved is not None, BLOCK=GAUSSIANS_A_BLOCK,
            )  # fmt: skip
        ctx.save_for_backward(rows, face, hidden, rotations, scales, opacities, colours, turned, tinted)
        ctx.moved = moved is not None
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.rgb_head.cuda_kernels import GAUSSIANS_A_BLOCK
        from avatars.rgb_head.cuda_kernels import place_backward as kernel

        rows, face, hidden, rotations, scales, opacities, colours, turned, tinted = ctx.saved_tensors
        batch, count = len(rows), len(face)
        new = rotations.new_empty
        base = (new(count, 3), new(count, 4), new(count, 3), new(count), new(count, 3))
        deltas: tuple[Tensor | None, ...] = (None, None, None)
        if ctx.moved:
            deltas = (new(batch, count, 3), new(batch, count, 4), new(batch, count, 3))
        if count:
            unused = rotations
            kernel[(-(-count // GAUSSIANS_A_BLOCK),)](
                rows, face, rotations, scales, opacities, colours, hidden,
                unused if turned is None else turned, unused if tinted is None else tinted,
                *(gradient.contiguous() for gradient in gradients),
                *base, *(unused if delta is None else delta for delta in deltas),
                rows.shape[1], count, BATCHES=batch, MOVED=ctx.moved, BLOCK=GAUSSIANS_A_BLOCK,
            )  # fmt: skip
        return None, None, None, None, *base, *deltas


def place(
    rows: FaceRows,
    binding: UvBinding,
    attributes: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    deltas: tuple[Tensor, Tensor, Tensor] | None,
    hidden: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """World means [B, N, 3] m, quats [B, N, 4], scales [B, N, 3] m, opacities [B, N] and colours [B, N, 3].

    attributes: raw positions [N, 3], rotations [N, 4], scales [N, 3], opacities [N], colours [N, 3]. deltas: blended
    ones of positions, rotations and colours [B, N, 3 | 4 | 3], or None. hidden [N] bool: those get opacity 0, as does
    what is not finite. Differentiable by attributes and deltas.
    """
    moved = (None, None, None) if deltas is None else tuple(delta.contiguous() for delta in deltas)
    return _Place.apply(  # type: ignore[no-untyped-call, no-any-return]
        rows.rows, binding.face, binding.barycentrics, hidden, *attributes, *moved
    )
