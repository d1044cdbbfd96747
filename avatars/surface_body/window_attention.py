"""Self-attention within the windows of a plane of features, as in the Swin transformer (Liu et al. 2021).

PET-NeuS (Wang et al. 2023) uses it on tri-planes: neighbours tell each other what they have learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from avatars.relit_field.networks import layer

BIAS_SPREAD = 0.02


class WindowAttention(nn.Module):
    """[B, H, W, C] -> [B, H, W, C], each place a mixture of its own window of side x side; H and W are multiples of it.

    Heads share out the channels; what a neighbour counts depends on where it is relative to the place, too.
    """

    relative: Tensor

    def __init__(self, channels: int, heads: int, side: int, generator: torch.Generator) -> None:
        super().__init__()
        self.side, self.heads = side, heads
        self.scale = (channels / heads) ** -0.5
        self.asked, self.asked_bias = layer(channels, 3 * channels, generator)
        self.told, self.told_bias = layer(channels, channels, generator)
        spread = torch.randn((2 * side - 1) ** 2, heads, generator=generator).clamp(-2, 2) * BIAS_SPREAD
        self.bias = nn.Parameter(spread)
        self.register_buffer("relative", relative_places(side), persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """Planes [B, H, W, C] after attention."""
        batch, height, width, channels = planes.shape
        side, rows, columns = self.side, height // self.side, width // self.side
        windows = planes.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        tokens = windows.reshape(-1, side * side, channels)
        asked = linear(tokens, self.asked, self.asked_bias)
        query, key, value = asked.view(len(tokens), side * side, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.relative].permute(2, 0, 1)
        shares = torch.softmax((query * self.scale) @ key.transpose(-1, -2) + bias, -1)
        mixed = (shares @ value).transpose(1, 2).reshape(len(tokens), side * side, channels)
        told = linear(mixed, self.told, self.told_bias)
        return told.view(batch, rows, columns, side, side, channels).transpose(2, 3).reshape(planes.shape)


def relative_places(side: int) -> Tensor:
    """[side^2, side^2] int64: which row of the bias table belongs to a pair of places in a window."""
    steps = torch.arange(side)
    places = torch.cartesian_prod(steps, steps)
    apart = places[:, None] - places[None] + side - 1
    return apart[..., 0] * (2 * side - 1) + apart[..., 1]
