"""Looks that change colours and drawing: new colours of regions, tones of the whole picture, sketch, cartoon, glow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatars.lighting.colour import linear_from_srgb
from avatars.text_edit.editors.canvas import (
    Canvas,
    blurred,
    encoded,
    linear_colour,
    luminance,
    mix,
    smooth,
)
from avatars.text_edit.editors.materials import KEY, Options, Painted, ones, shoulder
from avatars.text_edit.editors.noise import value_noise, warped
from avatars.text_edit.surface import REGIONS


def recolour(canvas: Canvas, options: Options) -> Painted:
    """Another colour with the shading, folds and strands that are there.

    The region's own middle brightness becomes the new colour's; what is brighter or darker stays so in proportion.
    """
    wanted = linear_colour(options.colour("colour", (0.7, 0.1, 0.1)), canvas.linear)
    region = options.values.get("region", "skin")
    names = str(region).split("+")
    where = canvas.region(*names) * (canvas.alpha > 0.5)
    middle = _typical(canvas, names, where)
    # On a region's border its neighbour shines through, and would leave a bright rim.
    most = mix(canvas.light.new_tensor(1.25), 3.2, smooth(0.6, 0.95, canvas.region(*names)))
    shade = torch.minimum((canvas.light / middle).clamp_min(0), most).pow(options.number("contrast", 0.8))
    shine = (shade - 1.6).clamp_min(0) * 0.10 * options.number("shine", 1.0)
    floor = options.number("floor", 0.012)
    shown = (wanted + floor) * shade + shine
    eyes = options.number("iris")
    cover = _iris(canvas) if eyes else ones(canvas)
    return encoded(shoulder(shown)), cover


def _typical(canvas: Canvas, names: list[str], where: Tensor) -> Tensor:
    """The middle brightness [1] of regions: the person's, the same in all views; of parts, that of the pixels shown."""
    if len(names) == 1 and names[0] in REGIONS and canvas.maps.colours is not None:
        own = canvas.maps.colours[REGIONS.index(names[0])].to(canvas.linear)
        if bool(torch.isfinite(own).all()):
            return luminance(linear_from_srgb(own)).clamp_min(0.01)
    chosen = canvas.light[where > 0.6]
    if not len(chosen):
        return canvas.light.new_tensor(0.2)
    return chosen.median().clamp_min(0.01)


def _iris(canvas: Canvas) -> Tensor:
    """The iris [B, H, W, 1]: a disc on each eyeball about straight ahead at rest, where it is not white or black.

    Nor where it is a lid: closed lids can be painted on an avatar's eyeballs, but they have the skin's colour.
    """
    x, y, z = canvas.at.split(1, -1)
    away = ((x.abs() - 1) ** 2 + z**2).sqrt()
    greys = canvas.colour.amax(-1, keepdim=True) - canvas.colour.amin(-1, keepdim=True)
    del y
    disc = smooth(0.27, 0.19, away)
    pupil = smooth(0.004, 0.02, canvas.light)
    return disc * pupil * (0.75 + 0.25 * smooth(0.02, 0.1, greys)) * (1 - lids(canvas))


def lids(canvas: Canvas) -> Tensor:
    """How much each pixel has the skin's hue and is not much darker than it, [B, H, W, 1]."""
    if canvas.maps.colours is None:
        return torch.zeros_like(canvas.alpha)
    skin = canvas.maps.colours[REGIONS.index("skin")].to(canvas.colour)
    if not bool(torch.isfinite(skin).all()):
        return torch.zeros_like(canvas.alpha)

    def warmth(colour: Tensor) -> Tensor:
        return (colour[..., :1] - colour[..., 2:]) / colour.sum(-1, keepdim=True).clamp_min(0.1)

    warm = smooth(0.45, 0.75, warmth(canvas.colour) / warmth(skin).clamp_min(0.02))
    return warm * smooth(0.35, 0.60, canvas.light / luminance(linear_from_srgb(skin)).clamp_min(0.01))


def tone(canvas: Canvas, options: Options) -> Painted:
    """Contrast, saturation, brightness and a tint over everything."""
    linear = canvas.linear * 2.0 ** options.number("stops")
    grey = luminance(linear)
    shown = mix(grey.expand_as(linear), linear, options.number("saturation", 1.0))
    tint = options.colour("tint", (1.0, 1.0, 1.0))
    gain = linear_colour(tint, linear)
    shown = shown * gain / luminance(gain[None]).clamp_min(1e-3)
    display = encoded(shoulder(shown.clamp_min(0)))
    display = 0.5 + (display - 0.5) * options.number("contrast", 1.0) + options.number("lift")
    return display.clamp(0, 1), ones(canvas)


