"""Paint on the face (or all skin) in patterns that are functions of the place in the rest pose."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from avatars.text_edit.editors.canvas import Canvas, Colour, encoded, linear_colour, luminance, mix, smooth
from avatars.text_edit.editors.materials import Options, Painted, ones, shoulder
from avatars.text_edit.editors.noise import cells, cloud, ridges, value_noise, warped

BLACK: Colour = (0.04, 0.04, 0.05)
WHITE: Colour = (0.94, 0.94, 0.93)
RED: Colour = (0.80, 0.05, 0.08)


class Coat:
    """Coats of paint laid over each other; each has the person's own shading."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.colour = torch.zeros_like(canvas.linear)
        self.cover = torch.zeros_like(canvas.alpha)

    def add(self, colour: Colour | Tensor, share: Tensor) -> None:
        """Lay a display-encoded colour (or linear colours [B, H, W, 3]) on where share [B, H, W, 1] says."""
        fresh = colour if isinstance(colour, Tensor) else linear_colour(colour, self.canvas.linear)
        share = share.clamp(0, 1)
        self.colour = mix(self.colour, fresh, share / (share + self.cover * (1 - share)).clamp_min(1e-4))
        self.cover = share + self.cover * (1 - share)

    def dry(self, opaque: float = 0.95) -> Painted:
        """The painted person: paint reflects in proportion to what the skin under it did."""
        return encoded(shoulder(self.colour * skin_shade(self.canvas))), self.cover * opaque


def skin_shade(canvas: Canvas) -> Tensor:
    """How bright the skin is relative to its middle [B, H, W, 1]; brows and lips do not show through paint so much."""
    skin = canvas.light[(canvas.maps.of("skin") > 0.6) & (canvas.alpha > 0.5)]
    middle = skin.median().clamp_min(0.02) if len(skin) else canvas.light.new_tensor(0.3)
    shade = (canvas.light / middle).clamp(0.02, 4).pow(0.75)
    dark = canvas.region("brows", "lips", "lashes") * 0.55
    return mix(shade, shade.clamp_min(0.75), dark) * 1.02


def blob(canvas: Canvas, x: float, z: float, wide: float, high: float, soft: float = 0.2) -> Tensor:
    """An ellipse on the front of the head about (±x, z) of half axes (wide, high), [B, H, W, 1]."""
    side = canvas.at[..., :1].abs() if x else canvas.at[..., :1]
    far = (((side - x) / wide) ** 2 + ((canvas.at[..., 2:] - z) / high) ** 2).sqrt()
    return smooth(1 + soft, 1 - soft, far) * front(canvas)


def front(canvas: Canvas) -> Tensor:
    """What lies before the ears, [B, H, W, 1]."""
    return smooth(3.2, 2.4, canvas.at[..., 1:2])


def stroke(canvas: Canvas, points: tuple[tuple[float, float], ...], width: float, soft: float = 0.5) -> Tensor:
    """A line through (x, z) points, on both sides of the face, [B, H, W, 1]. It runs out to a point at its ends."""
    side, z = canvas.at[..., :1].abs(), canvas.at[..., 2:]
    best = torch.full_like(side, 9.0)
    count = len(points) - 1
    for index, ((x0, z0), (x1, z1)) in enumerate(pairwise(points)):
        dx, dz = x1 - x0, z1 - z0
        along = (((side - x0) * dx + (z - z0) * dz) / (dx * dx + dz * dz)).clamp(0, 1)
        far = ((side - x0 - along * dx) ** 2 + (z - z0 - along * dz) ** 2).sqrt()
        whole = (index + along) / count
        taper = (0.25 + 0.75 * (4 * whole * (1 - whole)).clamp(0, 1).sqrt()) * width
        best = torch.minimum(best, far / taper)
    return smooth(1 + soft, 1 - soft, best) * front(canvas)


def plain(canvas: Canvas, options: Options) -> Painted:
    """One colour of paint."""
    coat = Coat(canvas)
    coat.add(options.colour("colour", (0.2, 0.35, 0.9)), ones(canvas))
    return coat.dry()


