"""LDR-FLIP: how visible the difference of two images is when one is flipped for the other.

Written from Andersson et al., "FLIP: A Difference Evaluator for Alternating Images", Proc. ACM Comput. Graph. Interact.
Tech. 3(2), 2020; the section of each step is named where it is taken.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatars.lighting.colour import linear_from_srgb
from avatars.training.ssim import check_images

PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180  # a 0.7 m wide 4K display seen from 0.7 m (section 5)
_CONTRAST = (  # a1, b1, a2, b2 of the contrast sensitivity of Y, Cx, Cz (table 1)
    (1.0, 0.0047, 0.0, 1e-5),
    (1.0, 0.0053, 0.0, 1e-5),
    (34.1, 0.04, 13.5, 0.025),
)
_EXPONENT_COLOUR, _EXPONENT_FEATURE = 0.7, 0.5
_CUT, _TARGET = 0.4, 0.95  # error at this share of the largest is mapped to this value (section 4.1.3)
_FEATURE_DEGREES = 0.082
_XYZ_FROM_RGB = (
    (0.4123865632529917, 0.35759149092062537, 0.18045049120356368),
    (0.21263682167732384, 0.7151829818412507, 0.07218019648142547),
    (0.019330620152483987, 0.11919716364020845, 0.9503725870054354),
)


def _mix(image: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("bchw,dc->bdhw", image, matrix)


def _matrix(image: Tensor) -> Tensor:
    return torch.tensor(_XYZ_FROM_RGB, dtype=image.dtype, device=image.device)


def _opponent(linear: Tensor) -> Tensor:
    """Linear RGB to YCxCz (section 4.1.1)."""
    matrix = _matrix(linear)
    x, y, z = (_mix(linear, matrix) / matrix.sum(dim=1)[None, :, None, None]).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _linear_from_opponent(opponent: Tensor) -> Tensor:
    matrix = _matrix(opponent)
    light, red_green, blue_yellow = opponent.unbind(1)
    y = (light + 16) / 116
    xyz = torch.stack([y + red_green / 500, y, y - blue_yellow / 200], dim=1) * matrix.sum(dim=1)[None, :, None, None]
    return _mix(xyz, torch.linalg.inv(matrix))


def _hunt_lab(linear: Tensor) -> Tensor:
    """CIELAB with the Hunt effect: colourfulness grows with lightness (section 4.1.2)."""
    matrix = _matrix(linear)
    xyz = _mix(linear, matrix) / matrix.sum(dim=1)[None, :, None, None]
    limit = 6 / 29
    f = torch.where(xyz > limit**3, xyz.clamp(min=limit**3) ** (1 / 3), xyz / (3 * limit**2) + 4 / 29)
    light = 116 * f[:, 1] - 16
    a, b = 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])
    return torch.stack([light, 0.01 * light * a, 0.01 * light * b], dim=1)


def _hyab(first: Tensor, second: Tensor) -> Tensor:
    difference = first - second
    return difference[:, 0].abs() + difference[:, 1:].square().sum(dim=1).sqrt()


def _filter(image: Tensor, kernels: Tensor) -> Tensor:
    """Each channel of [B, C, H, W] with its own kernel [C, K, K]; border pixels are repeated outwards."""
    reach = kernels.shape[-1] // 2
    padded = torch.nn.functional.pad(image, (reach, reach, reach, reach), mode="replicate")
    return torch.nn.functional.conv2d(padded, kernels[:, None], groups=image.shape[1])


def _grid(radius: int, like: Tensor) -> tuple[Tensor, Tensor]:
    ticks = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
    return rows, columns


def _contrast_kernels(pixels_per_degree: float, like: Tensor) -> Tensor:
    widest = max(max(b1, b2) for _, b1, _, b2 in _CONTRAST)
    radius = math.ceil(3 * math.sqrt(widest / (2 * math.pi**2)) * pixels_per_degree)
    rows, columns = _grid(radius, like)
    squared = (rows**2 + columns**2) / pixels_per_degree**2
    kernels = []
    for a1, b1, a2, b2 in _CONTRAST:
        kernel = a1 * math.sqrt(math.pi / b1) * torch.exp(-(math.pi**2) * squared / b1)
        kernel = kernel + a2 * math.sqrt(math.pi / b2) * torch.exp(-(math.pi**2) * squared / b2)
        kernels.append(kernel / kernel.sum())
    return torch.stack(kernels)


def _feature_strengths(light: Tensor, pixels_per_degree: float) -> list[Tensor]:
    """Strength of edges and of points, [B, H, W] each, in [B, 1, H, W] (section 4.2)."""
    deviation = 0.5 * _FEATURE_DEGREES * pixels_per_degree
    rows, columns = _grid(math.ceil(3 * deviation), light)
    bell = torch.exp(-(rows**2 + columns**2) / (2 * deviation**2))
    strengths = []
    for kernel in (-columns * bell, (columns**2 / deviation**2 - 1) * bell):
        up, down = kernel.clamp(min=0), kernel.clamp(max=0)
        balanced = up / up.sum() - down / down.sum()
        both = _filter(light.expand(-1, 2, -1, -1), torch.stack([balanced, balanced.T]))
        strengths.append(both.square().sum(dim=1).sqrt())
    return strengths


@torch.no_grad()
def flip_map(images: Tensor, targets: Tensor, *, pixels_per_degree: float = PIXELS_PER_DEGREE) -> Tensor:
    """The visible difference at each pixel, [B, H, W] in 0..1, of [B, H, W, 3] images in 0..1, display-encoded sRGB."""
    check_images(images, targets)
    pair = [_opponent(linear_from_srgb(image.permute(0, 3, 1, 2).clamp(0, 1))) for image in (images, targets)]
    kernels = _contrast_kernels(pixels_per_degree, images)
    first, second = (_hunt_lab(_linear_from_opponent(_filter(image, kernels)).clamp(0, 1)) for image in pair)
    error = _hyab(first, second) ** _EXPONENT_COLOUR
    extremes = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=images.dtype, device=images.device)
    green, blue = _hunt_lab(extremes[:, :, None, None]).split(1)
    largest = float(_hyab(green, blue)) ** _EXPONENT_COLOUR
    cut = _CUT * largest
    colour = torch.where(
        error < cut, _TARGET / cut * error, _TARGET + (error - cut) / (largest - cut) * (1 - _TARGET)
    ).clamp(0, 1)
    features = [_feature_strengths((image[:, :1] + 16) / 116, pixels_per_degree) for image in pair]
    change = torch.stack([(a - b).abs() for a, b in zip(*features, strict=True)]).amax(dim=0)
    feature = (change / math.sqrt(2)).clamp(0, 1) ** _EXPONENT_FEATURE
    return colour ** (1 - feature)


def flip(images: Tensor, targets: Tensor, *, pixels_per_degree: float = PIXELS_PER_DEGREE) -> Tensor:
    """Mean of `flip_map` for each pair of images, [B]: 0 is indistinguishable."""
    return flip_map(images, targets, pixels_per_degree=pixels_per_degree).mean(dim=(1, 2))
