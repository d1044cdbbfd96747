"""Posing a head in three kernels on CUDA: joints, skin, weight network. `RgbHead.pose` in torch is the reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatars.rgb_head.driving import DrivingLayout
from avatars.rgb_head.model import RgbHead

LAYERS = (nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear)


def usable(model: RgbHead) -> bool:
    """Whether the kernels know this head's network."""
    return len(model.network) == len(LAYERS) and all(
        isinstance(layer, kind) for layer, kind in zip(model.network, LAYERS, strict=True)
    )


class CudaPose:
    """The tables the kernels need of a head, made once. The head's parameters are read where they lie."""

    def __init__(self, model: RgbHead) -> None:
        self.model = model
        device, template = model.positions.device, model.head.template
        self.parents = torch.tensor(template.parents, dtype=torch.int32, device=device)
        row = torch.full((len(model.head.vertices),), -1, dtype=torch.int32, device=device)
        moved = template.expression_vertices
        row[moved] = torch.arange(len(moved), dtype=torch.int32, device=device)
        self.expression_row = row
        arrays = template.arrays
        source, sign = theta_sources(model.layout, arrays.joint_names, arrays.expression_names)
        self.source, self.sign = source.to(device), sign.to(device)

    def __call__(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices [B, V, 3] m and ψ [B, K] for rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E]."""
        from avatars.rgb_head import cuda_pose_kernels as kernels

        model, template = self.model, self.model.head.template
        batch, joints, amount = len(rotations), rotations.shape[1], expressions.shape[1]
        rotations, translations, expressions = (part.contiguous() for part in (rotations, translations, expressions))
        new = rotations.new_empty
        matrices, placed, skinning = new(batch, joints, 9), new(batch, joints, 12), new(batch, joints, 12)
        kernels.joints[(batch,)](
            rotations, translations, expressions, model.head.joints, template.joint_expression_dirs, self.parents,
            matrices, placed, skinning, joints, amount, PADDED=_power(joints), num_warps=1,
        )  # fmt: skip
        count, bent = len(model.head.vertices), template.has_pose_dirs
        vertices = new(batch, count, 3)
        kernels.skin[(-(-count // kernels.VERTICES_A_BLOCK), batch)](
            model.head.vertices, expressions, template.expression_dirs, self.expression_row, matrices,
            template.pose_dirs if bent else matrices, template.weights, skinning, vertices,
            count, len(template.expression_vertices), joints, amount,
            POSED=bent, BLOCK=kernels.VERTICES_A_BLOCK, num_warps=2,
        )  # fmt: skip
        layers = [layer for layer in model.network if isinstance(layer, nn.Linear)]
        hidden, shapes, seen = layers[0].out_features, layers[2].out_features, model.driving_range
        psi, scratch = new(batch, shapes), new(batch, 2, _power(hidden))
        kernels.network[(batch,)](
            expressions, matrices, translations, self.source, self.sign,
            seen.low, seen.high, seen.mean, seen.sigma.clamp_min(0.05),
            *(value for layer in layers for value in (layer.weight, layer.bias)), scratch, psi,
            amount, 9 * joints, len(self.source), hidden, shapes,
            HIDDEN=_power(hidden), SHAPES=_power(shapes), CHUNK=kernels.CHUNK,
        )  # fmt: skip
        return vertices, psi


def _power(size: int) -> int:
    """The least power of two that is not below `size`."""
    return 1 << max(size - 1, 0).bit_length()


def theta_sources(
    layout: DrivingLayout, joint_names: tuple[str, ...], expression_names: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """For each number of θ its place in (expressions, rotation matrices [J, 9], translation), int32, and its sign.

    In y-up axes (x, y, z) becomes (x, z, -y), so a matrix entry moves and may change its sign, but stays one entry.
    """
    places, signs = [], []
    expressions, joints = len(expression_names), len(joint_names)
    swap, flip = (0, 2, 1), (1.0, 1.0, -1.0)
    for field in layout.fields:
        axes, ways = (swap, flip) if field.axes == "y_up" else ((0, 1, 2), (1.0, 1.0, 1.0))
        if field.kind == "expressions":
            places += [expression_names.index(name) for name in field.names]
            signs += [1.0] * len(field.names)
        elif field.kind == "translation":
            places += [expressions + 9 * joints + axis for axis in axes]
            signs += list(ways)
        else:
            for name in field.names:
                start = expressions + 9 * joint_names.index(name)
                places += [start + 3 * axes[i] + axes[j] for i in range(2) for j in range(3)]
                signs += [ways[i] * ways[j] for i in range(2) for j in range(3)]
    return torch.tensor(places, dtype=torch.int32), torch.tensor(signs, dtype=torch.float32)
