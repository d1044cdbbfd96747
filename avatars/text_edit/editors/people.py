"""Looks that change the person: age, make-up, beards, freckles, and figures such as zombies and vampires."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.text_edit.editors.canvas import Canvas, Colour, encoded, linear_colour, luminance, mix, smooth
from avatars.text_edit.editors.materials import Options, Painted, ones, shoulder
from avatars.text_edit.editors.noise import cells, cloud, ridges, value_noise
from avatars.text_edit.editors.paints import Coat, blob, front, skin_shade, stroke
from avatars.text_edit.editors.tones import lids, recolour

SKIN = ("skin", "lips")


def graded(canvas: Canvas, saturation: float, gain: Colour, stops: float = 0.0) -> Tensor:
    """The person's linear light with other saturation, tint and brightness; brightness holds for gains of mean 1."""
    grey = luminance(canvas.linear)
    faded = mix(grey.expand_as(canvas.linear), canvas.linear, saturation)
    return faded * (canvas.linear.new_tensor(gain) * 2.0**stops)


def grooves(canvas: Canvas) -> Tensor:
    """Height of an old face's wrinkles [B, H, W, 1]: below 0 in a fold, above beside it."""
    x, _, z = canvas.at.split(1, -1)
    side, mouth = x.abs(), canvas.mouth[2]
    warp = 0.16 * (cloud(canvas.at * 1.1, 3, canvas.seed)[..., None] - 0.5)

    def fold(distance: Tensor, width: float) -> Tensor:
        return -torch.exp(-((distance / width) ** 2)) + 0.45 * torch.exp(-(((distance - 1.7 * width) / width) ** 2))

    total = torch.zeros_like(x)
    for level, strength in ((1.28, 0.8), (1.62, 1.0), (1.97, 0.9), (2.30, 0.6)):
        bow = level + 0.10 * torch.cos(side * 1.6) + 1.2 * warp
        total = total + strength * fold(z - bow, 0.055) * smooth(1.7, 1.1, side) * smooth(1.2, 0.4, canvas.at[..., 1:2])
    for tilt, strength in ((0.42, 0.8), (0.12, 1.0), (-0.18, 0.9), (-0.5, 0.7)):
        ray = (z - 0.02 + warp) - tilt * (side - 1.45)
        total = total + strength * fold(ray, 0.04) * smooth(1.5, 1.7, side) * smooth(2.35, 1.95, side)
    total = total + fold(z + 0.50 - 0.10 * (side - 1) ** 2 * 2 + warp, 0.06) * smooth(0.75, 0.45, (side - 1).abs())
    total = total + 0.7 * fold(z + 0.78 - 0.3 * (side - 1) ** 2 + warp, 0.06) * smooth(0.6, 0.3, (side - 1).abs())
    cheek = side - (0.62 + 0.42 * ((mouth + 1.35 - z) / 1.5).clamp(0, 1.3)) + 0.6 * warp
    total = total + 1.5 * fold(cheek, 0.09) * smooth(mouth + 1.45, mouth + 1.15, z) * smooth(
        mouth - 0.55, mouth - 0.1, z
    )
    total = total + 0.9 * fold(side - 0.98 + 0.6 * warp, 0.06) * smooth(mouth - 0.1, mouth - 0.3, z) * smooth(
        mouth - 1.15, mouth - 0.8, z
    )
    total = total + 0.8 * fold(side - 0.22 + 0.4 * warp, 0.05) * smooth(0.95, 0.75, z) * smooth(0.2, 0.4, z)
    for level in (-1.9, -2.35, -2.9):
        total = total + 0.7 * fold(z - (mouth + level) - 0.12 * torch.cos(x) + warp, 0.07) * smooth(
            mouth - 1.5, mouth - 1.75, z
        )
    fine = ridges(canvas.at * 2.6, 3, canvas.seed + 4)[..., None]
    total = total * front(canvas) - 0.16 * smooth(0.86, 0.97, fine)
    return total * canvas.maps.of("skin")