def stripes(canvas: Canvas, options: Options) -> Painted:
    """Bands of the prompt's colours."""
    chosen = options.colours or (RED, WHITE, (0.1, 0.2, 0.7))
    if len(chosen) == 1:
        chosen = (chosen[0], BLACK if max(chosen[0]) > 0.35 else WHITE)
    x, _, z = canvas.at.split(1, -1)
    along = z if options.number("level") else x if options.number("upright") else z * 0.8 + x * 0.6
    place = along / options.number("width", 0.8) + 0.25 * (value_noise(canvas.at * 0.8, canvas.seed)[..., None] - 0.5)
    coat = Coat(canvas)
    count = len(chosen)
    for index, colour in enumerate(chosen):
        phase = torch.remainder(place - index, count)
        share = smooth(-0.06, 0.06, phase) * smooth(1.06, 0.94, phase) + smooth(count - 0.06, count + 0.06, phase)
        coat.add(colour, share if index else ones(canvas))
    return coat.dry()


def dots(canvas: Canvas, options: Options) -> Painted:
    """Round spots, on a ground where the prompt gives two colours."""
    coat = Coat(canvas)
    if len(options.colours) > 1:
        coat.add(options.colours[1], ones(canvas))
    first, _, own = cells(canvas.at * options.number("scale", 1.15), canvas.seed)
    size = 0.24 + 0.12 * own
    coat.add(options.colour("colour", (0.95, 0.85, 0.1)), smooth(1.15, 0.95, first / size)[..., None])
    return coat.dry()


def tiger(canvas: Canvas, options: Options) -> Painted:
    """Orange, white about eyes and mouth, black stripes that narrow towards the middle."""
    coat, (x, _, z) = Coat(canvas), canvas.at.split(1, -1)
    side, mouth = x.abs(), canvas.mouth[2]
    coat.add(options.colour("colour", (0.93, 0.50, 0.10)), ones(canvas))
    pale = blob(canvas, 0.62, mouth + 0.25, 0.75, 0.62) + blob(canvas, 0, mouth - 0.8, 0.9, 0.8)
    pale = pale + blob(canvas, 1.05, 0.75, 0.62, 0.34)
    coat.add(WHITE, pale)
    warp = 0.9 * (cloud(canvas.at * 0.55, 3, canvas.seed)[..., None] - 0.5)
    wave = torch.remainder((z * 1.05 - 0.28 * side + warp) / 0.62, 1.0)
    width = 0.38 * smooth(0.85, 2.3, side) + 0.30 * smooth(1.2, 2.0, z) * smooth(1.3, 0.4, side)
    width = width * (1 - 0.85 * blob(canvas, 1.0, 0.0, 0.75, 0.5)) * (1 - blob(canvas, 0.0, mouth, 1.1, 0.9))
    coat.add(options.colour("stripe", BLACK, 1), smooth(width + 0.10, width - 0.06, (wave - 0.5).abs() * 2))
    coat.add(BLACK, blob(canvas, 0, mouth + 1.12, 0.42, 0.26))
    coat.add(BLACK, stroke(canvas, ((0.0, mouth + 0.95), (0.0, mouth + 0.4)), 0.06))
    coat.add(BLACK, 0.9 * _whisker_spots(canvas))
    return coat.dry()


def _whisker_spots(canvas: Canvas) -> Tensor:
    mouth = canvas.mouth[2]
    spots = [blob(canvas, 0.55 + 0.24 * c, mouth + 0.62 - 0.22 * r, 0.06, 0.06, 0.5) for c in (0, 1, 2) for r in (0, 1)]
    return torch.stack(spots).sum(0)


