"""Tri-plane encoding with window attention and modulation by the coordinate across each plane (PET-NeuS, Wang et al.
2023; method page 3.1). The same interface as the hash grid's: features, and slopes by the product rule."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, softplus

from avatars.surface_body.plane_settings import PlaneSettings
from avatars.surface_body.smooth_lookup import bilinear
from avatars.surface_body.window_attention import WindowAttention

AXES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
"""Of each plane: the two axes it spans and the one across it."""
SIGNALS = 4
START_WIDTH, START_LAYERS, START_RADIUS, START_SOFTNESS = 256, 5, 0.5, 100.0
START_SKIP, START_SIDE = 4, 65
"""The layer of the planes' random start that sees the place again, and how many nodes a side it is asked for."""


class TriPlanes(nn.Module):
    """places [P, 3] in 0..1 -> [P, 3 * groups * channels]; the planes' middle is the cube's.

    `begin` mixes the planes by attention; call it once before a step or a picture: it is the costly part and does not
    depend on places.
    """

    def __init__(self, settings: PlaneSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.planes = nn.ParameterList(
            nn.Parameter(started_planes(side, settings.channels, generator)) for side in settings.sides
        )
        self.attention = nn.ModuleList(
            WindowAttention(settings.channels, settings.heads, window, generator) for window in settings.windows
        )
        self.mixed: tuple[Tensor, ...] | None = None

    @property
    def width(self) -> int:
        """Numbers a place."""
        return 3 * self.settings.groups * self.settings.channels

    def begin(self) -> None:
        """Attention over the planes as they are now; what is encoded until the next call uses it."""
        self.mixed = self.tables()

    def tables(self) -> tuple[Tensor, ...]:
        """[3, side, side, channels] for each level; with attention one table of all groups side by side."""
        if not self.settings.windows:
            return tuple(self.planes)
        raw = self.planes[0]
        return (torch.cat([*(attend(raw) for attend in self.attention), raw], -1),)

    def encode(self, places: Tensor, levels: float | None = None, *, slopes: bool = False) -> tuple[Tensor, Tensor]:
        """Features [P, width] at places [P, 3] in 0..1 and their slopes [P, 3, width] (empty without).

        levels: so many of the groups count, the last one in part; None for all. Differentiable in what is learned and
        in the places, twice as well.
        """
        tables = self.tables() if self.mixed is None else self.mixed
        return planes_at(tables, 2 * places - 1, self.settings, levels, slopes=slopes)


def planes_at(
    tables: tuple[Tensor, ...], unit: Tensor, settings: PlaneSettings, levels: float | None, *, slopes: bool
) -> tuple[Tensor, Tensor]:
    """What `TriPlanes.encode` gives of its tables, at places [P, 3] in -1..1; slopes are those in 0..1."""
    opened = unit.new_tensor([opening(group, levels) for group in range(settings.groups)])
    opened = opened.repeat_interleave(settings.channels)
    features, steep = [], []
    for number, (first, second, across) in enumerate(AXES):
        found = [bilinear(table[number], unit[:, (first, second)], slopes=slopes) for table in tables]
        value, slope = (torch.cat([part[which] for part in found], -1) for which in (0, 1))
        wave, wave_slope = signals(unit[:, across], settings.groups, settings.channels)
        features.append(value * wave * opened)
        if slopes:
            along = (slope[:, 0] * wave * opened, slope[:, 1] * wave * opened, value * wave_slope * opened)
            columns = dict(zip((first, second, across), along, strict=True))
            steep.append(2 * torch.stack([columns[axis] for axis in range(3)], 1))
    width = 3 * settings.groups * settings.channels
    empty = unit.new_zeros(len(unit), 0, width)
    return torch.cat(features, -1), torch.cat(steep, -1) if slopes else empty


def opening(group: int, levels: float | None) -> float:
    """How much a group counts when `levels` of them are open."""
    return 1.0 if levels is None else min(max(levels - group, 0.0), 1.0)


def signals(across: Tensor, groups: int, channels: int) -> tuple[Tensor, Tensor]:
    """Modulation [P, groups * channels] by the coordinate [P] across a plane, and its slope.

    Group g has sine and cosine of octaves 2g and 2g + 1, in turn over its channels.
    """
    octaves = 2.0 ** torch.arange(2 * groups, device=across.device, dtype=across.dtype)
    angle = across[:, None] * octaves
    sine, cosine = angle.sin(), angle.cos()
    pairs = torch.stack((sine, cosine), -1).view(len(across), groups, SIGNALS)
    slopes = torch.stack((cosine * octaves, -sine * octaves), -1).view(len(across), groups, SIGNALS)
    repeats = math.ceil(channels / SIGNALS)
    return tuple(  # type: ignore[return-value]
        part.repeat(1, 1, repeats)[..., :channels].reshape(len(across), -1) for part in (pairs, slopes)
    )


def started_planes(side: int, channels: int, generator: torch.Generator) -> Tensor:
    """[3, side, side, channels]: a random network of the places on each plane, near the distance from a ball.

    It is smooth, so that of large planes START_SIDE nodes are asked for, and those between lie between them.
    """
    asked = min(side, START_SIDE)
    steps = torch.linspace(-1, 1, asked)
    second, first = torch.meshgrid(steps, steps, indexing="ij")
    sizes = [3, *[START_WIDTH] * START_LAYERS, channels]
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        kept = outputs - 3 if number + 1 == START_SKIP else outputs
        if number == START_LAYERS:
            weight = math.sqrt(math.pi / inputs) + 1e-4 * torch.randn(kept, inputs, generator=generator)
            layers.append((weight, torch.full((kept,), -START_RADIUS)))
        else:
            weight = torch.randn(kept, inputs, generator=generator) * math.sqrt(2 / kept)
            layers.append((weight, torch.zeros(kept)))
    made = []
    for one, two, across in AXES:
        places = torch.zeros(asked * asked, 3)
        places[:, one], places[:, two] = first.flatten(), second.flatten()
        places[:, across] = 0
        found = places
        for number, (weight, bias) in enumerate(layers):
            if number == START_SKIP:
                found = torch.cat((found, places), -1) / math.sqrt(2)
            found = linear(found, weight, bias)
            found = softplus(found, beta=START_SOFTNESS) if number < START_LAYERS else found
        made.append(found.view(asked, asked, channels))
    planes = torch.stack(made)
    if asked == side:
        return planes
    wide = interpolate(planes.permute(0, 3, 1, 2), size=(side, side), mode="bilinear", align_corners=True)
    return wide.permute(0, 2, 3, 1).contiguous()
