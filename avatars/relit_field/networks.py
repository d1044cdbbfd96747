"""Small networks: a weight-normalised distance network that begins as a sphere, a plain one, a Lipschitz-bounded one.

Sources: geometric start, Atzmon and Lipman, "SAL" (2020); Lipschitz bound, Liu et al., "Learning Smooth Neural
Functions via Lipschitz Regularization" (2022).
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from avatars.relit_field.fused import fused

SOFTNESS = 100.0


def layer(inputs: int, outputs: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """A linear layer's weight [outputs, inputs] and bias [outputs], uniform by fan-in as torch's own."""
    bound = 1 / math.sqrt(inputs)
    weight = (torch.rand(outputs, inputs, generator=generator) * 2 - 1) * bound
    bias = (torch.rand(outputs, generator=generator) * 2 - 1) * bound
    return nn.Parameter(weight), nn.Parameter(bias)


class DistanceNetwork(nn.Module):
    """[P, 3 + grid] -> [P, features]: the first is the signed distance in half boxes, all of them describe the place.

    Weight-normalised: rows have direction `v` and length `g`. The start ignores the grid and is |x| - radius, roughly:
    a hidden layer of few units makes a bumpy sphere.
    """

    def __init__(
        self, grid: int, width: int, layers: int, features: int, radius: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [3 + grid, *[width] * layers, features]
        self.v, self.g, self.b = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for number, (inputs, outputs) in enumerate(pairwise(sizes)):
            last = number == layers
            if last:
                weight = math.sqrt(math.pi / inputs) + 1e-4 * torch.randn(outputs, inputs, generator=generator)
                bias = torch.full((outputs,), -radius)
            else:
                weight = torch.randn(outputs, inputs, generator=generator) * math.sqrt(2 / outputs)
                bias = torch.zeros(outputs)
                if number == 0:
                    weight[:, :3] = evenly_spread(outputs) * math.sqrt(6 / outputs)
                    weight[:, 3:] = 0
            self.v.append(nn.Parameter(weight))
            self.g.append(nn.Parameter(weight.norm(dim=1, keepdim=True)))
            self.b.append(nn.Parameter(bias))

    def forward(self, inputs: Tensor) -> Tensor:
        """[P, features] of [P, 3 + grid]."""
        found = inputs
        for number, (v, g, b) in enumerate(zip(self.v, self.g, self.b, strict=True)):
            found = linear(found, g * v / v.norm(dim=1, keepdim=True).clamp_min(1e-12), b)
            if number < len(self.v) - 1:
                found = softplus(found, beta=SOFTNESS)
        return found

    def with_slope(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """[P, features] of [P, 3 + grid], and the distance's slope in the inputs [P, 3 + grid], by the chain rule: one
        gradient of it is a gradient of normals."""
        found: tuple[Tensor, Tensor] = _with_slope(inputs, tuple(self.v), tuple(self.g), tuple(self.b))
        return found


@fused
def _with_slope(
    inputs: Tensor, directions: tuple[Tensor, ...], lengths: tuple[Tensor, ...], biases: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    weights = [g * v / v.norm(dim=1, keepdim=True).clamp_min(1e-12) for v, g in zip(directions, lengths, strict=True)]
    found, bent = inputs, []
    for number, (weight, b) in enumerate(zip(weights, biases, strict=True)):
        found = linear(found, weight, b)
        if number < len(weights) - 1:
            bent.append(torch.sigmoid(SOFTNESS * found))
            found = softplus(found, beta=SOFTNESS)
    slope = weights[-1][:1].expand(len(inputs), -1)
    for weight, share in zip(reversed(weights[:-1]), reversed(bent), strict=True):
        slope = (slope * share) @ weight
    return found, slope


def evenly_spread(count: int) -> Tensor:
    """[count, 3] unit directions on a Fibonacci sphere."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * index / count, index * (math.pi * (1 + math.sqrt(5)))
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * turn.cos(), radius * turn.sin(), z), -1).float()