def cat(canvas: Canvas, options: Options) -> Painted:
    """Nose, whiskers and lifted lines at the eyes."""
    coat, mouth = Coat(canvas), canvas.mouth[2]
    ink = options.colour("colour", BLACK)
    coat.add(WHITE, 0.85 * blob(canvas, 0.55, mouth + 0.38, 0.62, 0.42, 0.35))
    coat.add(ink, blob(canvas, 0, mouth + 1.12, 0.36, 0.24))
    coat.add(ink, stroke(canvas, ((0.0, mouth + 0.95), (0.0, mouth + 0.35)), 0.06))
    for lift in (0.0, 0.32, 0.64):
        line = ((0.75, mouth + 0.35 + 0.2 * lift), (1.5, mouth + 0.40 + 0.7 * lift), (2.2, mouth + 0.30 + 1.1 * lift))
        coat.add(ink, stroke(canvas, line, 0.07))
    coat.add(ink, stroke(canvas, ((0.5, -0.28), (1.4, -0.12), (2.1, 0.55)), 0.12))
    coat.add(_cat_pink(), 0.9 * canvas.maps.of("lips"))
    return coat.dry()


def _cat_pink() -> Colour:
    return (0.85, 0.35, 0.45)


def spots(canvas: Canvas, options: Options) -> Painted:
    """Leopard: dark rings about darker middles on yellow."""
    coat = Coat(canvas)
    coat.add(options.colour("colour", (0.88, 0.66, 0.32)), ones(canvas))
    mouth = canvas.mouth[2]
    coat.add((0.96, 0.92, 0.84), blob(canvas, 0.0, mouth - 0.2, 1.1, 1.0, 0.4))
    at = warped(canvas.at * 1.05, 0.95, 2, 0.35, canvas.seed)
    first, second, own = cells(at, canvas.seed)
    gap = value_noise(canvas.at * 2.6, canvas.seed + 2)
    ring = (
        smooth(0.07, 0.02, (first - 0.29).abs() - 0.05) * smooth(0.30, 0.42, gap) * smooth(0.02, 0.10, second - first)
    )
    coat.add((0.62, 0.38, 0.14), (0.8 * smooth(0.30, 0.22, first))[..., None])
    coat.add(BLACK, ring[..., None] * (own > 0.05)[..., None])
    return coat.dry()


def clown(canvas: Canvas, options: Options) -> Painted:
    """White face, red nose and cheeks, a wide mouth, blue over the eyes."""
    coat, mouth = Coat(canvas), canvas.mouth[2]
    coat.add(options.colour("colour", WHITE), ones(canvas))
    coat.add((0.10, 0.35, 0.85), stroke(canvas, ((1.0, 0.35), (1.0, 1.0), (1.0, 1.95)), 0.34, 0.15))
    coat.add((0.10, 0.35, 0.85), stroke(canvas, ((1.0, -0.3), (1.0, -0.7), (1.0, -1.15)), 0.16, 0.2))
    coat.add((0.95, 0.30, 0.32), 0.9 * blob(canvas, 1.65, -1.35, 0.55, 0.55, 0.35))
    smile = torch.maximum(
        blob(canvas, 0.0, mouth - 0.02, 1.15, 0.52, 0.1),
        stroke(canvas, ((0.6, mouth - 0.15), (1.3, mouth + 0.1), (1.75, mouth + 0.75)), 0.30, 0.2),
    )
    coat.add(options.colour("mouth", RED, 1), smile)
    coat.add((0.35, 0.02, 0.04), 0.85 * smooth(0.09, 0.03, (canvas.at[..., 2:] - mouth).abs()) * smile)
    coat.add(RED, nose(canvas, 0.62))
    return coat.dry()


def nose(canvas: Canvas, radius: float) -> Tensor:
    """A disc on the tip of the nose, [B, H, W, 1]."""
    return blob(canvas, 0.0, canvas.mouth[2] + 1.15, radius, radius * 0.92, 0.08)