def duotone(canvas: Canvas, options: Options) -> Painted:
    """Two colours from dark to light, three with a middle."""
    dark = options.colour("dark", (0.05, 0.0, 0.2), 0)
    light = options.colour("light", (1.0, 0.9, 0.4), 1)
    value = encoded(canvas.light)
    low = canvas.colour.new_tensor(dark).expand_as(canvas.colour)
    middle = options.values.get("middle")
    if isinstance(middle, tuple):
        first = mix(low, middle, smooth(0.05, 0.5, value))
        return mix(first, light, smooth(0.45, 0.9, value)), ones(canvas)
    return mix(low, light, smooth(0.1, 0.85, value)), ones(canvas)


def drawn_tone(canvas: Canvas) -> Tensor:
    """Brightness [B, H, W, 1] in 0..1 as a draughtsman sees it: light from the key side, local colour, detail."""
    key = canvas.normal.new_tensor(KEY)
    shade = ((canvas.normal * key / key.norm()).sum(-1, keepdim=True) * 0.5 + 0.5).clamp(0, 1)
    own = encoded(canvas.light)
    return (0.50 * own + 0.42 * shade + 0.30 * (canvas.detail - 1)).clamp(0, 1)


def outline(canvas: Canvas, strength: float = 1.0) -> Tensor:
    """Ink [B, H, W, 1] along edges of the person, of its regions and of strong detail."""
    rim = smooth(0.38, 0.14, canvas.facing) * smooth(0.3, 0.9, canvas.alpha)
    pixel = canvas.pixel_m.mean()
    reach = max(1, round(float(0.0016 / pixel)))
    hair = canvas.maps.weights
    border = (hair - blurred(hair, canvas.alpha, reach)).abs().sum(-1, keepdim=True)
    creases = smooth(0.80, 0.5, canvas.detail) * (1 - 0.8 * canvas.maps.of("hair", "clothes"))
    return (strength * torch.maximum(torch.maximum(0.85 * rim, 0.8 * smooth(0.25, 0.6, border)), creases)).clamp(0, 1)


def sketch(canvas: Canvas, options: Options) -> Painted:
    """Pencil on paper: hatching that lies on the person, in as many directions as the tone is dark."""
    paper = options.colour("paper", (0.96, 0.94, 0.90), 1)
    ink = options.colour("ink", (0.16, 0.15, 0.17), 0)
    tone_here = drawn_tone(canvas)
    spacing_m = max(0.0042, 3.0 * float(canvas.pixel_m[canvas.alpha > 0.5].mean()) if (canvas.alpha > 0.5).any() else 0)
    step = spacing_m / canvas.unit_m
    at = warped(canvas.at, 0.8, 2, 0.10, canvas.seed)
    share = torch.zeros_like(tone_here)
    for direction, begins in (
        ((0.62, 0.35, 0.70), 0.74),
        ((0.62, 0.35, -0.70), 0.50),
        ((0.10, 0.20, 1.0), 0.34),
        ((0.95, 0.45, 0.1), 0.20),
    ):
        axis = at.new_tensor(direction)
        wave = torch.remainder((at * axis / axis.norm()).sum(-1, keepdim=True) / step, 1.0)
        dark = ((begins - tone_here) / 0.30).clamp(0, 1)
        width = 0.10 + 0.26 * dark
        line = smooth(width + 0.14, width - 0.10, (wave - 0.5).abs() * 2 * 0.98)
        # Where the surface lies across a direction its lines would be wide rings; others are there for that.
        along = (canvas.normal * axis / axis.norm()).sum(-1, keepdim=True)
        line = line * smooth(0.90, 0.72, along.abs())
        rough = 0.55 + 0.6 * value_noise(canvas.at * 6.5, canvas.seed + 3)[..., None]
        share = torch.maximum(share, line * smooth(0.0, 0.45, dark) * rough * 0.85)
    share = torch.maximum(share, outline(canvas) * 0.92)
    share = torch.maximum(share, 0.75 * smooth(0.16, 0.04, tone_here))
    ground = canvas.colour.new_tensor(paper).expand_as(canvas.colour)
    return mix(ground * (0.97 + 0.05 * value_noise(canvas.at * 20, 5)[..., None]), ink, share.clamp(0, 1)), ones(canvas)


