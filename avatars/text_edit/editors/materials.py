"""Looks that make a person of another material: metals, stones, wood, clay, wax, ice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.text_edit.editors.canvas import Canvas, Colour, encoded, linear_colour, mix, smooth
from avatars.text_edit.editors.noise import cells, cloud, ridges, value_noise, warped


@dataclass(frozen=True)
class Options:
    """What a look is told: colours of the prompt (display-encoded sRGB, may be none) and the table's own values."""

    colours: tuple[Colour, ...] = ()
    values: Mapping[str, float | str | Colour] = field(default_factory=dict)

    def number(self, name: str, otherwise: float = 0.0) -> float:
        """A number of the table."""
        value = self.values.get(name, otherwise)
        assert isinstance(value, (int, float))
        return float(value)

    def colour(self, name: str, otherwise: Colour, place: int = 0) -> Colour:
        """The prompt's colour number `place`, else the table's `name`, else `otherwise`."""
        if place < len(self.colours):
            return self.colours[place]
        value = self.values.get(name, otherwise)
        assert isinstance(value, tuple)
        return value


Painted = tuple[Tensor, Tensor]
"""Display-encoded colours [B, H, W, 3] and how much they cover [B, H, W, 1]."""
Painter = Callable[[Canvas, Options], Painted]
KEY = (0.5, -0.68, 0.54)
LIGHTS: tuple[tuple[Colour, float, float, float], ...] = (
    ((0.50, -0.62, 0.60), 0.72, 0.97, 1.7),
    ((-0.75, -0.55, 0.20), 0.74, 0.99, 0.7),
    ((0.80, 0.45, 0.25), 0.75, 0.95, 0.9),
    ((-0.75, 0.55, 0.35), 0.75, 0.95, 0.8),
    ((0.0, -0.20, 0.97), 0.80, 0.98, 0.8),
)
"""A photographer's soft boxes: direction, cosines where each begins and is full, strength."""


def studio(direction: Tensor, roughness: float) -> Tensor:
    """Radiance [..., 1] of a studio around the person in unit directions [..., 3] of the rest pose."""
    z = direction[..., 2:]
    edge = 0.10 + 0.45 * roughness
    sky = 0.22 + 0.38 * smooth(0.0, 0.9, z)
    ground = 0.17 + 0.20 * smooth(-0.2, -0.95, z)
    total = mix(ground, sky, smooth(-edge, edge, z + 0.10))
    total = total + (0.30 - 0.2 * roughness) * torch.exp(-(((z - 0.08) / (0.12 + 0.3 * roughness)) ** 2))
    for box, begins, full, strength in LIGHTS:
        cosine = (direction * normalize(direction.new_tensor(box), dim=0)).sum(-1, keepdim=True)
        wider = 0.35 * roughness
        total = total + strength * (1 - 0.55 * roughness) * smooth(begins - wider, full, cosine)
    return total


def mirrored(normal: Tensor) -> Tensor:
    """Where a level gaze onto normals [..., 3] is mirrored to, unit.

    The gaze comes from straight before each point, not from the camera, so that the reflection lies still on the person
    as everything must that is put into an avatar's colours.
    """
    level = normalize(torch.cat((normal[..., :2], torch.zeros_like(normal[..., :1])), -1) + 1e-6, dim=-1)
    return normalize(2 * (normal * level).sum(-1, keepdim=True) * normal - level, dim=-1)


def relief(canvas: Canvas, strength: float) -> Tensor:
    """How much light the person's own folds, strands and features let through, [B, H, W, 1], 1 where it is even.

    Eyes and brows differ in colour rather than in shape, so they count less.
    """
    flat = canvas.region("brows", "lashes") * 0.55 + canvas.maps.of("eyes") * 0.45
    return canvas.detail.pow(strength * (1 - flat)).clamp(0.25, 1.6)


def rough_normal(canvas: Canvas, size: float, strength: float) -> Tensor:
    """Normals [B, H, W, 3] disturbed by noise of `size` half eye distances."""
    moved = [value_noise(canvas.at / size + 11.3 * axis, canvas.seed) - 0.5 for axis in range(3)]
    return normalize(canvas.normal + strength * torch.stack(moved, -1), dim=-1)


