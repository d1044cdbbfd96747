"""Irradiance of an environment map as nine spherical-harmonic coefficients a colour.

Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001: convolving with
the clamped cosine leaves next to nothing above order 2. Real basis, in the order 1 | y, z, x | xy, yz, 3z^2-1, xz,
x^2-y^2, orthonormal over the sphere, in world axes. Units: radiance L of the map, irradiance E (a white diffuse surface
under E has radiance E / pi).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from avatars.lighting.lobes import Lobes
from shared.types import Environment

_C0, _C1, _C2, _C3, _C4 = 0.28209479177, 0.48860251190, 1.09254843059, 0.31539156525, 0.54627421529
COSINE_LOBE = (math.pi,) + (2 * math.pi / 3,) * 3 + (math.pi / 4,) * 5  # the clamped cosine's factor of each entry


def basis(directions: Tensor) -> Tensor:
    """The nine basis functions [..., 9] at unit directions [..., 3]."""
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, _C0),
            _C1 * y,
            _C1 * z,
            _C1 * x,
            _C2 * x * y,
            _C2 * y * z,
            _C3 * (3 * z * z - 1),
            _C2 * x * z,
            _C4 * (x * x - y * y),
        ],
        dim=-1,
    )


def environment_irradiance(environment: Environment) -> Tensor:
    """Irradiance coefficients [9, 3] float32 (CPU) of a map with its rotation, strength and suns.

    Negative light is none.     Lamps near by are not in it: see `lamps_irradiance`.
    """
    radiance = np.maximum(environment.radiance, 0.0)  # Environment itself refuses what is not finite
    height, width, _ = radiance.shape
    edges = np.cos(np.linspace(0.0, math.pi, height + 1))
    solid_angle = (edges[:-1] - edges[1:]) * (2 * math.pi / width)  # of one pixel of each row
    # A pixel looks at azimuth (0.5 - u) 2 pi in the map's own axes; turning the map about +z adds its rotation.
    azimuth = (0.5 - (np.arange(width) + 0.5) / width) * 2 * math.pi + environment.rotation_rad
    polar = (np.arange(height) + 0.5) / height * math.pi
    # The basis is a product of a function of the polar angle and one of the azimuth: sum over columns first.
    waves = np.stack([np.ones(width), np.sin(azimuth), np.cos(azimuth), np.sin(2 * azimuth), np.cos(2 * azimuth)])
    rows = np.einsum("hwc,kw->hkc", radiance, waves.astype(np.float32), optimize=True).astype(np.float64)
    s, c = np.sin(polar), np.cos(polar)
    parts = (
        (_C0 * np.ones(height), 0),
        (_C1 * s, 1),
        (_C1 * c, 0),
        (_C1 * s, 2),
        (0.5 * _C2 * s * s, 3),
        (_C2 * s * c, 1),
        (_C3 * (3 * c * c - 1), 0),
        (_C2 * s * c, 2),
        (_C4 * s * s, 4),
    )
    radiance_coefficients = np.stack(
        [np.einsum("h,hc->c", along * solid_angle, rows[:, wave]) for along, wave in parts]
    )
    irradiance = radiance_coefficients * np.array(COSINE_LOBE)[:, None] * environment.strength
    suns = _of_points(Lobes.of(environment.lights))
    return torch.from_numpy(irradiance.astype(np.float32)) + suns


def lamps_irradiance(environment: Environment, place: Tensor) -> Tensor:
    """Irradiance coefficients [9, 3] of an environment's lamps as they shine on a place [3] m, world axes."""
    if not len(environment.lamps):
        return place.new_zeros(9, 3)
    return _of_points(Lobes.of(environment.lights[:0], place.device, environment.lamps).at(place))


def _of_points(lobes: Lobes) -> Tensor:
    """Coefficients [9, 3] of N lights, each a point on the sphere."""
    at = basis(lobes.directions) * torch.tensor(COSINE_LOBE).to(lobes.directions)
    return at.transpose(0, 1) @ lobes.irradiance


def irradiance_at(coefficients: Tensor, normals: Tensor) -> Tensor:
    """Irradiance [..., 3] on surfaces with unit normals [..., 3]; can be slightly negative away from a strong light."""
    return basis(normals) @ coefficients.to(normals)


def mean_irradiance(coefficients: Tensor) -> Tensor:
    """Irradiance averaged over all normals, [3]."""
    return coefficients[0] * _C0


def softened(coefficients: Tensor, *, floor: float = 0.05) -> Tensor:
    """The same light with its contrast lowered just so far that no normal gets less than `floor` of the mean.

    Cutting a series off at order 2 makes a strong light ring below zero on the far side; scaling all but the mean
    removes that without moving the light. Each colour is scaled alike, so hues stay.
    """
    count = 1024
    index = torch.arange(count, dtype=coefficients.dtype, device=coefficients.device) + 0.5
    z, turn = 1 - 2 * index / count, index * (math.pi * (1 + math.sqrt(5)))  # evenly spread (Fibonacci) directions
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=-1)
    mean = mean_irradiance(coefficients).clamp(min=0)
    swing = irradiance_at(coefficients, directions) - mean
    lowest = swing.amin(dim=0)
    room = (1 - floor) * mean
    scale = torch.where(-lowest > room, room / (-lowest).clamp(min=1e-20), torch.ones_like(room)).amin()
    return torch.cat([coefficients[:1], coefficients[1:] * scale])