def skull(canvas: Canvas, options: Options) -> Painted:
    """Bone white with hollow eyes, nose and cheeks, and bared teeth."""
    coat, mouth = Coat(canvas), canvas.mouth[2]
    x, _, z = canvas.at.split(1, -1)
    side = x.abs()
    coat.add(options.colour("colour", (0.93, 0.91, 0.85)), ones(canvas))
    soft = 0.5 * (cloud(canvas.at * 1.4, 3, canvas.seed)[..., None] - 0.5)
    hollow = smooth(1.05, 1.5, side - 0.25 * (z - mouth)) * smooth(mouth + 2.1, mouth + 1.5, z) * smooth(-4.4, -3.9, z)
    coat.add((0.07, 0.06, 0.06), 0.88 * hollow)
    coat.add((0.05, 0.05, 0.05), 0.85 * smooth(2.05, 2.5, side + 0.4 * soft) * smooth(-0.4, 0.4, z))
    coat.add(BLACK, blob(canvas, 1.0, 0.08, 0.82, 0.72, 0.10))
    hole = stroke(canvas, ((0.0, mouth + 1.7), (0.20, mouth + 1.2), (0.36, mouth + 0.95)), 0.26, 0.15)
    coat.add(BLACK, hole)
    band = smooth(0.52, 0.44, (z - mouth).abs() + 0.10 * side**2) * smooth(1.75, 1.55, side) * front(canvas)
    coat.add((0.95, 0.93, 0.87), band)
    gaps = torch.maximum(
        smooth(0.055, 0.02, (z - mouth).abs()),
        smooth(0.05, 0.015, (torch.remainder(side + 0.19, 0.38) - 0.19).abs() * (1 + 0.25 * side)),
    )
    coat.add(BLACK, gaps * band)
    edge = smooth(0.44, 0.49, (z - mouth).abs() + 0.10 * side**2) * smooth(
        0.62, 0.54, (z - mouth).abs() + 0.10 * side**2
    )
    coat.add(BLACK, 0.6 * edge * smooth(1.75, 1.5, side) * front(canvas))
    cracks = smooth(0.972, 0.992, ridges(canvas.at * 0.5 + 2, 4, canvas.seed)[..., None]) * smooth(0.9, 1.4, z)
    coat.add((0.2, 0.17, 0.14), 0.8 * cracks)
    return coat.dry(0.97)


def halves(canvas: Canvas, options: Options) -> Painted:
    """One colour on each half of the face."""
    coat = Coat(canvas)
    edge = canvas.at[..., :1] + 0.10 * (cloud(canvas.at * 1.5, 2, canvas.seed)[..., None] - 0.5)
    chosen = options.colours
    coat.add(options.colour("left", (0.10, 0.30, 0.85)), smooth(-0.04, 0.04, edge))
    if len(chosen) != 1:
        coat.add(options.colour("right", (0.92, 0.15, 0.12), 1), smooth(0.04, -0.04, edge))
    return coat.dry()


def war(canvas: Canvas, options: Options) -> Painted:
    """Two bands across cheeks and nose and one on the chin."""
    coat, mouth = Coat(canvas), canvas.mouth[2]
    z = canvas.at[..., 2:] - 0.10 * canvas.at[..., :1].abs()
    rough = 0.10 * (cloud(canvas.at * 3, 3, canvas.seed)[..., None] - 0.5)
    dark = options.colour("second", (0.07, 0.07, 0.09), 1)
    for colour, middle, half in ((options.colour("colour", RED), -0.72, 0.20), (dark, -1.20, 0.14)):
        coat.add(
            colour,
            0.95 * smooth(half + 0.05, half - 0.05, (z - middle + rough).abs()) * smooth(2.4, 2.1, canvas.at[..., 1:2]),
        )
    coat.add(
        options.colour("colour", RED),
        0.95 * smooth(0.16, 0.10, canvas.at[..., :1].abs() + rough) * smooth(mouth - 0.45, mouth - 0.6, z),
    )
    return coat.dry()


def domino(canvas: Canvas, options: Options) -> Painted:
    """A hero's mask about the eyes."""
    coat, (x, _, z) = Coat(canvas), canvas.at.split(1, -1)
    side = x.abs()
    middle = 0.15 + 0.16 * (side - 1)
    half = 0.72 + 0.12 * (side - 1) - 0.45 * smooth(0.55, 0.0, side) - 1.2 * smooth(1.95, 2.7, side)
    coat.add(
        options.colour("colour", (0.05, 0.05, 0.07)), smooth(0.04, -0.04, (z - middle).abs() - half) * front(canvas)
    )
    return coat.dry(0.98)