def aged(canvas: Canvas, options: Options) -> Painted:
    """Wrinkles, spots, paler and less even skin, grey hair and brows."""
    skin = graded(canvas, 0.78, (1.03, 0.99, 0.97))
    skin = skin * (1 + 0.40 * grooves(canvas)).clamp(0.35, 1.25)
    uneven = cloud(canvas.at * 1.2, 4, canvas.seed + 6)[..., None]
    skin = skin * (0.90 + 0.18 * uneven)
    first, _, own = cells(canvas.at * 1.4, canvas.seed + 5)
    spot = smooth(0.30, 0.16, first / (0.4 + 0.7 * own))[..., None] * (own > 0.72)[..., None]
    skin = mix(skin, skin * skin.new_tensor((0.66, 0.50, 0.40)), 0.55 * spot)
    socket = blob(canvas, 1.0, -0.38, 0.62, 0.30, 0.5)
    skin = skin * (1 - 0.22 * socket * skin.new_tensor((0.8, 1.0, 0.9)))
    hair = grey_hair(canvas)
    share = canvas.region("hair", "brows", "lashes")
    beard = options.number("beard")
    shown = mix(skin, hair, share)
    if beard:
        shown = mix(shown, hair * 1.2, beard * canvas.region("beard"))
    cover = (1 - canvas.maps.of("eyes", "mouth", "clothes")).clamp(0, 1)
    return encoded(shoulder(shown)), cover


def grey_hair(canvas: Canvas) -> Tensor:
    """Linear light of hair gone grey, strand by strand."""
    strand = value_noise(canvas.at * torch.tensor([9.0, 9.0, 2.5], device=canvas.at.device), canvas.seed + 2)[..., None]
    where = canvas.region("hair", "brows") * (canvas.alpha > 0.5)
    own = canvas.light[where > 0.6]
    middle = own.median().clamp_min(0.004) if len(own) else canvas.light.new_tensor(0.1)
    shade = (canvas.light / middle).clamp(0, 5).pow(0.55)
    return linear_colour((0.66, 0.66, 0.67), canvas.linear) * shade * (0.72 + 0.5 * strand)


def freckles(canvas: Canvas, options: Options) -> Painted:
    """Small brown dots, dense on cheeks and nose."""
    first, _, own = cells(canvas.at * 6.5, canvas.seed)
    dense = torch.maximum(blob(canvas, 1.0, -1.0, 1.0, 0.75, 0.7), blob(canvas, 0.0, -0.9, 0.9, 0.6, 0.6))
    dense = torch.maximum(dense, 0.35 * front(canvas))
    drawn = (own[..., None] < dense * 0.85) * smooth(0.44, 0.22, first)[..., None]
    fleck = linear_colour(options.colour("colour", (0.62, 0.40, 0.28)), canvas.linear) * skin_shade(canvas)
    return encoded(mix(canvas.linear, fleck, 0.6)), 0.75 * drawn * smooth(3.0, 2.2, canvas.at[..., 1:2])


def lipstick(canvas: Canvas, options: Options) -> Painted:
    """Glossy colour on the lips."""
    colour, _ = recolour(
        canvas, Options((options.colour("colour", (0.72, 0.06, 0.13)),), {"region": "lips", "contrast": 0.7})
    )
    return colour, smooth(0.2, 0.55, canvas.maps.of("lips"))


def make_up(canvas: Canvas, options: Options) -> Painted:
    """Lipstick, shadow over the eyes, a line at the lashes and a touch of red on the cheeks."""
    coat = Coat(canvas)
    coat.add(options.colour("cheeks", (0.90, 0.42, 0.42), 2), 0.26 * blob(canvas, 1.65, -1.25, 0.75, 0.5, 0.8))
    lid = blob(canvas, 1.08, 0.27, 0.64, 0.22, 0.6) * (1 - canvas.maps.of("eyes"))
    coat.add(options.colour("eyes", (0.38, 0.22, 0.45), 1), 0.72 * lid)
    liner = stroke(canvas, ((0.62, 0.02), (1.0, 0.20), (1.42, 0.10), (1.80, 0.26)), 0.07, 0.5)
    coat.add((0.05, 0.04, 0.05), 0.85 * liner * (1 - canvas.maps.of("eyes")))
    coat.add(options.colour("colour", (0.72, 0.07, 0.15)), 0.9 * smooth(0.2, 0.55, canvas.maps.of("lips")))
    return coat.dry()


