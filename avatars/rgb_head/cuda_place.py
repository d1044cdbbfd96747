"""Bound Gaussians put into the world by two Triton kernels instead of some sixty torch operations (CUDA only).

`RgbHead.place` in torch is the reference: the tests hold both against each other, values and gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.gaussians.binding import UvBinding
from avatars.gaussians.frames import FrameKind
from avatars.rendering.has_triton import available

FUSED_KINDS: tuple[FrameKind, ...] = ("uv", "orthonormal")


@dataclass(frozen=True, eq=False)
class FaceRows:
    """Posed triangles of B frames, one row each: [B, F, 24] (see cuda_face_kernels)."""

    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def usable(device: torch.device, kind: FrameKind) -> bool:
    """Whether the kernels serve this device and kind of frame."""
    return device.type == "cuda" and kind in FUSED_KINDS and available()


def face_rows(binding: UvBinding, vertices: Tensor, frames: Tensor, kind: FrameKind) -> FaceRows:
    """Rows of the triangles in use, for frames [B] int64 of posed vertices [T, V, 3] m. Carries no gradient."""
    from avatars.rgb_head.cuda_face_kernels import FACE_ROW, FACES_A_BLOCK
    from avatars.rgb_head.cuda_face_kernels import face_rows as kernel

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
    """Inputs: rows, face, barycentrics, hidden, five attributes, then ψ and three deltas or four Nones."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, face: Tensor, barycentrics: Tensor, hidden: Tensor, *parts: Tensor | None
    ) -> tuple[Tensor, ...]:
        from avatars.rgb_head.cuda_kernels import GAUSSIANS_A_BLOCK, MOST_AT_ONCE, WARPS
        from avatars.rgb_head.cuda_kernels import place as kernel

        attributes, blend = parts[:5], parts[5:]
        batch, count = len(rows), len(face)
        shapes = ((3,), (4,), (3,), (), (3,), ())
        out = tuple(rows.new_empty(batch, count, *shape) for shape in shapes)
        psi = blend[0]
        group = min(MOST_AT_ONCE, 1 << max(batch - 1, 0).bit_length())  # more would not fit into registers
        if batch * count:
            kernel[(-(-count // GAUSSIANS_A_BLOCK), -(-batch // group))](
                rows, face, barycentrics, hidden, *attributes, *(rows if part is None else part for part in blend),
                *out, rows.shape[1], count, batch,
                SHAPES=0 if psi is None else psi.shape[1], BATCH=group, BLOCK=GAUSSIANS_A_BLOCK, num_warps=WARPS,
            )  # fmt: skip
        ctx.save_for_backward(rows, face, *blend, *out[1:])
        return out[:5]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.rgb_head.cuda_kernels import GAUSSIANS_A_BLOCK, WARPS
        from avatars.rgb_head.cuda_kernels import place_backward as kernel

        rows, face, psi, *rest = ctx.saved_tensors
        deltas, out = rest[:3], rest[3:]
        batch, count = len(rows), len(face)
        new = rows.new_empty
        base = (new(count, 3), new(count, 4), new(count, 3), new(count), new(count, 3))
        pulls = () if psi is None else tuple(new(batch, count, size) for size in (3, 4, 3))
        if count * batch:
            kernel[(-(-count // GAUSSIANS_A_BLOCK),)](
                rows, face, *out, *(gradient.contiguous() for gradient in gradients),
                *base, *(pulls or (rows, rows, rows)), rows.shape[1], count,
                BATCHES=batch, BLENDED=psi is not None, BLOCK=GAUSSIANS_A_BLOCK, num_warps=WARPS,
            )  # fmt: skip
        if psi is None:
            return None, None, None, None, *base, None, None, None, None
        by_delta = tuple(
            torch.mm(psi.T, pull.flatten(1)).view_as(delta) for pull, delta in zip(pulls, deltas, strict=True)
        )
        by_psi = torch.zeros_like(psi)
        for pull, delta in zip(pulls, deltas, strict=True):
            by_psi += long_products(pull.flatten(1), delta.flatten(1))
        return None, None, None, None, *base, by_psi, *by_delta


def long_products(left: Tensor, right: Tensor) -> Tensor:
    """left [L, M] times right [R, M] transposed, for a few rows of great length: [L, R] float32."""
    from avatars.rgb_head.cuda_kernels import PRODUCT_BLOCK, PRODUCT_RUN, products

    lefts, rights = len(left), len(right)
    tall, wide = (max(16, 1 << max(size - 1, 0).bit_length()) for size in (lefts, rights))
    runs = -(-left.shape[1] // (PRODUCT_RUN * PRODUCT_BLOCK))
    sums = left.new_zeros(max(runs, 1), tall, wide)
    if left.numel() and right.numel():
        products[(runs,)](
            left, right, sums, lefts, rights, left.shape[1], LEFT=tall, RIGHT=wide, RUN=PRODUCT_RUN, BLOCK=PRODUCT_BLOCK
        )
    return sums.sum(0)[:lefts, :rights]


def place(
    rows: FaceRows,
    binding: UvBinding,
    attributes: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    blend: tuple[Tensor, Tensor, Tensor, Tensor] | None,
    hidden: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """World means [B, N, 3] m, quats [B, N, 4], scales [B, N, 3] m, opacities [B, N] and colours [B, N, 3].

    attributes: raw positions [N, 3], rotations [N, 4], scales [N, 3], opacities [N], colours [N, 3]. blend: ψ [B, K]
    and the deltas [K, N, 3 | 4 | 3] of positions, rotations and colours, or None. hidden [N] bool: those get opacity 0,
    as does what is not finite. Differentiable by attributes, ψ and deltas.
    """
    shared = (None, None, None, None) if blend is None else (blend[0].contiguous(), *blend[1:])
    return _Place.apply(  # type: ignore[no-untyped-call, no-any-return]
        rows.rows, binding.face, binding.barycentrics, hidden, *attributes, *shared
    )
