"""One frame of a finished body on CUDA: networks and bases in half precision, nine kernels, nothing kept for gradients.

`MlpBody.pose` is the reference: of a body whose networks and bases are rounded to half precision it gives the same
numbers but for the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.mlp_body.model import MlpBody
from avatars.mlp_body.neighbours import Mixing


@dataclass(frozen=True, eq=False)
class Near:
    """A `Mixing` as the kernels read it. index [k, N] int32; weight [k, N]."""

    index: Tensor
    weight: Tensor

    @staticmethod
    def of(mixing: Mixing) -> Near:
        """The same with the points last."""
        return Near(mixing.index.T.to(torch.int32).contiguous(), mixing.weight.T.contiguous())


@dataclass(frozen=True, eq=False)
class PosedParts:
    """One posed frame. means, scales, base, colours, normals [1, N, 3]; quats [1, N, 4]; opacities [1, N].

    tint [1, N, 3, 3] as in `express.Expressed`. base, tint: None where colour does not depend on the view (colours are
    base cut at 0); normals: None where they were not asked for. All but they lie in `memory`, one flat tensor.
    """

    memory: Tensor
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    base: Tensor | None
    tint: Tensor | None
    normals: Tensor | None

    @staticmethod
    def within(memory: Tensor, count: int, *, tinted: bool, normals: bool) -> PosedParts:
        """The parts of N = count Gaussians in a flat tensor of `PosedParts.size`."""
        shapes = {"quats": (4,), "means": (3,), "scales": (3,), "opacities": (), "colours": (3,)}
        if tinted:
            shapes |= {"base": (3,), "tint": (3, 3)}
        if normals:
            shapes["normals"] = (3,)
        found: dict[str, Tensor | None] = {"base": None, "tint": None, "normals": None}
        at = 0
        padded = -(-count // 4) * 4  # every part begins on sixteen bytes
        for name, last in shapes.items():
            width = int(torch.Size(last).numel())
            found[name] = memory[at : at + count * width].view(1, count, *last)
            at += padded * width
        return PosedParts(memory, **found)  # type: ignore[arg-type]

    @staticmethod
    def size(count: int, *, tinted: bool, normals: bool) -> int:
        """How many numbers they take."""
        return -(-count // 4) * 4 * (14 + 12 * tinted + 3 * normals)

    def copied(self) -> PosedParts:
        """The same in memory of its own."""
        tinted, normals = self.tint is not None, self.normals is not None
        return PosedParts.within(self.memory.clone(), self.means.shape[1], tinted=tinted, normals=normals)


class HalfBody:
    """A body packed for posing single frames. What is changed in the model afterwards is not seen.

    The model stays what it is and lends its points and its skeleton.
    """

    def __init__(self, model: MlpBody) -> None:
        self.model = model
        points, skeleton, device = model.points, model.canonical.skeleton, model.neutral.device
        with torch.no_grad():
            self.networks = [weight.detach().half().contiguous() for weight in model.networks.weights]
            self.biases = [bias.detach()[:, 0].contiguous().clone() for bias in model.networks.biases]
            self.neutral, self.sh1 = model.neutral.detach().clone(), model.sh1.detach().clone()
            own = [model.bases.detach(), *([model.sh1_bases.detach()] if model.view_dependent else [])]
            self.bases = torch.cat([part.half() for part in own], 1).contiguous()
            self.offsets = model.control_offsets.detach().clone()
            self.control_bases = model.control_bases.detach().clone()
            self.rest = (model.xyz_rows + model.wiggle_m * torch.tanh(model.wiggle.detach())).contiguous()
        self.anchors, self.controls = Near.of(points.gaussian_anchors), Near.of(points.gaussian_controls)
        self.control_anchors = Near.of(points.control_anchors)
        self.sees, self.surface_normals = points.anchor_sees.contiguous(), points.normals.contiguous()
        slots = max(int((points.weights != 0).sum(1).max()), 1) if len(points.weights) else 1
        weights, index = points.weights.topk(slots, dim=1)
        self.joint_index = index.T.to(torch.uint8).contiguous()
        self.joint_weight = weights.T.contiguous()
        self.expression_row = torch.full((len(points.xyz),), -1, dtype=torch.int32, device=device)
        rows = points.expression_rows
        self.expression_row[rows] = torch.arange(len(rows), dtype=torch.int32, device=device)
        self.expression_dirs = points.expression_dirs.transpose(1, 2).contiguous()
        self.parents = torch.tensor(skeleton.parents, dtype=torch.int32, device=device)
        self.depth = _depth(skeleton.parents)
        joints = 3 * model.driving_joints[:, None] + torch.arange(3, device=device)
        self.sources = torch.cat((joints.flatten(), -1 - model.driving_expressions)).to(torch.int32)
        self.skeleton = [skeleton.joints, skeleton.joint_dirs, skeleton.big_turned, skeleton.big_placed]
        self.skeleton = [part.float().contiguous() for part in self.skeleton]

    def posed(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, clamped: bool, normals: bool
    ) -> PosedParts:
        """World Gaussians of rotations [1, J, 3] rad, translations [1, 3] m, expressions [1, E], all contiguous."""
        from avatars.mlp_body import cuda_posing_kernels as kernels

        count, new = len(self.model), self.neutral.new_empty
        tinted = self.model.view_dependent
        said, skinning = self._said(rotations, translations, expressions, clamped=clamped)
        moves = new(self.offsets.shape)
        block, few = kernels.GAUSSIANS_A_BLOCK, kernels.CONTROLS_A_BLOCK
        near, row, basis = len(self.anchors.index), said.shape[1], self.model.basis
        wide = 1 << (near - 1).bit_length()
        kernels.control_moves[(-(-len(moves) // few),)](
            said, row, basis, self.control_anchors.index, self.control_anchors.weight, self.offsets,
            self.control_bases, moves, len(moves), len(self.control_bases),
            NEAR=near, WIDE=wide, BLOCK=few, num_warps=2,
        )  # fmt: skip
        memory = new(PosedParts.size(count, tinted=tinted, normals=normals))
        out = PosedParts.within(memory, count, tinted=tinted, normals=normals)
        shown, moved = expressions.shape[1], self.expression_dirs.shape[2]
        kernels.pose_gaussians[(-(-count // block),)](
            self.neutral, self.sh1, self.bases, said, row, self.anchors.index, self.anchors.weight, moves,
            self.controls.index, self.controls.weight, self.rest, skinning, self.joint_index, self.joint_weight,
            len(self.joint_index), expressions, shown, self.expression_row, self.expression_dirs, moved,
            self.surface_normals, out.means, out.quats, out.scales, out.opacities,
            out.colours if out.base is None else out.base, out.colours,
            out.colours if out.tint is None else out.tint, out.colours if out.normals is None else out.normals,
            count, basis, NEAR=near, WIDE=wide, TINTED=tinted, EXPRESSIVE=bool(shown and moved), NORMALS=normals,
            BLOCK=block, num_warps=kernels.WARPS,
        )  # fmt: skip
        return out

    def _said(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, clamped: bool
    ) -> tuple[Tensor, Tensor]:
        """What the anchors say [F, basis + control_basis], and the joints' matrices [J, 12]."""
        from avatars.mlp_body import cuda_posing_kernels as kernels

        model, new = self.model, self.neutral.new_empty
        known = model.pose_range if clamped else None
        joints, dirs, big_turned, big_placed = self.skeleton
        count, drive = len(joints), len(self.sources)
        skinning, theta = new(count, 12), new(drive)
        mean, ways, reach = (theta, theta, theta)
        if known is not None:
            mean, ways, reach = known.mean, known.components, known.limit * known.sigmas
        rows = 0 if known is None else len(known.components)
        kernels.joints_and_drive[(2,)](
            rotations, translations, expressions, joints, dirs, self.parents, big_turned, big_placed,
            new(count, 3), skinning, self.sources, mean, ways, reach, theta, count, expressions.shape[1], self.depth,
            drive, rows, CLAMPED=known is not None, JOINTS=_wide(count), DRIVE=_wide(drive), COMPONENTS=_wide(rows),
        )  # fmt: skip
        x, last = theta, len(self.networks) - 1
        for at, (weight, bias) in enumerate(zip(self.networks, self.biases, strict=True)):
            networks, inputs, outputs = weight.shape
            y = new(networks, outputs)
            block = min(_wide(outputs), kernels.OUTPUTS_A_BLOCK)
            kernels.layer[(networks, -(-outputs // block))](
                x, 0 if at == 0 else inputs, self.sees, weight, bias, y, inputs, outputs,
                SEEN=at == 0, LAST=at == last, TURN=kernels.INPUTS_A_TURN, BLOCK=block,
            )  # fmt: skip
            x = y
        return x, skinning


def _wide(count: int) -> int:
    """The power of two that holds so many, at least 16."""
    return 1 << max(count - 1, 15).bit_length()


def _depth(parents: tuple[int, ...]) -> int:
    """Joints on the longest way to the root, its ends included."""
    longest = 0
    for joint in range(len(parents)):
        steps, at = 0, joint
        while at >= 0:
            steps, at = steps + 1, parents[at]
        longest = max(longest, steps)
    return longest
