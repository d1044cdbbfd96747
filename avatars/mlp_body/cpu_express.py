"""`express` and `seen_colours` on the CPU, compiled, in one pass each way; the torch forms are the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.mlp_body import cpu_express_kernels as kernels
from avatars.mlp_body.neighbours import gathered_back
from avatars.mlp_body.sources import Sources
from avatars.rendering import jit

NOTHING = np.zeros((0, 0, 0), np.float32)


def usable(tensor: Tensor) -> bool:
    """Whether the kernels serve this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


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
        turns: Tensor,
    ) -> tuple[Tensor, ...]:
        batch, count = len(transforms), neutral.shape[1]
        rest = rest[:1] if rest.stride(0) == 0 else rest
        shapes = ((batch, count, 3), (batch, count, 4), (batch, count, 3), (batch, count), (batch, count, 3))
        out = tuple(np.empty(shape, np.float32) for shape in shapes)
        tint = np.empty((batch, count if tinted else 0, 3, 3), np.float32)
        raw, canonical = np.empty((batch, 4, count), np.float32), np.empty((batch, 3, count), np.float32)
        along = np.empty((batch, 0 if said is None else sources.basis, count), np.float32)
        tables = tuple(_array(table) for table in (neutral, bases, sh1, sh1_bases, wiggle))
        anchors, points = sources.anchors, sources.controls
        given = (
            *tables,
            NOTHING if said is None else _array(said),
            *(_array(part) for part in (anchors.index, anchors.weight, controls, points.index, points.weight)),
            *(_array(part) for part in (rest, transforms, turns)),
        )
        flags = (float(sources.wiggle_m), said is not None, tinted)
        pieces = count // kernels.BLOCK
        jit.run(kernels.express_forward, *given, *out, tint, raw, canonical, along, *flags, pieces=pieces)
        found = tuple(torch.from_numpy(part) for part in (*out, tint))
        ctx.sources, ctx.tinted, ctx.said = sources, tinted, None if said is None else said.shape
        saved = (torch.from_numpy(part) for part in (raw, canonical, along))
        ctx.save_for_backward(bases, sh1_bases, wiggle, transforms, turns, *saved, found[2], found[3])
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wiggle, transforms = ctx.saved_tensors[2:4]
        batch, count, basis = len(transforms), wiggle.shape[1], ctx.sources.basis
        active, tinted, refined = ctx.said is not None, ctx.tinted, ctx.needs_input_grad[10]

        def zeros(*shape: int, wanted: bool = True) -> Any:
            return np.zeros(shape if wanted else (0,) * len(shape), np.float32)

        tables = (
            zeros(11, count),
            zeros(basis, 11, count, wanted=active),
            zeros(9, count, wanted=tinted),
            zeros(basis, 9, count, wanted=active and tinted),
            zeros(3, count),
        )
        g_along, g_moved = zeros(count, batch, basis, wanted=active), zeros(count, batch, 3)
        g_transforms = zeros(batch, 12, count, wanted=refined)
        given = tuple(_array(part) for part in (*ctx.saved_tensors, *gradients))
        flags = (float(ctx.sources.wiggle_m), active, tinted, refined)
        pieces = count // kernels.BLOCK
        jit.run(kernels.express_backward, *given, *tables, g_along, g_moved, g_transforms, *flags, pieces=pieces)
        neutral, g_bases, g_sh1, g_sh1_bases, g_wiggle = (torch.from_numpy(table) for table in tables)
        moved = torch.from_numpy(g_moved).flatten(1)
        by_control = gathered_back(moved, ctx.sources.controls).unflatten(1, (batch, 3)).transpose(0, 1)
        by_said = None
        if active:
            by_said = torch.zeros(ctx.said)
            by_anchor = gathered_back(torch.from_numpy(g_along).flatten(1), ctx.sources.anchors)
            by_said[..., :basis] = by_anchor.unflatten(1, (batch, basis))
        found = (neutral, g_bases if active else None, g_sh1 if tinted else None)
        more = (g_sh1_bases if active and tinted else None, g_wiggle, by_said, by_control, None)
        return (None, None, *found, *more, torch.from_numpy(g_transforms) if refined else None, None)


def express(
    tables: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    sources: Sources,
    said: Tensor | None,
    controls: Tensor,
    rest: Tensor,
    transforms: Tensor,
    turns: Tensor,
    *,
    tinted: bool,
) -> tuple[Tensor, ...]:
    """As `cuda_express.express`; turns [U, 4, N]: unit quaternions of the transforms, without a gradient."""
    return _Express.apply(sources, tinted, *tables, said, controls, rest, transforms, turns)  # type: ignore[no-untyped-call, no-any-return]


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        out = np.empty((len(rows), base.shape[1], 3), np.float32)
        coloured = np.zeros((0, 0, 0, 0), np.float32) if tint is None else _array(tint)
        given = (_array(base), coloured, _array(means), _array(rows), _array(positions))
        pieces = base.shape[1] // kernels.BLOCK
        jit.run(kernels.colours_forward, *given, out, tint is not None, pieces=pieces)
        found = torch.from_numpy(out)
        ctx.tinted, ctx.batch = tint is not None, len(base)
        ctx.save_for_backward(means, rows, positions, found)
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        means = ctx.saved_tensors[0]
        count = means.shape[1]
        g_base = np.zeros((ctx.batch, count, 3), np.float32)
        g_tint = np.zeros((ctx.batch, count, 3, 3) if ctx.tinted else (0, 0, 0, 0), np.float32)
        given = tuple(_array(part) for part in (*ctx.saved_tensors, gradient))
        jit.run(kernels.colours_backward, *given, g_base, g_tint, ctx.tinted, pieces=count // kernels.BLOCK)
        return torch.from_numpy(g_base), torch.from_numpy(g_tint) if ctx.tinted else None, None, None, None


def seen_colours(base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """As `cuda_express.seen_colours`."""
    return _Colours.apply(base, tint, means.detach(), rows, positions)  # type: ignore[no-untyped-call, no-any-return]
