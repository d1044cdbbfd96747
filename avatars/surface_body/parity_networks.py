"""The published method's small networks (method page 3).

Weight-normalised layers, encodings whose octaves open one after the other, colours as in IDR (Yariv et al. 2020),
skinning weights from a network, and corrections of poses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from avatars.relit_field.networks import SOFTNESS, layer
from avatars.surface_body.tree_softmax import TreeSoftmax

OCTAVES = 6
WEIGHT_SHARPNESS = 20.0
SMALL = 1e-5
POSE_SHIFT = 0.01
"""The published refiner sees poses moved by so much, so that no input is exactly zero."""


class NormedNetwork(nn.Module):
    """[P, sizes[0]] -> [P, sizes[-1]]; rows of weights have a direction and a length; torch's usual start.

    Between layers softplus of sharpness `softness`, or ReLU where that is 0; none after the last.
    """

    def __init__(self, sizes: Sequence[int], softness: float, generator: torch.Generator) -> None:
        super().__init__()
        made = [layer(inputs, outputs, generator) for inputs, outputs in pairwise(sizes)]
        self.softness = softness
        self.v = nn.ParameterList([weight for weight, _ in made])
        self.g = nn.ParameterList([nn.Parameter(weight.detach().norm(dim=1, keepdim=True)) for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])

    def forward(self, inputs: Tensor) -> Tensor:
        """[P, sizes[-1]] of [P, sizes[0]]."""
        found = inputs
        for number, (v, g, b) in enumerate(zip(self.v, self.g, self.b, strict=True)):
            found = linear(found, g * v / v.norm(dim=1, keepdim=True).clamp_min(1e-12), b)
            if number < len(self.v) - 1:
                found = softplus(found, beta=self.softness) if self.softness > 0 else torch.relu(found)
        return found


def octave_weights(opened: float | None, octaves: int = OCTAVES) -> list[float]:
    """How much each octave counts when `opened` of them are open (None: all), a smooth rise each (BARF, Lin 2021)."""
    if opened is None:
        return [1.0] * octaves
    return [(1 - math.cos(math.pi * min(max(opened - octave, 0.0), 1.0))) / 2 for octave in range(octaves)]


def encoded(places: Tensor, opened: float | None, octaves: int = OCTAVES) -> tuple[Tensor, Tensor]:
    """Sines and cosines [P, 6 * octaves] of places [P, 3] (octave by octave, sines before cosines) and their slopes
    [P, 3, 6 * octaves]."""
    shares = torch.tensor(octave_weights(opened, octaves), dtype=places.dtype, device=places.device)
    rises = 2.0 ** torch.arange(octaves, dtype=places.dtype, device=places.device)
    angle = places[:, None] * rises[:, None]  # [P, octaves, 3]
    sine, cosine = angle.sin(), angle.cos()
    waves = torch.stack((sine, cosine), 2) * shares[:, None, None]  # [P, octaves, 2, 3]
    bent = torch.stack((cosine, -sine), 2) * (shares * rises)[:, None, None]
    each = torch.eye(3, dtype=places.dtype, device=places.device)  # a coordinate moves its own waves only
    slopes = (bent[:, None] * each[:, None, None]).flatten(2)
    return waves.flatten(1), slopes


class ColourIdr(nn.Module):
    """Colour [P, 3] in 0..1 of place, direction (as it is and encoded), gradient and features: 45 + features inputs."""

    def __init__(self, features: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.network = NormedNetwork((9 + 6 * OCTAVES + features, *[width] * layers, 3), 0.0, generator)

    def forward(
        self, places: Tensor, seen_along: Tensor, gradient: Tensor, features: Tensor, opened: float | None
    ) -> Tensor:
        """Colours of places, unit directions eye to place and gradients, [P, 3] each, and features [P, n]."""
        waves, _ = encoded(seen_along, opened)
        return torch.sigmoid(self.network(torch.cat((places, seen_along, waves, gradient, features), -1)))


class SkinNetwork(nn.Module):
    """Skinning weights [P, J] of canonical places [P, 3] m about the box's centre, for any tree of joints."""

    def __init__(self, parents: Sequence[int], width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.tree = TreeSoftmax(parents)
        sizes = (3 + 6 * OCTAVES, *[width] * layers, self.tree.outputs)
        self.network = NormedNetwork(sizes, SOFTNESS, generator)

    def forward(self, places: Tensor, opened: float | None = None) -> Tensor:
        """Weights of places; rows sum to 1."""
        found = self.network(torch.cat((places, encoded(places, opened)[0]), -1))
        weights: Tensor = self.tree(WEIGHT_SHARPNESS * found)
        return weights


class PoseRefiner(nn.Module):
    """Corrections [B, J - 1, 3] rad of joint rotations [B, J, 3] rad but the root's, from the rotations themselves."""

    def __init__(self, joints: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        numbers = 3 * (joints - 1)
        sizes = (numbers, *[width] * layers, numbers)
        made = [layer(inputs, outputs, generator) for inputs, outputs in pairwise(sizes)]
        self.w = nn.ParameterList([weight for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])
        with torch.no_grad():
            for last in (self.w[-1], self.b[-1]):
                last.copy_((torch.rand(last.shape, generator=generator) * 2 - 1) * SMALL)

    def forward(self, rotations: Tensor) -> Tensor:
        """Corrections, to be applied before each joint's own rotation: R <- R R_correction."""
        found = rotations[:, 1:].flatten(1) + POSE_SHIFT
        for number, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            found = linear(found, w, b)
            found = torch.relu(found) if number < len(self.w) - 1 else found
        return found.view(len(rotations), -1, 3)


def turned_by(rotations: Tensor, corrections: Tensor) -> Tensor:
    """Axis-angle [..., 3] rad of R(rotations) R(corrections), of turns below a half circle; finite slopes at zero."""
    first, second = _quaternions(rotations), _quaternions(corrections)
    real = first[..., 0] * second[..., 0] - (first[..., 1:] * second[..., 1:]).sum(-1)
    axis = first[..., :1] * second[..., 1:] + second[..., :1] * first[..., 1:]
    axis = axis + torch.linalg.cross(first[..., 1:], second[..., 1:])
    axis, real = torch.where(real[..., None] < 0, -axis, axis), real.abs()
    squared = (axis * axis).sum(-1)
    small = squared < 1e-8
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 + squared / 3, 2 * torch.atan2(length, real) / length)
    return axis * factor[..., None]


def _quaternions(rotations: Tensor) -> Tensor:
    squared = (rotations * rotations).sum(-1)
    small = squared < 1e-8
    half = torch.where(small, torch.ones_like(squared), squared).sqrt() / 2
    factor = torch.where(small, 0.5 - squared / 48, torch.sin(half) / (2 * half))
    real = torch.where(small, 1 - squared / 8, torch.cos(half))
    return torch.cat((real[..., None], rotations * factor[..., None]), -1)