def metal(canvas: Canvas, options: Options) -> Painted:
    """Polished or worn metal that mirrors a studio."""
    roughness = options.number("roughness", 0.2)
    normal = rough_normal(canvas, 0.5, options.number("hammered", 0.05))
    base = linear_colour(options.colour("colour", (0.83, 0.69, 0.22)), canvas.linear)
    radiance = studio(mirrored(normal), roughness)
    edge = (1 - canvas.facing.clamp(0, 1)).pow(5)
    tinted = base + (1 - base) * (edge * 0.5 + smooth(1.5, 2.8, radiance) * 0.5)
    worn = options.number("patina")
    shown = tinted * radiance * options.number("brightness", 1.0) * relief(canvas, 0.75)
    if worn:
        green = linear_colour(options.colour("patina_colour", (0.36, 0.62, 0.53), 1), shown)
        where = smooth(0.52, 0.68, cloud(canvas.at * 1.3, 4, canvas.seed)[..., None] + 0.12 * (1 - canvas.detail))
        shown = mix(shown, green * lit(canvas, normal, 0.5) * relief(canvas, 0.9), worn * where)
    return encoded(shoulder(shown)), torch.ones_like(canvas.alpha)


def shoulder(linear: Tensor) -> Tensor:
    """Linear light with its brightest part bent towards 1 instead of cut off."""
    return torch.where(linear < 0.6, linear, 0.6 + 0.4 * (1 - torch.exp(-(linear - 0.6).clamp_min(0) / 0.4)))


def lit(canvas: Canvas, normal: Tensor, wrap: float, shine: float = 0.0) -> Tensor:
    """Light [B, H, W, 1] on a matt surface in a studio; wrap 0..1 lets it creep round as in wax."""
    key = normalize(normal.new_tensor(KEY), dim=0)
    cosine = (normal * key).sum(-1, keepdim=True)
    fill = (normal * normalize(normal.new_tensor((-0.7, -0.6, 0.2)), dim=0)).sum(-1, keepdim=True)
    light = 0.30 + 0.14 * normal[..., 2:] + 0.72 * ((cosine + wrap) / (1 + wrap)).clamp_min(0)
    light = light + 0.16 * fill.clamp_min(0)
    if shine:
        half = normalize(key + normalize(canvas.normal.new_tensor((0.0, -1.0, 0.0)), dim=0), dim=0)
        light = light + shine * (normal * half).sum(-1, keepdim=True).clamp_min(0).pow(40)
    return light


def marble(canvas: Canvas, options: Options) -> Painted:
    """White stone with veins that run through the body, not over it."""
    base = linear_colour(options.colour("colour", (0.93, 0.92, 0.90)), canvas.linear)
    vein = linear_colour(options.colour("vein", (0.36, 0.37, 0.41), 1), canvas.linear)
    at = canvas.at * 0.42
    bent = warped(at, 1.3, 3, 0.9, canvas.seed + 1)
    broad, fine = _veins(bent, 1.5, (0.75, 0.35, 0.55)), _veins(bent + 3, 3.1, (-0.6, 0.2, 0.75))
    fading = smooth(0.38, 0.62, cloud(at * 1.1 + 21, 3, canvas.seed + 3)[..., None])
    share = (0.72 * broad**14 + 0.20 * broad**3) * (0.25 + 0.75 * fading) + 0.35 * fine**22 * (1 - 0.6 * fading)
    stone = mix(base, vein, share.clamp(0, 1))
    stone = stone * (0.93 + 0.12 * cloud(at * 2, 3, canvas.seed + 9)[..., None])
    return encoded(shoulder(stone * lit(canvas, canvas.normal, 0.35, 0.22) * relief(canvas, 0.95))), ones(canvas)


def _veins(bent: Tensor, per_unit: float, direction: Colour) -> Tensor:
    """Ridges [..., 1] in 0..1 of waves along a direction through points that noise has bent, 1 on a vein."""
    along = (bent * normalize(bent.new_tensor(direction), dim=0)).sum(-1, keepdim=True)
    return 1 - torch.sin(along * per_unit * 3.14159).abs()


def ones(canvas: Canvas) -> Tensor:
    """Covers everything, [B, H, W, 1]."""
    return torch.ones_like(canvas.alpha)


def stone(canvas: Canvas, options: Options) -> Painted:
    """Rough stone: grains, patches and a few cracks."""
    base = linear_colour(options.colour("colour", (0.60, 0.58, 0.55)), canvas.linear)
    normal = rough_normal(canvas, 0.22, options.number("roughness", 0.5))
    grain = value_noise(canvas.at * 14, canvas.seed + 1)[..., None]
    patches = cloud(canvas.at * 0.9, 4, canvas.seed + 2)[..., None]
    cracks = smooth(0.978, 0.996, ridges(canvas.at * 0.30 + 3, 4, canvas.seed + 5)[..., None])
    cracks = cracks * smooth(0.45, 0.6, cloud(canvas.at * 0.5 + 40, 2, canvas.seed)[..., None])
    shade = (0.72 + 0.5 * patches) * (0.84 + 0.32 * grain) * (1 - 0.6 * cracks)
    return encoded(shoulder(base * shade * lit(canvas, normal, 0.1) * relief(canvas, 1.0) * 1.3)), ones(canvas)


