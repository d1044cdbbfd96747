"""Suns and lamps beside the environment map: shaded analytically, so that their highlights stay sharp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.lighting.brdf import GRAZING, SMOOTHEST, ggx, normal_reflectance, smith_visibility
from shared.types import Environment


@dataclass(frozen=True, eq=False)
class Lobes:
    """N lights far enough away to be the same everywhere on the avatar.

    directions: [N, 3] unit, towards them; irradiance: [N, 3] of a surface that faces them; half_angle_rad: [N].
    """

    directions: Tensor
    irradiance: Tensor
    half_angle_rad: Tensor

    @staticmethod
    def of(lights: NDArray[np.float32], device: torch.device | str = "cpu") -> Lobes:
        """From `Environment.lights`; a light without direction or with negative power is dark."""
        values = torch.from_numpy(np.array(lights, np.float32)).to(device)
        directions = torch.nn.functional.normalize(values[:, :3], dim=-1)
        known = directions.square().sum(-1, keepdim=True) > 0.5
        return Lobes(directions, values[:, 3:6].clamp(min=0) * known, values[:, 6].clamp(0, math.pi / 2))

    def to(self, device: torch.device | str) -> Lobes:
        """The same on another device."""
        return Lobes(self.directions.to(device), self.irradiance.to(device), self.half_angle_rad.to(device))

    def diffuse_at(self, normals: Tensor, visibility: Tensor | None = None) -> Tensor:
        """Irradiance over pi [..., 3] at normals [..., 3]. visibility: [..., N] of each light, 0 hidden to 1 seen."""
        facing = (normals @ self.directions.T).clamp(min=0)
        return (facing if visibility is None else facing * visibility) @ self.irradiance / math.pi

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
        for index in range(len(self.directions)):
            towards = self.directions[index].to(normals)
            wide = (self.half_angle_rad[index] / 2).to(normals)
            alpha = (roughness.clamp(min=SMOOTHEST) ** 4 + wide.square()).sqrt().clamp(max=1.0)
            n_dot_l = (normals * towards).sum(-1, keepdim=True)
            half = torch.nn.functional.normalize(to_eye + towards, dim=-1)
            n_dot_h, v_dot_h = (normals * half).sum(-1, keepdim=True), (to_eye * half).sum(-1, keepdim=True)
            fresnel = f0 + (1 - f0) * (1 - v_dot_h.clamp(0, 1)) ** 5
            shape = ggx(n_dot_h, alpha) * smith_visibility(
                n_dot_v.clamp(min=GRAZING), n_dot_l.clamp(min=GRAZING), alpha
            )
            lit = (n_dot_l > 0) & (n_dot_v > 0)
            gain = torch.where(lit, shape * n_dot_l, torch.zeros_like(shape))
            if visibility is not None:
                gain = gain * visibility[..., index : index + 1]
            total = total + fresnel * gain * self.irradiance[index].to(normals)
        return total


def sun(direction: NDArray[np.float64], strength: NDArray[np.float64], angle_rad: float) -> NDArray[np.float32]:
    """A row of `Environment.lights` for a sun: direction towards it [3], irradiance facing it [3], its whole angle."""
    return np.concatenate((direction, strength, [angle_rad / 2])).astype(np.float32)


def with_lights(environment: Environment, lights: NDArray[np.float32]) -> Environment:
    """The same environment with more lights beside it."""
    together = np.concatenate((environment.lights, np.asarray(lights, np.float32).reshape(-1, 7)))
    return Environment(environment.radiance, environment.rotation_rad, environment.strength, together)
