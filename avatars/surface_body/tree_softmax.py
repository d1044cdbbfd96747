"""Skinning weights as shares handed down a skeleton (hierarchical softmax of SNARF, Chen et al. 2021; method page 3.3).

The root begins with all; every joint keeps a part and passes the rest to its children. So a hand can only follow what
its arm was given, and any two neighbouring joints share what lies between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from shared.errors import BadTemplate


class TreeSoftmax(nn.Module):
    """Numbers [P, outputs] -> weights [P, J], rows summing to 1, for one tree of J joints whose parents come first.

    The only child of a joint is passed sigmoid of its own number; several children sigmoid of the joint's gate, shared
    by softmax of theirs. The root's gate is its own number; those of other branching joints follow after the first J.
    For SMPL's 24 joints that makes 25 numbers, as published. Raises BadTemplate for other skeletons.
    """

    above: Tensor
    passing: Tensor
    gates: Tensor
    alone: Tensor
    forked: Tensor

    def __init__(self, parents: Sequence[int]) -> None:
        super().__init__()
        count = len(parents)
        if not count or parents[0] >= 0 or any(not 0 <= parents[joint] < joint for joint in range(1, count)):
            raise BadTemplate(
                "skinning weights cannot be handed down this skeleton",
                found=str(list(parents)),
                expected="one root, first, and parents before their children",
            )
        children = [[joint for joint in range(count) if parents[joint] == parent] for parent in range(count)]
        self.outputs = count
        self.branches: list[tuple[int, slice]] = []
        forked: list[int] = []
        gate_of: list[int] = []
        for joint, those in enumerate(children):
            gate = those[0] if len(those) == 1 else joint
            if len(those) > 1 and joint > 0:
                gate, self.outputs = self.outputs, self.outputs + 1
            gate_of.append(gate if those else -1)
            if len(those) > 1:
                self.branches.append((gate, slice(len(forked), len(forked) + len(those))))
                forked += those
        self.count = count
        passing = [joint for joint in range(count) if children[joint]]
        for name, rows in (
            ("passing", passing),
            ("gates", [gate_of[joint] for joint in passing]),
            ("alone", [those[0] for those in children if len(those) == 1]),
            ("forked", forked),
        ):
            self.register_buffer(name, torch.tensor(rows, dtype=torch.int64), persistent=False)
        above = torch.zeros(count, count)
        for joint in range(count):
            above[joint, joint] = 1
            if joint:
                above[joint] += above[parents[joint]]
        self.register_buffer("above", above, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Weights [P, J] of numbers [P, outputs], by sums of logarithms from the root on."""
        passed = numbers.new_zeros(len(numbers), self.count)
        passed = passed.index_copy(1, self.alone, logsigmoid(numbers.index_select(1, self.alone)))
        if self.branches:
            children = numbers.index_select(1, self.forked)
            shares = [
                logsigmoid(numbers[:, gate, None]) + torch.log_softmax(children[:, those], -1)
                for gate, those in self.branches
            ]
            passed = passed.index_copy(1, self.forked, torch.cat(shares, 1))
        kept = torch.zeros_like(passed)
        kept = kept.index_copy(1, self.passing, logsigmoid(-numbers.index_select(1, self.gates)))
        return (passed @ self.above.T.to(passed) + kept).exp()


def handed_down(numbers: Tensor, parents: Sequence[int]) -> Tensor:
    """What `TreeSoftmax` gives, joint by joint: the reference it is tested against."""
    count = len(parents)
    mass = {0: torch.ones_like(numbers[:, 0])}
    weights, extra = [], count
    for joint in range(count):
        those = [child for child in range(count) if parents[child] == joint]
        if not those:
            weights.append(mass[joint])
            continue
        gate = those[0]
        if len(those) > 1:
            gate = 0 if joint == 0 else extra
            extra += joint > 0
        share = torch.sigmoid(numbers[:, gate])
        parts = torch.softmax(numbers[:, those], -1)
        for child, part in zip(those, parts.unbind(-1), strict=True):
            mass[child] = mass[joint] * share * part
        weights.append(mass[joint] * (1 - share))
    return torch.stack(weights, -1)
