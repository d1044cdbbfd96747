"""Display-encoded sRGB (IEC 61966-2-1) and linear light. Both curves go on above 1 and are odd below 0."""

from __future__ import annotations

from torch import Tensor

LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear Rec. 709 red, green, blue


def linear_from_srgb(encoded: Tensor) -> Tensor:
    """Linear light of display-encoded values, any shape."""
    size = encoded.abs()
    curve = ((size.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return encoded.sign() * (size / 12.92).where(size <= 0.04045, curve)


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Display-encoded values of linear light, any shape."""
    size = linear.abs()
    curve = 1.055 * size.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return linear.sign() * (size * 12.92).where(size <= 0.0031308, curve)