def clay(canvas: Canvas, options: Options) -> Painted:
    """Matt clay with the marks of fingers."""
    base = linear_colour(options.colour("colour", (0.72, 0.43, 0.32)), canvas.linear)
    normal = rough_normal(canvas, 0.75, options.number("roughness", 0.28))
    dust = 0.94 + 0.12 * cloud(canvas.at * 2.5, 3, canvas.seed)[..., None]
    wrap, shine = options.number("wrap", 0.2), options.number("shine", 0.0)
    return encoded(shoulder(base * dust * lit(canvas, normal, wrap, shine) * relief(canvas, 0.95) * 1.05)), ones(canvas)


def wood(canvas: Canvas, options: Options) -> Painted:
    """Carved from one trunk: rings about an upright axis, fine grain along it."""
    light = linear_colour(options.colour("colour", (0.78, 0.56, 0.34)), canvas.linear)
    dark = linear_colour(options.colour("dark", (0.42, 0.24, 0.12), 1), canvas.linear)
    at = canvas.at * torch.tensor([1.0, 1.0, 0.22], device=canvas.at.device)
    bent = 0.9 * (cloud(at * 0.5, 3, canvas.seed) - 0.5)
    radius = (at[..., 0] ** 2 + (at[..., 1] - 4.2) ** 2).sqrt() + bent
    phase = torch.remainder(radius * 1.5, 1.0)[..., None]
    ring = smooth(0.0, 0.75, phase) * smooth(1.0, 0.88, phase)
    grain = value_noise(canvas.at * torch.tensor([13.0, 13.0, 1.1], device=at.device), canvas.seed + 4)[..., None]
    base = mix(light, dark, 0.75 * ring) * (0.82 + 0.36 * grain)
    return encoded(shoulder(base * lit(canvas, canvas.normal, 0.15, 0.10) * relief(canvas, 1.0) * 1.1)), ones(canvas)


def glassy(canvas: Canvas, options: Options) -> Painted:
    """Ice, jade or porcelain: light that goes in, a sharp shine, and lighter edges."""
    base = linear_colour(options.colour("colour", (0.62, 0.82, 0.93)), canvas.linear)
    normal = rough_normal(canvas, 0.8, options.number("roughness", 0.12))
    clouds = cloud(canvas.at * 0.9, 5, canvas.seed)[..., None]
    depth = options.number("cloudy", 0.5)
    inner = base * (1 - depth + 2 * depth * clouds) * lit(canvas, normal, 0.7)
    mirror = studio(mirrored(normal), 0.05)
    edge = (1 - canvas.facing.clamp(0, 1)).pow(3)
    shine = (0.04 + 0.15 * edge) * mirror + options.number("shine", 0.16) * smooth(1.2, 3.0, mirror)
    cracks = smooth(0.5, 0.0, _crack_distance(canvas, options)) * options.number("cracks")
    shown = inner * relief(canvas, 0.8) + shine + 0.2 * edge * base
    return encoded(shoulder(mix(shown, (0.95, 0.98, 1.0), 0.6 * cracks))), ones(canvas)


def _crack_distance(canvas: Canvas, options: Options) -> Tensor:
    first, second, _ = cells(canvas.at * options.number("crack_scale", 0.7), canvas.seed + 2)
    return ((second - first) * 9)[..., None]


def lava(canvas: Canvas, options: Options) -> Painted:
    """Dark rock with glowing cracks."""
    rock, _ = stone(canvas, Options((), {"colour": (0.20, 0.18, 0.18), "roughness": 0.8}))
    glow = linear_colour(options.colour("colour", (1.0, 0.36, 0.05)), canvas.linear)
    bent = warped(canvas.at * 0.55, 1.6, 3, 0.35, canvas.seed + 1)
    first, second, _ = cells(bent, canvas.seed)
    gap = (second - first)[..., None]
    heat = torch.exp(-((gap / 0.055) ** 2)) + 0.28 * torch.exp(-gap / 0.10)
    hot = mix(glow, (1.0, 0.86, 0.45), smooth(0.75, 1.25, heat))
    shown = linear_colour((1, 1, 1), rock) * 0 + mix(rock, encoded(shoulder(hot * 1.5)), smooth(0.05, 0.8, heat))
    return shown, ones(canvas)
