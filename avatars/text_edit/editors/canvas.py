"""What a look paints on: one person's pictures without their background, and where on the person each pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from avatars.lighting.colour import LUMINANCE, linear_from_srgb, srgb_from_linear
from avatars.text_edit.maps import SurfaceMaps
from avatars.text_edit.surface import REGIONS, Face
from avatars.text_edit.views import Views
from shared.errors import BadConfig

Colour = tuple[float, float, float]
WIDE_M, SMOOTH_M = 0.02, 0.0022
"""How far around it a pixel is compared with to tell detail (strands, folds) from shading."""
NO_FACE = Face((0.0, -0.2, 1.6), 0.032, (0.0, -0.23, 1.52))
TOP_OF_BODY, ANKLES = 0.575, 0.06
"""Where trousers and shoes begin, as shares of the height of the eyes above the floor."""
WHOLE_PERSON_M = 1.0
UNLIKE = 0.15
"""Distance of two display-encoded colours from which on pixels can be told apart by them."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pictures [B, H, W, 3] and what belongs to them; every tensor ends in a channel axis.

    colour: display-encoded sRGB of the person alone. linear: the same in linear light. light: its luminance. detail:
    luminance relative to that around it, about 1. at: rest position in half distances of the eyes from their middle
    (x to the person's left, y back, z up). mouth: the middle of the lips in these units. normal: in the rest pose.
    facing: cosine between the surface and the direction to the camera. pixel_m: size of a pixel on the surface.
    """

    colour: Tensor
    linear: Tensor
    light: Tensor
    detail: Tensor
    at: Tensor
    mouth: Colour
    normal: Tensor
    facing: Tensor
    pixel_m: Tensor
    maps: SurfaceMaps
    alpha: Tensor
    background: Tensor
    floor: float
    unit_m: float
    seed: int

    def region(self, *names: str) -> Tensor:
        """Membership [B, H, W, 1] of regions, or of one of the parts below that are made of them."""
        found = [PARTS[name](self) if name in PARTS else self.maps.of(name) for name in names]
        return torch.stack(found).sum(0).clamp(0, 1)

    def over_background(self, colour: Tensor) -> Tensor:
        """The person in `colour` [B, H, W, 3] over the background of the pictures."""
        return colour * self.alpha + self.background * (1 - self.alpha)


def canvas_of(views: Views, seed: int = 0) -> Canvas:
    """The person cut out of views. Raises BadConfig where these have no maps."""
    maps = views.maps
    if maps is None:
        raise BadConfig("the built-in editor needs maps of the surface", found="pictures alone")
    face = maps.face or NO_FACE
    alpha = views.alpha.clamp(0, 1)
    background = views.background.to(views.images).view(1, 1, 1, 3)
    solid = alpha.clamp_min(0.02)
    colour = ((views.images - (1 - alpha) * background) / solid).clamp(0, 1)
    maps = replace(maps, weights=decided(without_skin(maps, colour)))
    linear = linear_from_srgb(colour)
    light = luminance(linear)
    focal_px = views.cameras.K[:, 0, 0].view(-1, 1, 1, 1)
    depth = maps.depth.clamp_min(0.05)
    pixel_m = depth / focal_px if not views.cameras.orthographic else torch.ones_like(depth) / focal_px
    around = max(1, round(float(WIDE_M / pixel_m[alpha > 0.5].mean()))) if bool((alpha > 0.5).any()) else 1
    # One Gaussian has one place: without this, edges of patterns would show their outlines.
    fine = max(1, round(float(SMOOTH_M / pixel_m[alpha > 0.5].mean()))) if bool((alpha > 0.5).any()) else 1
    position, normal = (blurred(part, alpha, fine) for part in (maps.rest_position, maps.rest_normal))
    eyes = linear.new_tensor(face.eyes)
    toward = _toward_cameras(views, depth)
    return Canvas(
        colour=colour,
        linear=linear,
        light=light,
        detail=((light + 0.02) / (blurred(light, alpha, around) + 0.02)).clamp(0.2, 3),
        at=(position - eyes) / face.half_eyes_m,
        mouth=tuple(float(m - e) / face.half_eyes_m for m, e in zip(face.mouth, face.eyes, strict=True)),  # type: ignore[arg-type]
        normal=torch.nn.functional.normalize(normal, dim=-1),
        facing=(maps.normal * toward).sum(-1, keepdim=True),
        pixel_m=pixel_m,
        maps=maps,
        alpha=alpha,
        background=background,
        floor=(face.floor_m - face.eyes[2]) / face.half_eyes_m,
        unit_m=face.half_eyes_m,
        seed=seed,
    )


def skin_likeness(maps: SurfaceMaps, colour: Tensor, other: Tensor) -> Tensor | None:
    """How much nearer to the skin's colour than to `other` [3] a picture's colours [B, H, W, 3] are, [B, H, W, 1].

    0..1, or None where the skin's colour is not known or too near the other.
    """
    if maps.colours is None:
        return None
    skin, other = maps.colours[REGIONS.index("skin")].to(colour), other.to(colour)
    if not bool(torch.isfinite(skin).all() & torch.isfinite(other).all()) or float((skin - other).norm()) < UNLIKE:
        return None
    to_skin, to_other = ((colour - one).norm(dim=-1, keepdim=True) for one in (skin, other))
    return to_other / (to_skin + to_other).clamp_min(1e-4)


def without_skin(maps: SurfaceMaps, colour: Tensor) -> Tensor:
    """Memberships [B, H, W, R] without hair where a pixel near its border has the skin's colour: it shines through."""
    hair, skin = REGIONS.index("hair"), REGIONS.index("skin")
    weights = maps.weights
    if maps.colours is None:
        return weights
    likeness = skin_likeness(maps, colour, maps.colours[hair])
    if likeness is None:
        return weights
    own = weights[..., hair : hair + 1]
    kept = own * mix(smooth(0.52, 0.24, likeness), 1.0, smooth(0.40, 0.75, own))
    weights = weights.clone()
    weights[..., skin : skin + 1] += own - kept
    weights[..., hair : hair + 1] = kept
    return weights


def decided(weights: Tensor) -> Tensor:
    """Memberships [B, H, W, R] in which little hair or cloth counts as none: it is skin in shadow, not a border."""
    weights = weights.clone()
    skin = REGIONS.index("skin")
    for name in ("hair", "clothes"):
        index = REGIONS.index(name)
        total = weights[..., skin] + weights[..., index]
        share = weights[..., index] / total.clamp_min(1e-4)
        weights[..., index] = total * smooth(0.12, 0.75, share)
        weights[..., skin] = total - weights[..., index]
    return weights


def _toward_cameras(views: Views, depth: Tensor) -> Tensor:
    """Unit directions [B, H, W, 3] to the camera in world axes."""
    cameras = views.cameras
    count, high, wide, _ = depth.shape
    rotation = cameras.camera_from_world[:, :3, :3]  # world direction d is rotation d in the camera
    if cameras.orthographic:
        return -rotation[:, 2].view(count, 1, 1, 3).expand(count, high, wide, 3)
    x = torch.arange(wide, device=depth.device) + 0.5
    y = torch.arange(high, device=depth.device) + 0.5
    K = cameras.K
    rays = torch.stack(
        (
            ((x[None, None] - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]).expand(count, high, wide),
            ((y[None, :, None] - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]).expand(count, high, wide),
            torch.ones(count, high, wide, device=depth.device),
        ),
        -1,
    )
    world = torch.einsum("bhwc,bcd->bhwd", rays, rotation)
    return -torch.nn.functional.normalize(world, dim=-1)


def luminance(linear: Tensor) -> Tensor:
    """[..., 1] of linear light [..., 3]."""
    return (linear * linear.new_tensor(LUMINANCE)).sum(-1, keepdim=True)


def blurred(values: Tensor, alpha: Tensor, reach_px: int) -> Tensor:
    """Values [B, H, W, C] averaged over about `reach_px` around each pixel where alpha [B, H, W, 1] is solid."""
    size = 2 * reach_px + 1

    def box(part: Tensor) -> Tensor:
        planes = part.permute(0, 3, 1, 2)
        for _ in range(2):  # two boxes are a tent, without a box's edges
            planes = avg_pool2d(pad(planes, (reach_px, reach_px, 0, 0), mode="replicate"), (1, size), stride=1)
            planes = avg_pool2d(pad(planes, (0, 0, reach_px, reach_px), mode="replicate"), (size, 1), stride=1)
        return planes.permute(0, 2, 3, 1)

    return box(values * alpha) / box(alpha).clamp_min(1e-3)


def smooth(low: float | Tensor, high: float | Tensor, values: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between; the other way round where low > high."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def mix(first: Tensor, second: Tensor | Colour | float, share: Tensor | float) -> Tensor:
    """first where share is 0, second where it is 1."""
    other = first.new_tensor(second) if isinstance(second, tuple | float) else second
    return first + (other - first) * share


def encoded(linear: Tensor) -> Tensor:
    """Display-encoded sRGB of linear light, cut to what a screen shows."""
    return srgb_from_linear(linear.clamp(0, 1))


def linear_colour(colour: Sequence[float], like: Tensor) -> Tensor:
    """Linear light [3] of a display-encoded colour."""
    return linear_from_srgb(like.new_tensor(list(colour)))


def _front(canvas: Canvas) -> Tensor:
    """The face: what faces forward between hairline and chin, before the ears."""
    x, y, z = canvas.at.split(1, -1)
    chin = canvas.mouth[2] - 1.7
    return smooth(2.6, 2.0, x.abs()) * smooth(2.6, 1.8, y) * smooth(chin - 0.4, chin + 0.3, z)


def _face(canvas: Canvas) -> Tensor:
    return _front(canvas) * canvas.maps.of("skin", "lips", "brows", "lashes")


def _head(canvas: Canvas) -> Tensor:
    return smooth(canvas.mouth[2] - 3.2, canvas.mouth[2] - 2.2, canvas.at[..., 2:])


def _hands(canvas: Canvas) -> Tensor:
    return canvas.maps.of("skin") * smooth(14.0, 16.0, canvas.at[..., :1].abs())


def _whole(canvas: Canvas) -> bool:
    return -canvas.floor * canvas.unit_m > WHOLE_PERSON_M


def _height(canvas: Canvas) -> Tensor:
    """Height above the floor as a share of the eyes' [B, H, W, 1]; 1 all over a bust."""
    if not _whole(canvas):
        return torch.ones_like(canvas.alpha)
    return 1 - canvas.at[..., 2:] / canvas.floor


def _top(canvas: Canvas) -> Tensor:
    return canvas.maps.of("clothes") * smooth(TOP_OF_BODY - 0.006, TOP_OF_BODY + 0.006, _height(canvas))


def _bottom(canvas: Canvas) -> Tensor:
    height = _height(canvas)
    below = smooth(TOP_OF_BODY + 0.006, TOP_OF_BODY - 0.006, height)
    return canvas.maps.of("clothes") * below * smooth(ANKLES - 0.01, ANKLES + 0.01, height)


def _shoes(canvas: Canvas) -> Tensor:
    return canvas.maps.of("clothes", "skin") * smooth(ANKLES + 0.01, ANKLES - 0.01, _height(canvas))


def _beard(canvas: Canvas) -> Tensor:
    """Where a beard grows: jaw, chin, upper lip and the sides, not the lips."""
    x, y, z = canvas.at.split(1, -1)
    mouth = canvas.mouth[2]
    jaw = smooth(mouth + 0.05, mouth - 0.35, z - 0.42 * (x.abs() - 0.9).clamp_min(0)) * smooth(2.9, 2.3, y)
    sides = smooth(1.9, 2.15, x.abs()) * smooth(mouth + 1.9, mouth + 0.9, z) * smooth(2.5, 2.1, y)
    upper = smooth(1.0, 0.75, x.abs()) * smooth(mouth + 0.72, mouth + 0.5, z) * smooth(mouth - 0.3, mouth, z)
    below = smooth(mouth - 2.6, mouth - 2.0, z)
    return torch.maximum(torch.maximum(jaw, sides), upper) * below * canvas.maps.of("skin")


PARTS = {
    "face": _face,
    "front": _front,
    "head": _head,
    "hands": _hands,
    "top": _top,
    "bottom": _bottom,
    "shoes": _shoes,
    "beard": _beard,
}
"""Parts that are not regions of their own -> how they are found."""
