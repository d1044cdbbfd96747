"""The light a head was recorded in: the capture's own, picture by picture, or a small map that is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from avatars.captures.capture import Capture
from avatars.lighting.latlong import resampled, row_solid_angles
from avatars.lighting.prefilter import FilteredLight, filtered, filtered_environment
from avatars.relit_head.settings import HeadLight, HeadMaterialLosses
from shared.types import Environment

MOST_ROWS = 64
"""Rows of the map that an avatar keeps of its capture's light."""
MOST_LIGHTS = 32


class CaptureLight(nn.Module):
    """`of(image)` gives the light of a picture of the capture. texels: [R, 2 R, 3] before the softplus, when learned.

    Raises BadEnvironment for a file that cannot be read.
    """

    texels: nn.Parameter | None

    def __init__(self, settings: HeadLight, capture: Capture, device: torch.device) -> None:
        super().__init__()
        self.settings, self.capture, self.device = settings, capture, device
        used = [index for index, image in enumerate(capture.images) if image.split == "train"]
        known = capture.environment is not None or all(capture.images[index].light is not None for index in used)
        self.learned = settings.kind == "learned" or not known
        self.ready: dict[object, FilteredLight] = {}
        self.texels = None
        if self.learned:
            raw = math.log(math.expm1(settings.mean))
            self.texels = nn.Parameter(torch.full((settings.rows, 2 * settings.rows, 3), raw, device=device))

    def radiance(self) -> Tensor:
        """The learned map [R, 2 R, 3], differentiable."""
        assert self.texels is not None
        return softplus(self.texels)

    def of(self, image: int | None) -> FilteredLight:
        """Of the capture's image of that index; None: of the first training image."""
        if self.learned:
            return filtered(self.radiance(), height=self.settings.rows)
        index = self.capture.split("train")[0] if image is None else image
        key = self.capture.images[index].light
        if key not in self.ready:
            environment = self.capture.light(index) or self.capture.light(self.capture.split("train")[0])
            assert environment is not None
            if len(self.ready) >= MOST_LIGHTS:
                self.ready.clear()
            self.ready[key] = filtered_environment(environment, self.device)
        return self.ready[key]

    def groups(self, images: Tensor | None, count: int) -> list[tuple[Tensor, FilteredLight]]:
        """Rows [M] of a batch of `count` pictures and the light they share, for images [count] or unknown ones."""
        if self.learned or images is None or all(image.light is None for image in self.capture.images):
            return [(torch.arange(count), self.of(None))]
        found: dict[object, list[int]] = {}
        for row, image in enumerate(images.tolist()):
            found.setdefault(self.capture.images[image].light, []).append(row)
        return [(torch.tensor(rows), self.of(int(images[rows[0]]))) for rows in found.values()]

    def terms(self, weights: HeadMaterialLosses) -> dict[str, Tensor]:
        """What holds a learned light: smooth, nearly white, of the mean that was chosen. Nothing for one that is known.

        Pictures of one person cannot tell a bright light on dark skin from a dim one on fair skin: the mean is a
        convention, not a measurement.
        """
        if not self.learned:
            return {}
        radiance = self.radiance()
        area = row_solid_angles(*radiance.shape[:2]).to(radiance)[:, None, None] / (4 * math.pi)
        mean = (radiance * area).sum((0, 1))
        level = mean.mean().detach().clamp(min=1e-3)
        across = (radiance - radiance.roll(1, 1)) / level
        down = (radiance[1:] - radiance[:-1]) / level
        grey = radiance.mean(-1, keepdim=True)
        return {
            "light_smooth": weights.light_smooth * (across.square().mean() + down.square().mean()),
            "light_white": weights.light_white * ((radiance - grey) / level).square().mean(),
            "light_mean": weights.light_mean * (mean.mean() - self.settings.mean).square(),
        }

    def stored(self) -> Tensor:
        """The map [H, 2 H, 3] an avatar keeps: world axes, strength and rotation applied, on the CPU."""
        if self.learned:
            return self.radiance().detach().cpu()
        environment = self.capture.light(self.capture.split("train")[0])
        assert environment is not None
        return map_of(environment)


def map_of(environment: Environment, most_rows: int = MOST_ROWS) -> Tensor:
    """An environment [H, 2 H, 3] with its rotation and strength applied, at most so many rows; its lamps left out."""
    radiance = torch.from_numpy(environment.radiance.copy()).clamp(min=0) * environment.strength
    rows = min(most_rows, radiance.shape[0])
    wide = resampled(radiance, rows, radiance.shape[1])
    # Turning by a whole number of columns of the fine map would lose up to half of one.
    shift = environment.rotation_rad / (2 * math.pi) * wide.shape[1]
    low = math.floor(shift)
    wide = wide.roll(-low, 1) * (low + 1 - shift) + wide.roll(-low - 1, 1) * (shift - low)
    return resampled(wide, rows, 2 * rows)