def stubble(canvas: Canvas, options: Options) -> Painted:
    """Short hair on jaw, chin and upper lip."""
    hair = linear_colour(options.colour("colour", (0.17, 0.12, 0.09)), canvas.linear)
    grain = value_noise(canvas.at * torch.tensor([16.0, 16.0, 9.0], device=canvas.at.device), canvas.seed)[..., None]
    patch = cloud(canvas.at * 1.6, 3, canvas.seed + 1)[..., None]
    thick = options.number("thick", 0.5)
    share = canvas.region("beard") * (thick + 0.5 * (grain - 0.5) + 0.35 * (patch - 0.5)).clamp(0, 1)
    shown = hair * (0.55 + 0.9 * grain) * skin_shade(canvas) + 0.12 * canvas.linear
    return encoded(shown), share


def complexion(canvas: Canvas, options: Options) -> Painted:
    """Skin of another depth: tanned, pale, flushed."""
    gain = options.colour("gain", (1.0, 1.0, 1.0), 9)
    shown = graded(canvas, options.number("saturation", 1.0), gain, options.number("stops"))
    where = ones(canvas)
    if options.number("cheeks"):
        where = 0.85 * torch.maximum(blob(canvas, 1.5, -1.1, 0.9, 0.7, 0.8), 0.6 * blob(canvas, 0, -1.2, 0.5, 0.5, 0.8))
    return encoded(shoulder(shown)), where


def sockets(canvas: Canvas, wide: float = 0.85, high: float = 0.62) -> Tensor:
    """Dark rings about the eyes, not over them, [B, H, W, 1]."""
    return blob(canvas, 1.02, -0.06, wide, high, 0.6) * (1 - canvas.maps.of("eyes"))


def trickle(canvas: Canvas, x: float, length: float) -> Tensor:
    """A run of blood down from a corner of the mouth, [B, H, W, 1]."""
    mouth = canvas.mouth[2]
    bend = 0.05 * torch.sin(canvas.at[..., 2:] * 5)
    far = (canvas.at[..., :1].abs() - x + bend).abs()
    down = smooth(mouth - length - 0.1, mouth - length + 0.2, canvas.at[..., 2:]) * smooth(
        mouth + 0.02, mouth - 0.08, canvas.at[..., 2:]
    )
    drop = blob(canvas, x, mouth - length + 0.05, 0.11, 0.18, 0.3)
    return torch.maximum(smooth(0.085, 0.04, far) * down * front(canvas), drop)


def blood(canvas: Canvas) -> Tensor:
    """Linear light of wet blood."""
    return linear_colour((0.45, 0.01, 0.02), canvas.linear) * skin_shade(canvas) + 0.05 * smooth(
        1.2, 2.0, canvas.detail
    )


def zombie(canvas: Canvas, options: Options) -> Painted:
    """Grey-green mottled skin, dark sockets, veins, clouded eyes, blood at the mouth."""
    flesh = linear_colour(options.colour("colour", (0.52, 0.58, 0.42)), canvas.linear)
    mottle = cloud(canvas.at * 1.3, 4, canvas.seed)[..., None]
    shade = skin_shade(canvas) * canvas.detail.pow(0.5)
    skin = mix(flesh, linear_colour((0.36, 0.34, 0.38), flesh), smooth(0.42, 0.68, mottle)) * shade
    veins = smooth(0.965, 0.992, ridges(canvas.at * 0.8, 4, canvas.seed + 2)[..., None])
    skin = mix(skin, linear_colour((0.22, 0.16, 0.26), skin) * shade, 0.4 * veins)
    wounds = smooth(0.66, 0.72, cloud(canvas.at * 0.75 + 4, 5, canvas.seed + 9)[..., None])
    skin = mix(skin, linear_colour((0.30, 0.05, 0.04), skin) * shade, 0.85 * wounds)
    skin = mix(skin, linear_colour((0.10, 0.07, 0.08), skin) * shade, 0.85 * sockets(canvas))
    mouth = canvas.mouth[2]
    smear = blob(canvas, 0, mouth - 0.35, 1.15, 0.75, 0.5) * smooth(
        0.40, 0.60, cloud(canvas.at * 2.2, 3, canvas.seed + 7)[..., None]
    )
    red = torch.maximum(torch.maximum(0.85 * smear, 0.75 * canvas.maps.of("lips")), trickle(canvas, 0.55, 1.6))
    skin = mix(skin, blood(canvas), red)
    eyes = mix(canvas.linear, linear_colour((0.86, 0.88, 0.80), canvas.linear) * (0.25 + canvas.light), 0.8)
    dull = graded(canvas, 0.45, (0.96, 1.0, 0.90), -0.4)
    shown = mix(mix(skin, dull, canvas.region("hair", "clothes", "brows")), eyes, canvas.maps.of("eyes"))
    return encoded(shoulder(shown)), 1 - canvas.maps.of("mouth")