class ColourNetwork(nn.Module):
    """[P, inputs] -> [P, 3] in 0..1 by hidden ReLU layers and a sigmoid."""

    def __init__(self, inputs: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs, *[width] * layers, 3]
        made = [layer(before, after, generator) for before, after in pairwise(sizes)]
        self.w = nn.ParameterList([weight for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])

    def forward(self, inputs: Tensor) -> Tensor:
        """Colours [P, 3] of [P, inputs]."""
        found = inputs
        for number, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            found = linear(found, w, b)
            found = torch.relu(found) if number < len(self.w) - 1 else torch.sigmoid(found)
        return found


class LipschitzNetwork(nn.Module):
    """[P, inputs] -> [P, outputs], ReLU between layers; each layer's rows are held below a learned bound."""

    def __init__(self, inputs: int, width: int, layers: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs, *[width] * layers, outputs]
        made = [layer(before, after, generator) for before, after in pairwise(sizes)]
        self.w = nn.ParameterList([weight for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])
        self.c = nn.ParameterList([nn.Parameter(_inverse_softplus(weight.abs().sum(1).max())) for weight, _ in made])

    def forward(self, inputs: Tensor) -> Tensor:
        """[P, outputs] of [P, inputs], before any squashing."""
        found: Tensor = _held(inputs, tuple(self.w), tuple(self.b), tuple(self.c))
        return found

    def bound(self) -> Tensor:
        """The product of the layers' bounds: no output changes by more than this when inputs change by 1."""
        return torch.stack([softplus(c) for c in self.c]).prod()


@fused
def _held(
    inputs: Tensor, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...], bounds: tuple[Tensor, ...]
) -> Tensor:
    found = inputs
    for number, (w, b, c) in enumerate(zip(weights, biases, bounds, strict=True)):
        held = w * (softplus(c) / w.abs().sum(1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
        found = linear(found, held, b)
        found = torch.relu(found) if number < len(weights) - 1 else found
    return found


def _inverse_softplus(value: Tensor) -> Tensor:
    return value.detach() + torch.log(-torch.expm1(-value.detach()))


HARMONICS = (
    (0, "", 0.28209479177387814),
    (1, "y", -0.4886025119029199),
    (2, "z", 0.4886025119029199),
    (3, "x", -0.4886025119029199),
    (4, "xy", 1.0925484305920792),
    (5, "yz", -1.0925484305920792),
    (6, "zz", 3 * 0.31539156525252005),
    (6, "", -0.31539156525252005),
    (7, "xz", -1.0925484305920792),
    (8, "xx", 0.5462742152960396),
    (8, "yy", -0.5462742152960396),
    (9, "xxy", -3 * 0.5900435899266435),
    (9, "yyy", 0.5900435899266435),
    (10, "xyz", 2.890611442640554),
    (11, "yzz", -5 * 0.4570457994644658),
    (11, "y", 0.4570457994644658),
    (12, "zzz", 5 * 0.3731763325901154),
    (12, "z", -3 * 0.3731763325901154),
    (13, "xzz", -5 * 0.4570457994644658),
    (13, "x", 0.4570457994644658),
    (14, "xxz", 1.445305721320277),
    (14, "yyz", -1.445305721320277),
    (15, "xxx", -0.5900435899266435),
    (15, "xyy", 3 * 0.5900435899266435),
)
"""Of each harmonic the products of coordinates it is made of, and their factors."""


@cache
def _harmonics(device: torch.device, dtype: torch.dtype) -> Tensor:
    """[64, 16]: harmonics of the products of three among (1, x, y, z)."""
    table = torch.zeros(4, 4, 4, 16, dtype=torch.float64)
    for column, product, factor in HARMONICS:
        a, b, c = ("1xyz".index(letter) for letter in product.ljust(3, "1"))
        table[a, b, c, column] = factor
    return table.view(64, 16).to(device, dtype)


def sphere_harmonics_16(directions: Tensor) -> Tensor:
    """Real spherical harmonics of bands 0 to 3, [P, 16], of unit directions [P, 3]: how networks see a direction.

    All products of three coordinates, then one matrix: few operations, which is what a GPU's host has to hand out.
    """
    found: Tensor = _products(directions, _harmonics(directions.device, directions.dtype))
    return found


@fused
def _products(directions: Tensor, factors: Tensor) -> Tensor:
    one = torch.cat((torch.ones_like(directions[:, :1]), directions), -1)
    two = (one[:, :, None] * one[:, None]).flatten(1)
    return (two[:, :, None] * one[:, None]).flatten(1) @ factors