def cartoon(canvas: Canvas, options: Options) -> Painted:
    """Flat colours in three tones with dark outlines."""
    pixel = canvas.pixel_m[canvas.alpha > 0.5].mean() if (canvas.alpha > 0.5).any() else canvas.pixel_m.mean()
    reach = max(1, round(float(0.005 / pixel)))
    flat = canvas.linear
    total, shown = torch.zeros_like(canvas.alpha), torch.zeros_like(flat)
    for index in range(canvas.maps.weights.shape[-1]):  # within regions, so that their colours do not run
        weight = canvas.maps.weights[..., index : index + 1]
        own = blurred(flat * weight, canvas.alpha, reach) / blurred(weight, canvas.alpha, reach).clamp_min(0.02)
        shown, total = shown + own * weight, total + weight
    shown = shown / total.clamp_min(1e-3)
    small = canvas.region("eyes", "mouth", "lashes", "brows")
    shown = mix(shown, flat, small)
    grey = luminance(shown).clamp_min(1e-3)
    colour = mix(grey.expand_as(shown), shown, options.number("saturation", 1.35)).clamp_min(0) / grey
    key = canvas.normal.new_tensor(KEY)
    shade = (canvas.normal * key / key.norm()).sum(-1, keepdim=True)
    level = 0.62 + 0.30 * smooth(0.02, 0.10, shade) + 0.22 * smooth(0.80, 0.85, shade)
    value = blurred(grey, canvas.alpha, 3 * reach).clamp_min(0.01)
    steps = options.number("tones", 3.0) * 2
    display = encoded(value)
    banded = (torch.floor(display * steps) + smooth(0.35, 0.65, torch.remainder(display * steps, 1.0))) / steps
    value = mix(banded.clamp_min(0.1).pow(2.2) * level * 1.12, grey, small)
    painted = encoded(shoulder(colour * value))
    return mix(
        painted, options.colour("ink", (0.07, 0.05, 0.08)), outline(canvas, options.number("outline", 1.0)) * 0.92
    ), ones(canvas)


def halftone(canvas: Canvas, options: Options) -> Painted:
    """Printed comic: flat colours and dots whose size is the shade."""
    base, _ = cartoon(canvas, Options((), {"saturation": 1.8, "outline": 1.0}))
    size = max(0.30, 4.5 * float(canvas.pixel_m.mean()) / canvas.unit_m)
    x, y, z = canvas.at.split(1, -1)
    turn = math.sqrt(0.5)
    around = torch.atan2(x, -(y - 3.0)) * 3.2
    u, v = (around + z) * turn / size, (around - z) * turn / size
    near = ((torch.remainder(u, 1) - 0.5) ** 2 + (torch.remainder(v, 1) - 0.5) ** 2).sqrt()
    radius = 0.62 * (0.72 - drawn_tone(canvas)).clamp(0, 0.6)
    dots = smooth(radius + 0.12, radius - 0.06, near) * smooth(0.02, 0.08, radius)
    return mix(base, options.colour("dots", (0.85, 0.12, 0.22)), 0.75 * dots), ones(canvas)


def glow(canvas: Canvas, options: Options) -> Painted:
    """Neon: a dark body with shining edges, features and lines."""
    colour = linear_colour(options.colour("colour", (0.1, 0.9, 1.0)), canvas.linear)
    second = linear_colour(options.colour("second", (1.0, 0.15, 0.8), 1), canvas.linear)
    edge = (1 - canvas.facing.clamp(0, 1)).pow(2.0)
    lines = outline(canvas, 1.0)
    hue = mix(colour.expand_as(canvas.linear), second, smooth(-0.5, 0.6, canvas.normal[..., :1]))
    body = canvas.linear * 0.10 + 0.03 * canvas.light * colour
    strands = (canvas.detail - 1).clamp(0, 1) * canvas.maps.of("hair")
    shown = body + hue * (1.25 * edge + 0.9 * lines + 0.8 * strands) + 0.5 * (lines * edge).pow(2)
    return encoded(shoulder(shown)), ones(canvas)


def hologram(canvas: Canvas, options: Options) -> Painted:
    """Light blue light in thin level lines."""
    colour = linear_colour(options.colour("colour", (0.35, 0.85, 1.0)), canvas.linear)
    spacing = max(0.16, 3.2 * float(canvas.pixel_m.mean()) / canvas.unit_m)
    wave = torch.remainder(canvas.at[..., 2:] / spacing, 1.0)
    line = 0.45 + 0.55 * smooth(0.3, 0.7, (wave - 0.5).abs() * 2)
    edge = (1 - canvas.facing.clamp(0, 1)).pow(1.6)
    shown = colour * (0.10 + 1.1 * canvas.light.pow(0.7) + 0.9 * edge) * line
    return encoded(shoulder(shown)), ones(canvas)
