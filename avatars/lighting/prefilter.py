"""An environment map made ready for shading: blurred once for each of a few roughnesses, and for diffuse surfaces.

Seen along the normal, GGX's lobe depends on the angle between the normal and the light only, and so does the clamped
cosine. Such a kernel on a latitude-longitude map is a convolution along azimuth for each pair of rows: a Fourier
transform over columns turns it into one small matrix for each frequency. That is exact up to the grid, costs about a
millisecond, and is linear in the map, so a light can be learned through it. Turning the map about the vertical axis or
changing its strength needs no new filtering.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.lighting.brdf import SMOOTHEST, ggx, smith_visibility
from avatars.lighting.latlong import columns_rows, enlarged, looked_up, resampled, row_solid_angles
from avatars.lighting.lobes import Lobes, lobes_of
from shared.types import Environment

HEIGHT = 128
"""Rows of the filtered maps; twice as many columns."""
ROUGHNESSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.625, 0.75, 0.875, 1.0)
DIFFUSE_HEIGHT = 32
_NARROW = 0.15  # kernels of roughness below this are averaged over parts of a pixel


@dataclass(frozen=True, eq=False)
class FilteredLight:
    """What shading asks for light. specular: [L, H, 2 H, 3] radiance for ROUGHNESSES; diffuse: [H', 2 H', 3] irradiance
    over pi (a white diffuse surface's radiance). Turned by rotation_rad about +z and multiplied by strength when asked.
    lobes: lights that look small from the avatar, neither turned nor multiplied; shading adds them analytically.
    """

    specular: Tensor
    diffuse: Tensor
    rotation_rad: Tensor | float = 0.0
    strength: Tensor | float = 1.0
    lobes: Lobes | None = None

    def diffuse_at(self, normals: Tensor) -> Tensor:
        """Irradiance over pi [..., 3] on surfaces with normals [..., 3]."""
        return looked_up(self.diffuse, *columns_rows(normals, self.rotation_rad)) * self.strength

    def specular_at(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """Radiance [..., 3] around directions [..., 3] as a lobe of roughness [...] gathers it."""
        levels = self.specular.shape[0]
        level = _level(roughness)
        low = level.detach().floor().clamp(0, levels - 2).long()
        between = (level - low)[..., None]
        u, v = columns_rows(directions, self.rotation_rad)
        sharper, softer = (looked_up(self.specular, u, v, index) for index in (low, low + 1))
        return self.strength * torch.lerp(sharper, softer, between)

    def turned(self, rotation_rad: Tensor | float, strength: Tensor | float = 1.0) -> FilteredLight:
        """The same map at another rotation and strength."""
        return replace(self, rotation_rad=rotation_rad, strength=strength)

    def to(self, device: torch.device | str) -> FilteredLight:
        """The same on another device."""
        lobes = None if self.lobes is None else self.lobes.to(device)
        return replace(self, specular=self.specular.to(device), diffuse=self.diffuse.to(device), lobes=lobes)


@lru_cache(maxsize=8)
def _marks(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(ROUGHNESSES, dtype=dtype, device=device)


def _level(roughness: Tensor) -> Tensor:
    """Roughness as a fractional index into ROUGHNESSES."""
    marks = _marks(roughness.dtype, roughness.device)
    roughness = roughness.clamp(0, 1)
    above = torch.searchsorted(marks, roughness.detach().contiguous(), right=True).clamp(1, len(ROUGHNESSES) - 1)
    low, high = marks[above - 1], marks[above]
    return (above - 1) + (roughness - low) / (high - low)


def specular_kernel(cosines: Tensor, roughness: float) -> Tensor:
    """The specular lobe seen along its normal, at cosines [...] to the light, not normalised and without Fresnel.

    Taking masking in makes the split sum exact for a surface seen head on.
    """
    alpha = torch.as_tensor(max(roughness, SMOOTHEST) ** 2, dtype=cosines.dtype, device=cosines.device)
    half, cosine = ((1 + cosines.clamp(-1, 1)) / 2).sqrt(), cosines.clamp(min=0)
    return ggx(half, alpha) * smith_visibility(torch.ones_like(cosine), cosine, alpha) * cosine


def _kernel(cosines: Tensor, roughness: float | None) -> Tensor:
    return cosines.clamp(min=0) if roughness is None else specular_kernel(cosines, roughness)


@lru_cache(maxsize=64)
def _spectrum(height: int, roughness: float | None, device: torch.device) -> Tensor:
    """[W / 2 + 1, H, H] float32: for each frequency along azimuth, what each row gives each row; weights sum to 1.

    roughness None is the clamped cosine.
    """
    width = 2 * height
    # Offsets along azimuth are even, and rows mirror at the equator: a quarter of the table is enough.
    polar = (torch.arange(height, dtype=torch.float64, device=device) + 0.5) / height * math.pi
    turn = torch.arange(height + 1, dtype=torch.float64, device=device) * (2 * math.pi / width)
    area = row_solid_angles(height, width).to(device)
    parts, reach = (4, 24) if roughness is not None and roughness < _NARROW else (1, 0)
    shift = ((torch.arange(parts, dtype=torch.float64, device=device) + 0.5) / parts - 0.5) * (math.pi / height)

    def values(here: Tensor, at: Tensor, offset: Tensor) -> Tensor:
        return _kernel(here.cos() * at.cos() + here.sin() * at.sin() * offset.cos(), roughness)

    table = values(polar[: height // 2, None, None], polar[None, :, None], turn) * area[None, :, None]
    for row in range(height // 2 if parts > 1 else 0):  # near the lobe's middle a pixel is averaged over its parts
        near = slice(max(0, row - reach), row + reach + 1)
        at, offset = polar[near, None, None, None] + shift[:, None], turn[:, None, None] + shift
        inner = values(polar[row], at, offset) * at.sin()
        table[row, near] = inner.mean((2, 3)) / polar[near, None].sin() * area[near, None]
    table = torch.cat([table, table.flip(0, 1)])
    whole = torch.cat([table, table[:, :, 1:-1].flip(-1)], dim=-1)  # offsets 0 .. W - 1
    whole = whole / whole.sum((1, 2), keepdim=True)
    return torch.fft.rfft(whole, dim=-1).real.permute(2, 0, 1).float().contiguous()


@lru_cache(maxsize=16)
def _spectra(height: int, kinds: tuple[float | None, ...], device: torch.device) -> Tensor:
    """[K, W / 2 + 1, H, H]: several spectra in one tensor."""
    return torch.stack([_spectrum(height, kind, device) for kind in kinds])


def _convolved(radiance: Tensor, kinds: tuple[float | None, ...]) -> Tensor:
    """A map [H, 2 H, 3] through several kernels at once, [K, H, 2 H, 3]."""
    waves = torch.fft.rfft(radiance, dim=1)  # [H, W / 2 + 1, 3]
    spectra = _spectra(radiance.shape[0], kinds, radiance.device)
    parts = torch.view_as_real(waves).permute(1, 0, 2, 3).flatten(2)  # real matrices, so both parts alike
    mixed = (spectra @ parts).unflatten(3, (radiance.shape[2], 2)).permute(0, 2, 1, 3, 4)
    return torch.fft.irfft(torch.view_as_complex(mixed.contiguous()), n=radiance.shape[1], dim=2)


def _level_height(roughness: float | None, height: int) -> int:
    """Rows that a kernel is worked out at: wide ones need few."""
    if roughness is None:
        return min(height, DIFFUSE_HEIGHT)
    return height if roughness <= 0.2 else min(height, 64)


def filtered(radiance: Tensor, *, height: int = HEIGHT) -> FilteredLight:
    """Prepare a map [H, W, 3] of linear radiance (negative light is none); differentiable, any size, any device."""
    base = resampled(radiance.clamp(min=0).float(), height, 2 * height)
    groups: dict[int, list[float | None]] = {}
    for kind in (None, *ROUGHNESSES[1:]):
        groups.setdefault(_level_height(kind, height), []).append(kind)
    found: dict[float | None, Tensor] = {}
    for size, kinds in groups.items():
        maps = _convolved(resampled(base, size, 2 * size), tuple(kinds)).clamp(min=0)
        found |= dict(zip(kinds, maps, strict=True))
    levels = [base, *(enlarged(found[roughness], height) for roughness in ROUGHNESSES[1:])]
    return FilteredLight(torch.stack(levels), found[None])


def filtered_environment(environment: Environment, device: torch.device | str = "cpu") -> FilteredLight:
    """An `Environment` prepared for shading, with its rotation, strength and lights.

    The last few maps are remembered, so that one that is only turned is not filtered again.
    """
    key = (id(environment.radiance), str(device))
    known = _recent.get(key)
    if known is None or known[0]() is not environment.radiance:
        radiance = torch.from_numpy(np.array(environment.radiance)).to(device)
        known = _recent[key] = (ref(environment.radiance), filtered(radiance))
        while len(_recent) > _MOST_RECENT:
            del _recent[next(iter(_recent))]
    lobes = lobes_of(environment, device)
    return replace(known[1], rotation_rad=environment.rotation_rad, strength=environment.strength, lobes=lobes)


_MOST_RECENT = 8
_recent: dict[tuple[int, str], tuple[ref[NDArray[np.float32]], FilteredLight]] = {}