def vampire(canvas: Canvas, options: Options) -> Painted:
    """White skin, dark eyes with a red iris, deep red lips and a trickle of blood."""
    shade = skin_shade(canvas)
    pale = linear_colour(options.colour("colour", (0.90, 0.88, 0.90)), canvas.linear) * shade.pow(1.15)
    skin = mix(graded(canvas, 0.25, (0.98, 0.98, 1.06), 0.3), pale, 0.7)
    skin = mix(skin, linear_colour((0.28, 0.16, 0.24), skin) * shade, 0.62 * sockets(canvas))
    skin = mix(skin, linear_colour((0.45, 0.02, 0.06), skin) * shade, 0.9 * smooth(0.2, 0.5, canvas.maps.of("lips")))
    skin = mix(skin, blood(canvas), 0.92 * trickle(canvas, 0.62, 1.25) * (canvas.at[..., :1] > 0))
    red, iris = recolour(canvas, Options(((0.85, 0.03, 0.03),), {"region": "eyes", "iris": 1.0}))
    shown = mix(skin, graded(canvas, 0.7, (0.9, 0.9, 1.0), -0.6), canvas.region("hair", "brows", "lashes"))
    display = encoded(shoulder(shown))
    display = mix(display, red, canvas.maps.of("eyes") * iris * 0.9)
    cover = (1 - canvas.maps.of("mouth", "clothes") - canvas.maps.of("eyes") * (1 - iris)).clamp(0, 1)
    return display, cover


def joker(canvas: Canvas, options: Options) -> Painted:
    """White greasepaint, smeared black eyes, a red smile up the cheeks, green hair."""
    coat, mouth = Coat(canvas), canvas.mouth[2]
    rough = cloud(canvas.at * 2.0, 4, canvas.seed)[..., None]
    coat.add((0.93, 0.93, 0.91), (0.80 + 0.5 * (rough - 0.4)) * canvas.region("face", "front"))
    coat.add((0.06, 0.06, 0.08), 0.92 * blob(canvas, 1.02, 0.06, 0.92, 0.62, 0.45) * (0.75 + 0.5 * rough))
    smile = torch.maximum(
        blob(canvas, 0, mouth, 1.0, 0.34, 0.3),
        stroke(canvas, ((0.7, mouth - 0.02), (1.25, mouth + 0.22), (1.85, mouth + 0.85)), 0.24, 0.4),
    )
    coat.add((0.70, 0.04, 0.07), 0.95 * smile * (0.7 + 0.6 * rough))
    painted, cover = coat.dry()
    green, _ = recolour(
        canvas, Options((options.colour("hair", (0.16, 0.48, 0.14)),), {"region": "hair", "contrast": 0.7})
    )
    hair = canvas.maps.of("hair")
    shown = mix(canvas.colour, painted, cover * canvas.region(*SKIN, "brows", "lashes"))
    return mix(shown, green, hair), ones(canvas)


def goth(canvas: Canvas, options: Options) -> Painted:
    """Pale skin, black lips and eyes."""
    coat = Coat(canvas)
    coat.add((0.94, 0.91, 0.91), 0.55 * ones(canvas))
    coat.add((0.05, 0.04, 0.06), 0.85 * blob(canvas, 1.05, 0.12, 0.80, 0.46, 0.5) * (1 - canvas.maps.of("eyes")))
    coat.add(options.colour("colour", (0.07, 0.03, 0.06)), 0.95 * smooth(0.2, 0.55, canvas.maps.of("lips")))
    return coat.dry()


