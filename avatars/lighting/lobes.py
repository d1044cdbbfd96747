"""Suns and lamps beside the environment map: shaded analytically, so that their highlights stay sharp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.brdf import GRAZING, SMOOTHEST, ggx, normal_reflectance, smith_visibility
from shared import lamps as columns
from shared.types import Environment

_NARROW_RAD = 0.05
_NEAREST_M = 1e-3  # a point inside a lamp is lit as from here


@dataclass(frozen=True, eq=False)
class Lobes:
    """N lights as they shine on points. A dimension of points may lie before N where they differ from point to point.

    directions: [..., N, 3] unit, towards them; irradiance: [..., N, 3] of a surface that faces them; half_angle_rad:
    [..., N]. lamps: [M, 13] (columns of `shared.lamps`) further lights near by, which only `at` turns into lobes.
    narrow: all half angles are known to be small.
    """

    directions: Tensor
    irradiance: Tensor
    half_angle_rad: Tensor
    lamps: Tensor | None = None
    narrow: bool = False

    @staticmethod
    def of(
        lights: NDArray[np.float32], device: torch.device | str = "cpu", lamps: NDArray[np.float32] | None = None
    ) -> Lobes:
        """From `Environment.lights` and `.lamps`; a light without direction or with negative power is dark."""
        values = torch.from_numpy(np.array(lights, np.float32)).to(device)
        directions = normalize(values[:, :3], dim=-1)
        known = directions.square().sum(-1, keepdim=True) > 0.5
        near = None if lamps is None or not len(lamps) else torch.from_numpy(np.array(lamps, np.float32)).to(device)
        narrow = bool((np.asarray(lights)[:, 6] < _NARROW_RAD).all())
        return Lobes(directions, values[:, 3:6].clamp(min=0) * known, values[:, 6].clamp(0, math.pi / 2), near, narrow)

    @property
    def far_and_narrow(self) -> bool:
        """Whether no lamp is near and every disc rises at once, so that a cosine says what arrives."""
        return self.lamps is None and self.narrow

    def __len__(self) -> int:
        """How many lights there are, near ones last."""
        return self.directions.shape[-2] + (0 if self.lamps is None else len(self.lamps))

    def to(self, device: torch.device | str) -> Lobes:
        """The same on another device."""
        near = None if self.lamps is None else self.lamps.to(device)
        moved = [part.to(device) for part in (self.directions, self.irradiance, self.half_angle_rad)]
        return Lobes(*moved, near, self.narrow)

    def at(self, points: Tensor | None) -> Lobes:
        """All of them as lobes at points [..., 3] m, world axes. None will do where no lamp is near."""
        if self.lamps is None:
            return self
        if points is None:
            raise ValueError("lamps shine differently from place to place: points are needed")
        lamps = self.lamps.to(points)
        towards = lamps[:, columns.POSITION] - points[..., None, :]
        square = towards.square().sum(-1)
        distance = square.sqrt().clamp(min=_NEAREST_M)
        towards = towards / distance[..., None]
        radius = lamps[:, columns.RADIUS].clamp(min=0)
        axis = normalize(lamps[:, columns.AXIS], dim=-1)
        share = _emitted(lamps, -(towards * axis).sum(-1))
        strength = share / (distance.square() + radius.square())
        irradiance = strength[..., None] * lamps[:, columns.INTENSITY].clamp(min=0)
        there = points.shape[:-1]
        return Lobes(
            torch.cat([self.directions.to(points).expand(*there, -1, -1), towards], dim=-2),
            torch.cat([self.irradiance.to(points).expand(*there, -1, -1), irradiance], dim=-2),
            torch.cat([self.half_angle_rad.to(points).expand(*there, -1), torch.atan2(radius, distance)], dim=-1),
        )

    def diffuse_at(self, normals: Tensor, visibility: Tensor | None = None) -> Tensor:
        """Irradiance over pi [..., 3] at normals [..., 3]. visibility: [..., N] of each light, 0 hidden to 1 seen."""
        cosine = (self.directions.to(normals) * normals[..., None, :]).sum(-1)
        facing = received(cosine, self.half_angle_rad.to(normals))
        seen = facing if visibility is None else facing * visibility
        return (seen[..., None] * self.irradiance.to(normals)).sum(-2) / math.pi

    def specular_at(
        self,
        normals: Tensor,
        to_eye: Tensor,
        albedo: Tensor,
        roughness: Tensor,
        metallic: Tensor,
        visibility: Tensor | None = None,
    ) -> Tensor:
        """Specular radiance [..., 3] towards the eye; shapes as in `brdf.brdf`.

        A light's width joins the surface's roughness: alpha² grows by the square of half its half angle, which for a
        mirror makes a highlight as high as the light is bright; the lobe stays normalised, so no energy is added.
        """
        f0 = normal_reflectance(albedo, metallic)
        total = torch.zeros_like(f0)
        n_dot_v = (normals * to_eye).sum(-1, keepdim=True)
        for index in range(self.directions.shape[-2]):
            towards = self.directions[..., index, :].to(normals)
            wide = (self.half_angle_rad[..., index, None] / 2).to(normals)
            alpha = (roughness.clamp(min=SMOOTHEST) ** 4 + wide.square()).sqrt().clamp(max=1.0)
            n_dot_l = (normals * towards).sum(-1, keepdim=True)
            half = normalize(to_eye + towards, dim=-1)
            n_dot_h, v_dot_h = (normals * half).sum(-1, keepdim=True), (to_eye * half).sum(-1, keepdim=True)
            fresnel = f0 + (1 - f0) * (1 - v_dot_h.clamp(0, 1)) ** 5
            shape = ggx(n_dot_h, alpha) * smith_visibility(
                n_dot_v.clamp(min=GRAZING), n_dot_l.clamp(min=GRAZING), alpha
            )
            lit = (n_dot_l > 0) & (n_dot_v > 0)
            gain = torch.where(lit, shape * n_dot_l, torch.zeros_like(shape))
            if visibility is not None:
                gain = gain * visibility[..., index : index + 1]
            total = total + fresnel * gain * self.irradiance[..., index, :].to(normals)
        return total


def received(cosine: Tensor, half_angle_rad: Tensor) -> Tensor:
    """What a surface gets of an evenly bright disc in the sky, against one that faces it; 0 where all of it has set.

    cosine: [...] between normal and the disc's middle; half_angle_rad: [...], below pi / 2. It is the cosine where the
    whole disc has risen; across the horizon, the integral of the cosine over the part that has (the form factor of a
    sphere from a small plane).
    """
    sine = half_angle_rad.sin().clamp(1e-3, 0.9999).expand_as(cosine)  # a narrower one is a point
    setting = cosine.abs() < sine
    middle = torch.where(setting, cosine, torch.zeros_like(cosine)).clamp(-0.9999, 0.9999)
    slant = (1 - middle.square()).sqrt()
    cotangent = (1 / sine.square() - 1).sqrt()
    turn = (-cotangent * middle / slant).clamp(-0.99999, 0.99999)
    across = slant * (1 - turn.square()).sqrt()
    part = middle * turn.acos() - cotangent * across + torch.atan(across / cotangent) / sine.square()
    return torch.where(setting, (part / math.pi).clamp(min=0), cosine.clamp(min=0))


def _emitted(lamps: Tensor, cosine: Tensor) -> Tensor:
    """Share [..., M] of the intensity on the axis that lamps [M, 13] send at cosines [..., M] to their axes.

    A cone's edge and a panel's spread are those of Cycles.
    """
    half, blend, kind = lamps[:, columns.HALF_ANGLE], lamps[:, columns.BLEND], lamps[:, columns.KIND]
    edge = half.cos()
    inside = ((cosine - edge) / ((1 - edge) * blend).clamp(min=1e-4)).clamp(0, 1)
    cone = inside.square() * (3 - 2 * inside)
    ahead = cosine.clamp(min=0)
    wide = half.clamp(max=1.5)
    tangent = (1 - ahead.square()).clamp(min=0).sqrt() / ahead.clamp(min=1e-4)
    narrowed = ahead * (1 - tangent / wide.tan()).clamp(min=0)
    panel = torch.where(half > 1.5, ahead, narrowed)
    return torch.where(kind == columns.CONE, cone, torch.where(kind == columns.PANEL, panel, torch.ones_like(cone)))


def lobes_of(environment: Environment, device: torch.device | str = "cpu") -> Lobes | None:
    """The lights beside an environment's map; None where there are none."""
    if not len(environment.lights) and not len(environment.lamps):
        return None
    return Lobes.of(environment.lights, device, environment.lamps)
