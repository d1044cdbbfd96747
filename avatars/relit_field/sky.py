"""Directions drawn where light comes from and where a surface sends it: sky, cosine and gloss, weighed together.

Each direction is weighed by all three densities (the balance heuristic: Veach and Guibas 1995), so none of them can
make a picture grainy where another knows better. Points of a low-discrepancy set, shifted at random for each ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from avatars.lighting.brdf import SMOOTHEST, ggx, smith_lambda, visible_half_vectors
from avatars.lighting.latlong import columns_rows, pixel_directions, row_solid_angles
from avatars.relit_field.fused import fused
from avatars.relit_field.light import KnownLight, Light
from avatars.relit_field.rays import uniform

LEARNED_HEIGHT = 32
"""Rows of the table of a light that changes with every step."""


@dataclass(frozen=True, eq=False)
class Sky:
    """Where a light is bright, as a table over a latitude-longitude map turned by rotation_rad about +z.

    density: [H * W] 1/sr in each texel; reached: [H * W] rising to 1, the share of all texels up to each.
    """

    density: Tensor
    reached: Tensor
    height: int
    rotation_rad: float

    def drawn(self, points: Tensor) -> Tensor:
        """Unit directions [..., 3] for points [..., 2] of the unit square."""
        width = 2 * self.height
        texel = torch.searchsorted(self.reached, points[..., 0].contiguous().to(self.reached)).clamp(
            max=len(self.reached) - 1
        )
        row, column = texel // width, texel % width
        before = self.reached.index_select(0, (texel - 1).clamp_min(0).flatten()).view_as(texel)
        before = torch.where(texel > 0, before, torch.zeros_like(before))
        here = self.reached.index_select(0, texel.flatten()).view_as(texel)
        # What is left of the first number once it has chosen a texel places the direction in it.
        across = ((points[..., 0].to(before) - before) / (here - before).clamp_min(1e-12)).clamp(0, 1).to(points)
        above, below = (torch.cos(math.pi * (row + end).to(points) / self.height) for end in (0, 1))
        z = above + (below - above) * points[..., 1]
        turn = (0.5 - (column + across) / width) * 2 * math.pi + self.rotation_rad
        radius = (1 - z * z).clamp_min(0).sqrt()
        return torch.stack((radius * turn.cos(), radius * turn.sin(), z), -1)

    def at(self, directions: Tensor) -> Tensor:
        """Density [...] 1/sr at unit directions [..., 3]."""
        u, v = columns_rows(directions, self.rotation_rad)
        width = 2 * self.height
        row = (v * self.height).long().clamp(0, self.height - 1)
        column = (u * width).long().clamp(0, width - 1)
        return self.density[row * width + column]


def sky_of(light: Light) -> Sky:
    """The table of a light as it is now, without gradients; a light that is given keeps its own."""
    with torch.no_grad():
        if isinstance(light, KnownLight):
            kept = light.sky
            if kept is None or kept.density.device != light.texels.device:
                kept = light.sky = _table(light.texels.mean(-1), light.rotation_rad)
            return kept
        device = next(light.parameters()).device
        directions = _texels(LEARNED_HEIGHT, device)
        return _table(light.radiance(directions).mean(-1).view(LEARNED_HEIGHT, -1), 0.0)


def _table(brightness: Tensor, rotation_rad: float) -> Sky:
    """Of brightness [H, W] at the texels' middles."""
    height, width = brightness.shape
    # Between two texels' middles a light is a mixture: each counts with its neighbours, or a sun's rim would sparkle.
    around = pad(brightness.clamp_min(0)[None, None], (1, 1, 0, 0), mode="circular")
    around = avg_pool2d(pad(around, (0, 0, 1, 1), mode="replicate"), 3, stride=1)[0, 0].double()
    solid = row_solid_angles(height, width).to(around)
    power = around * solid[:, None]
    total = power.sum()
    even = 1 / (4 * math.pi)
    density = torch.where(total > 0, around / total.clamp_min(1e-30), torch.full_like(around, even))
    reached = (density * solid[:, None]).view(-1).cumsum(0)
    return Sky(density.view(-1).float(), reached / reached[-1], height, rotation_rad)


@lru_cache(maxsize=4)
def _texels(height: int, device: torch.device) -> Tensor:
    return pixel_directions(height, 2 * height).float().view(-1, 3).to(device)


