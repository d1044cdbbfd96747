"""`express` and `seen_colours` on CUDA, one kernel each way; the torch forms are the reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.mlp_body.neighbours import gathered_back
from avatars.mlp_body.sources import Sources
from avatars.rendering.has_triton import available


def usable(tensor: Tensor) -> bool:
    """Whether the kernels serve this tensor's device."""
    return tensor.is_cuda and tensor.dtype == torch.float32 and available()


class _Express(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sources: Sources,
        tinted: bool,
        neutral: Tensor,
        bases: Tensor,
        sh1: Tensor,
        sh1_bases: Tensor,
        wiggle: Tensor,
        said: Tensor | None,
        controls: Tensor,
        rest: Tensor,
        transforms: Tensor,
    ) -> tuple[Tensor, ...]:
        from avatars.mlp_body.cuda_express_kernels import GAUSSIANS_A_BLOCK, WARPS
        from avatars.mlp_body.cuda_express_kernels import express_forward as kernel

        controls, transforms = controls.contiguous(), transforms.contiguous()
        said = None if said is None else said.contiguous()
        batch, count, basis = len(transforms), neutral.shape[1], sources.basis
        shapes = ((batch, count, 3), (batch, count, 4), (batch, count, 3), (batch, count), (batch, count, 3))
        out = tuple(neutral.new_empty(shape) for shape in shapes)
        tint = neutral.new_empty(batch, count if tinted else 0, 3, 3)
        turns, raw = neutral.new_empty(batch, 4, count), neutral.new_empty(batch, 4, count)
        canonical = neutral.new_empty(batch, 3, count)
        along = neutral.new_empty(batch, 0 if said is None else basis, count)
        rest = rest if rest.stride(-1) == 1 else rest.contiguous()
        stride = 0 if len(rest) == 1 or rest.stride(0) == 0 else 3 * count
        near = sources.anchors.index.shape[1]
        if count and batch:
            kernel[(-(-count // GAUSSIANS_A_BLOCK), batch)](
                neutral, bases, sh1, sh1_bases, wiggle, neutral if said is None else said,
                sources.anchors.index, sources.anchors.weight, controls, sources.controls.index,
                sources.controls.weight, rest, stride, transforms, *out, tint, turns, raw, canonical, along,
                sources.wiggle_m, count, basis, 0 if said is None else said.shape[2], controls.shape[1], batch,
                NEAR=near, ACTIVE=said is not None, TINTED=tinted, BLOCK=GAUSSIANS_A_BLOCK, num_warps=WARPS,
            )  # fmt: skip
        ctx.sources, ctx.tinted, ctx.said = sources, tinted, None if said is None else said.shape
        ctx.save_for_backward(bases, sh1_bases, wiggle, transforms, turns, raw, canonical, along, out[2], out[3])
        return (*out, tint)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.mlp_body.cuda_express_kernels import GAUSSIANS_A_BLOCK, WARPS
        from avatars.mlp_body.cuda_express_kernels import express_backward as kernel

        saved = ctx.saved_tensors
        bases, sh1_bases, wiggle, transforms = saved[:4]
        batch, count, basis = len(transforms), wiggle.shape[1], ctx.sources.basis
        active, tinted, refined = ctx.said is not None, ctx.tinted, ctx.needs_input_grad[10]
        new = wiggle.new_empty
        g_neutral, g_wiggle = new(11, count), torch.empty_like(wiggle)
        g_bases = torch.empty_like(bases) if active else new(0)
        g_sh1 = new(9, count) if tinted else new(0)
        g_sh1_bases = torch.empty_like(sh1_bases) if active and tinted else new(0)
        g_along = new(count, batch, basis) if active else new(0)
        g_moved = new(count, batch, 3)
        g_transforms = torch.empty_like(transforms) if refined else new(0)
        gradients = tuple(gradient.contiguous() for gradient in gradients)
        for pose in range(batch if count else 0):
            kernel[(-(-count // GAUSSIANS_A_BLOCK),)](
                *saved, *gradients,
                g_neutral, g_bases, g_sh1, g_sh1_bases, g_wiggle, g_along, g_moved, g_transforms,
                ctx.sources.wiggle_m, count, basis, pose, batch, FIRST=pose == 0,
                ACTIVE=active, TINTED=tinted, REFINED=refined, BLOCK=GAUSSIANS_A_BLOCK, num_warps=WARPS,
            )  # fmt: skip
        controls = ctx.sources.controls
        by_control = gathered_back(g_moved.flatten(1), controls).unflatten(1, (batch, 3)).transpose(0, 1)
        by_said = None
        if active:
            by_said = new(ctx.said)
            by_said[..., basis:] = 0
            by_anchor = gathered_back(g_along.flatten(1), ctx.sources.anchors)
            by_said[..., :basis] = by_anchor.unflatten(1, (batch, basis))
        found = (g_neutral, g_bases if active else None, g_sh1 if tinted else None)
        more = (g_sh1_bases if active and tinted else None, g_wiggle, by_said, by_control, None)
        return (None, None, *found, *more, g_transforms if refined else None)


def express(
    tables: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    sources: Sources,
    said: Tensor | None,
    controls: Tensor,
    rest: Tensor,
    transforms: Tensor,
    *,
    tinted: bool,
) -> tuple[Tensor, ...]:
    """means, quats, scales, opacities, base [U, N, …] and tint [U, N, 3, 3] (empty where not tinted).

    tables: neutral, bases, sh1, sh1_bases, wiggle as in `express.Tables`. said [F, U, ≥ basis]: what the anchors say,
    or None; controls [U, C, 3] m; rest [U or 1, 3, N]; transforms [U, 12, N]. Differentiable by all but rest.
    """
    return _Express.apply(sources, tinted, *tables, said, controls, rest, transforms)  # type: ignore[no-untyped-call, no-any-return]


def _coloured(base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    from avatars.mlp_body.cuda_express_kernels import GAUSSIANS_A_BLOCK
    from avatars.mlp_body.cuda_express_kernels import colours_forward as kernel

    base = base.contiguous()
    tint = None if tint is None else tint.contiguous()
    views, count = len(rows), base.shape[1]
    out = base.new_empty(views, count, 3)
    if count and views:
        kernel[(-(-count // GAUSSIANS_A_BLOCK), views)](
            base, base if tint is None else tint, means, rows, positions, out, count,
            TINTED=tint is not None, BLOCK=GAUSSIANS_A_BLOCK,
        )  # fmt: skip
    return out


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        means, rows, positions = means.contiguous(), rows.contiguous(), positions.contiguous()
        out = _coloured(base, tint, means, rows, positions)
        ctx.tinted, ctx.batch = tint is not None, len(base)
        ctx.save_for_backward(means, rows, positions, out)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.mlp_body.cuda_express_kernels import GAUSSIANS_A_BLOCK
        from avatars.mlp_body.cuda_express_kernels import colours_backward as kernel

        means, rows, positions, out = ctx.saved_tensors
        count = out.shape[1]
        g_base = out.new_empty(ctx.batch, count, 3)
        g_tint = out.new_empty(ctx.batch, count, 3, 3) if ctx.tinted else None
        if count:
            kernel[(-(-count // GAUSSIANS_A_BLOCK), ctx.batch)](
                means, rows, positions, out, gradient.contiguous(), g_base, g_base if g_tint is None else g_tint,
                count, len(rows), TINTED=ctx.tinted, BLOCK=GAUSSIANS_A_BLOCK,
            )  # fmt: skip
        return g_base, g_tint, None, None, None


def seen_colours(base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Colours [B, N, 3] >= 0 of poses `rows` [B] seen from positions [B, 3] m; differentiable by base and tint.

    base, means [U, N, 3]; tint [U, N, 3, 3] or None.
    """
    if not torch.is_grad_enabled():
        return _coloured(base, tint, means.contiguous(), rows.contiguous(), positions.contiguous())
    return _Colours.apply(base, tint, means.detach(), rows, positions)  # type: ignore[no-untyped-call, no-any-return]