def frost(canvas: Canvas, options: Options) -> Painted:
    """Frozen: blue skin under fine needles of ice, white rime on hair, brows, lashes and what looks up."""
    shade = skin_shade(canvas)
    blue = linear_colour(options.colour("colour", (0.62, 0.76, 0.90)), canvas.linear)
    skin = mix(graded(canvas, 0.30, (0.80, 0.98, 1.24)), blue * shade, 0.55)
    fine = ridges(canvas.at * 3.6, 3, canvas.seed)[..., None]
    first, second, glint = cells(canvas.at * 4.5, canvas.seed + 3)
    needles = smooth(0.10, 0.0, second - first)[..., None] * smooth(0.35, 0.75, glint)[..., None]
    where = smooth(0.40, 0.66, cloud(canvas.at * 0.8, 3, canvas.seed + 5)[..., None] + 0.22 * canvas.normal[..., 2:])
    powder = value_noise(canvas.at * 16, canvas.seed + 9)[..., None]
    ice = where * (0.30 + 0.30 * powder + 0.55 * smooth(0.86, 0.98, fine) + 0.5 * needles)
    ice = ice * (1 - 0.4 * canvas.maps.of("clothes"))
    ice = torch.maximum(ice, 0.85 * canvas.region("brows", "lashes"))
    ice = torch.maximum(ice, 0.3 * canvas.maps.of("lips")).clamp(0, 1)
    white = linear_colour((0.93, 0.97, 1.0), canvas.linear)
    shown = mix(skin, white * (0.45 + 0.55 * shade.clamp(0, 1.2)), ice)
    strands = smooth(0.65, 1.35, canvas.detail * (0.8 + 0.4 * powder))
    rime = mix(linear_colour((0.50, 0.58, 0.68), canvas.linear), white, 0.25 + 0.75 * strands)
    shown = mix(shown, rime * (0.8 + 0.25 * canvas.normal[..., 2:]), 0.92 * canvas.maps.of("hair"))
    eyes = canvas.maps.of("eyes") * (1 - lids(canvas))
    return encoded(shoulder(shown)), (1 - canvas.maps.of("mouth") - 0.6 * eyes).clamp(0, 1)


def dirt(canvas: Canvas, options: Options) -> Painted:
    """Mud in patches, thicker in folds."""
    mud = linear_colour(options.colour("colour", (0.30, 0.22, 0.15)), canvas.linear)
    patch = cloud(canvas.at * 0.8, 5, canvas.seed)[..., None] + 0.25 * (1 - canvas.detail).clamp(-0.3, 0.6)
    share = 0.9 * smooth(0.46, 0.66, patch) + 0.15
    grain = value_noise(canvas.at * 9, canvas.seed + 1)[..., None]
    return encoded(mud * skin_shade(canvas).clamp_max(1.6) * (0.8 + 0.4 * grain)), share


def bruised(canvas: Canvas, options: Options) -> Painted:
    """One black eye, a bruise on the cheek and a cut lip."""
    x = canvas.at[..., :1]
    rough = cloud(canvas.at * 1.6, 4, canvas.seed)[..., None]
    eye = blob(canvas, 1.05, -0.12, 0.95, 0.70, 0.7) * (x > 0) * (1 - canvas.maps.of("eyes"))
    cheek = blob(canvas, 1.6, -1.7, 0.7, 0.55, 0.8) * (x < 0)
    violet = linear_colour((0.34, 0.16, 0.34), canvas.linear) * skin_shade(canvas)
    yellow = linear_colour((0.62, 0.52, 0.25), canvas.linear) * skin_shade(canvas)
    colour = mix(yellow, violet, smooth(0.35, 0.6, rough + 0.3 * eye))
    share = ((0.8 * eye + 0.65 * cheek) * (0.6 + 0.7 * rough)).clamp(0, 0.85)
    cut = smooth(0.09, 0.03, (x + 0.45 + 0.1 * (rough - 0.5)).abs()) * canvas.maps.of("lips")
    shown = mix(colour, blood(canvas), cut)
    del options
    return encoded(shown), torch.maximum(share, 0.9 * cut)