@lru_cache(maxsize=8)
def _points(count: int, device: torch.device) -> Tensor:
    """[count, 3] low-discrepancy points of the unit cube (Roberts' sequence: powers of the plastic number's kin)."""
    root = 1.2207440846057596
    steps = torch.tensor((1 / root, 1 / root**2, 1 / root**3), dtype=torch.float64)
    return (0.5 + torch.arange(1, count + 1, dtype=torch.float64)[:, None] * steps).frac().float().to(device)


@dataclass(frozen=True, eq=False)
class Directions:
    """to_light: [R, N, 3] unit; weight: [R, N] sr, so that sums of radiance times weight are integrals over the sphere;
    where: [R, N] in 0..1, evenly spread over a ray's directions."""

    to_light: Tensor
    weight: Tensor
    where: Tensor


def shares(count: int) -> tuple[int, int, int]:
    """How many of `count` directions follow the sky, the cosine and the gloss."""
    cosine, gloss = count // 4, count // 4
    return count - cosine - gloss, cosine, gloss


def importance(
    normals: Tensor, to_eye: Tensor, roughness: Tensor, sky: Sky, count: int, generator: torch.Generator
) -> Directions:
    """`count` directions for each of R surfaces. normals, to_eye: [R, 3] unit, facing each other; roughness: [R].

    Without gradients.
    """
    with torch.no_grad():
        parts = shares(count)
        shift = uniform((len(normals), 1, 3), generator, normals.device)
        points = torch.cat([_points(part, normals.device) for part in parts])
        found = _importance(
            normals, to_eye, roughness, points, shift, sky.density, sky.reached, sky.height, sky.rotation_rad, *parts
        )
        return Directions(*found)


@fused
def _importance(
    normals: Tensor,
    to_eye: Tensor,
    roughness: Tensor,
    points: Tensor,
    shift: Tensor,
    density: Tensor,
    reached: Tensor,
    height: int,
    rotation_rad: float,
    by_sky: int,
    by_cosine: int,
    by_gloss: int,
) -> tuple[Tensor, Tensor, Tensor]:
    sky = Sky(density, reached, height, rotation_rad)
    moved = (points + shift).frac()
    of_sky, of_cosine, of_gloss = moved[..., :2].split((by_sky, by_cosine, by_gloss), 1)
    frame = _frame(normals, to_eye)
    alpha = roughness.clamp_min(SMOOTHEST).square()[:, None]
    n_dot_v = (normals * to_eye).sum(-1).clamp(1e-3, 1)[:, None]
    radius, turn = of_cosine[..., 0].sqrt(), 2 * math.pi * of_cosine[..., 1]
    up = (1 - radius.square()).clamp_min(0).sqrt()
    diffuse = torch.stack((radius * turn.cos(), radius * turn.sin(), up), -1)
    half = visible_half_vectors(of_gloss, n_dot_v, alpha)
    eye = torch.cat(((1 - n_dot_v.square()).clamp_min(0).sqrt(), torch.zeros_like(n_dot_v), n_dot_v), -1)[:, None]
    mirrored = 2 * (eye * half).sum(-1, keepdim=True) * half - eye
    local = torch.cat((diffuse, mirrored), 1) @ frame
    to_light = normalize(torch.cat((sky.drawn(of_sky), local), 1), dim=-1)
    cosine = (to_light @ normals[..., None])[..., 0]
    middle = normalize(to_light + to_eye[:, None], dim=-1)
    n_dot_h = (middle @ normals[..., None])[..., 0]
    gloss = ggx(n_dot_h, alpha) / (4 * n_dot_v * (1 + smith_lambda(n_dot_v, alpha)))
    gloss = torch.where(n_dot_h > 0, gloss, torch.zeros_like(gloss))
    total = by_sky * sky.at(to_light) + by_cosine * cosine.clamp_min(0) / math.pi + by_gloss * gloss
    return to_light, 1 / total.clamp_min(1e-6), moved[..., 2]


def _frame(normals: Tensor, to_eye: Tensor) -> Tensor:
    """[R, 3, 3] with rows tangent (towards the eye), bitangent, normal."""
    along = to_eye - (to_eye * normals).sum(-1, keepdim=True) * normals
    other = torch.zeros_like(normals)
    other.scatter_(1, normals.abs().argmin(1, keepdim=True), 1.0)
    other = other - (other * normals).sum(-1, keepdim=True) * normals
    tangent = normalize(torch.where(along.square().sum(-1, keepdim=True) > 1e-8, along, other), dim=-1)
    return torch.stack((tangent, torch.linalg.cross(normals, tangent), normals), 1)