def camouflage(canvas: Canvas, options: Options) -> Painted:
    """Patches of four greens and browns."""
    coat = Coat(canvas)
    chosen = (
        options.colours
        if len(options.colours) > 1
        else ((0.42, 0.45, 0.28), (0.22, 0.28, 0.16), (0.45, 0.34, 0.22), BLACK)
    )
    coat.add(chosen[0], ones(canvas))
    for index, colour in enumerate(chosen[1:]):
        patch = cloud(canvas.at * 0.62 + 9.7 * index, 3, canvas.seed + 19 * index)[..., None]
        coat.add(colour, smooth(0.545, 0.565, patch))
    return coat.dry()


def scales(canvas: Canvas, options: Options) -> Painted:
    """A reptile's skin: scales with dark gaps and a light edge."""
    coat = Coat(canvas)
    base = linear_colour(options.colour("colour", (0.28, 0.55, 0.22)), canvas.linear)
    first, second, own = cells(canvas.at * options.number("scale", 2.7), canvas.seed)
    patch = cloud(canvas.at * 0.7, 3, canvas.seed + 4)[..., None]
    shade = (0.55 + 0.6 * patch + 0.35 * (own[..., None] - 0.5)) * (1.25 - 0.9 * first[..., None])
    belly = linear_colour(options.colour("belly", (0.80, 0.78, 0.45), 1), base)
    coat.add(
        mix(base.expand_as(canvas.linear), belly, 0.7 * blob(canvas, 0, canvas.mouth[2] - 0.9, 1.5, 1.3, 0.6)) * shade,
        ones(canvas),
    )
    coat.add((0.06, 0.09, 0.04), smooth(0.11, 0.03, second - first)[..., None])
    return coat.dry()


def galaxy(canvas: Canvas, options: Options) -> Painted:
    """Night sky: clouds of violet and blue, stars."""
    coat = Coat(canvas)
    deep = linear_colour((0.06, 0.04, 0.16), canvas.linear)
    one = linear_colour(options.colour("colour", (0.62, 0.18, 0.75)), canvas.linear)
    two = linear_colour(options.colour("second", (0.15, 0.55, 0.95), 1), canvas.linear)
    a = smooth(0.45, 0.72, cloud(canvas.at * 0.55, 5, canvas.seed)[..., None])
    b = smooth(0.48, 0.74, cloud(canvas.at * 0.6 + 31, 5, canvas.seed + 8)[..., None])
    coat.add(deep + one * a * 1.1 + two * b * 1.1 + 0.25 * a * b, ones(canvas))
    first, _, own = cells(canvas.at * 2.1, canvas.seed + 3)
    star = smooth(0.16, 0.05, first / (0.35 + 0.9 * own**3))[..., None] * (own > 0.35)[..., None]
    coat.add((1.0, 0.98, 0.92), star)
    return coat.dry()


def tattoo(canvas: Canvas, options: Options) -> Painted:
    """Curved blades of ink on one side of the face, the neck and the arms."""
    x, _, z = canvas.at.split(1, -1)
    body = smooth(canvas.mouth[2] - 1.9, canvas.mouth[2] - 2.3, z)
    where = torch.maximum(smooth(0.75, 1.0, x) * smooth(2.2, 1.6, z), body)
    bent = warped(canvas.at, 0.35, 2, 1.3, canvas.seed)
    wave = (
        torch.sin(bent[..., :1] * 3.2 + 2.4 * torch.sin(bent[..., 2:] * 1.4)) + 0.7 * torch.sin(bent[..., 2:] * 3.6)
    ) / 1.7
    blade = smooth(0.04, 0.08, wave) * smooth(0.66, 0.62, wave)
    thin = smooth(0.05, 0.02, (wave + 0.16).abs())  # a line beside each blade
    ink = linear_colour(options.colour("colour", (0.09, 0.11, 0.16)), canvas.linear)
    under = 0.05 * luminance(canvas.linear)
    return encoded(ink * skin_shade(canvas) + under), 0.94 * torch.maximum(blade, 0.85 * thin) * where
