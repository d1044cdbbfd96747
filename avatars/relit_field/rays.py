"""Rays through pixels, the part of each within a box, and samples along them as one packed list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from avatars.relit_field.settings import MarchSettings
from avatars.rendering.cameras import CameraBatch


@dataclass(frozen=True, eq=False)
class Rays:
    """R rays. origins, directions: [R, 3] (unit); near_m, far_m: [R], far <= near where a ray misses the box."""

    origins: Tensor
    directions: Tensor
    near_m: Tensor
    far_m: Tensor

    def __len__(self) -> int:
        return len(self.origins)

    def some(self, which: Tensor | slice) -> Rays:
        """Those rays alone."""
        return Rays(self.origins[which], self.directions[which], self.near_m[which], self.far_m[which])

    def at(self, ray: Tensor, t_m: Tensor) -> Tensor:
        """Places [M, 3] at distances [M] along rays [M]."""
        return self.origins[ray] + t_m[:, None] * self.directions[ray]


@dataclass(frozen=True, eq=False)
class Samples:
    """M samples, sorted by ray and then distance. ray: [M] int64; t_m: [M] where; width_m: [M] what each stands for."""

    ray: Tensor
    t_m: Tensor
    width_m: Tensor

    def kept(self, which: Tensor) -> Samples:
        """Those of a mask [M] or of indices."""
        return Samples(self.ray[which], self.t_m[which], self.width_m[which])

    def __len__(self) -> int:
        return len(self.ray)


def pixel_rays(camera: CameraBatch, pixels: Tensor, low: Tensor, high: Tensor) -> Rays:
    """Rays through image places [R, 2] px (x, y; pixel centres at +0.5) of one camera, cut to a box low..high [3]."""
    K, matrix = camera.K[0], camera.camera_from_world[0]
    x = (pixels[:, 0] - K[0, 2]) / K[0, 0]
    y = (pixels[:, 1] - K[1, 2]) / K[1, 1]
    back = matrix[:3, :3].T
    if camera.orthographic:
        flat = torch.stack((x, y, torch.zeros_like(x)), -1)
        origins = (flat - matrix[:3, 3]) @ back.T
        directions = back[:, 2].expand_as(origins)
    else:
        directions = normalize(torch.stack((x, y, torch.ones_like(x)), -1) @ back.T, dim=-1)
        origins = camera.positions()[0].expand_as(directions)
    return cut(origins, directions, low, high, camera.near_m)


def cut(origins: Tensor, directions: Tensor, low: Tensor, high: Tensor, near_m: float = 0.0) -> Rays:
    """Rays [R, 3] with the span of each in a box; one parallel to a side and beyond it misses."""
    safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    first, second = (low - origins) / safe, (high - origins) / safe
    near = torch.minimum(first, second).amax(-1).clamp_min(near_m)
    return Rays(origins, directions, near, torch.maximum(first, second).amin(-1))


def even_samples(rays: Rays, step_m: float, generator: torch.Generator | None) -> Samples:
    """Samples every step_m along the spans: in the middle of each step, or with a generator anywhere in it."""
    longest = float((rays.far_m - rays.near_m).amax()) if len(rays) else 0.0
    count = max(1, int(longest / step_m) + 1)
    begun = rays.near_m[:, None] + step_m * torch.arange(count, device=rays.near_m.device)
    shift = uniform((len(rays), count), generator, begun.device) if generator is not None else 0.5
    t = begun + step_m * shift
    ray, column = torch.nonzero(t < rays.far_m[:, None], as_tuple=True)
    width = torch.full((len(ray),), step_m, device=t.device, dtype=t.dtype)
    return Samples(ray, t[ray, column], width)


def merged(first: Samples, second: Samples, longest_m: float) -> tuple[Samples, Tensor]:
    """Both lists in one order, widths up to the next sample of a ray but at most longest_m, and the order [M1 + M2]."""
    ray, t = torch.cat((first.ray, second.ray)), torch.cat((first.t_m, second.t_m))
    by_distance = torch.argsort(t, stable=True)
    order = by_distance[torch.argsort(ray[by_distance], stable=True)]
    ray, t = ray[order], t[order]
    width = torch.full_like(t, longest_m)
    if len(t) > 1:
        same = ray[1:] == ray[:-1]
        width[:-1] = torch.where(same, (t[1:] - t[:-1]).clamp(1e-6, longest_m), width[:-1])
    return Samples(ray, t, width), order


def choose_pixels(alpha: Tensor, settings: MarchSettings, generator: torch.Generator) -> Tensor:
    """Rows and columns [R, 2] int64 to train on: inside the mask, along its edge, and anywhere (method page C.4).

    alpha: [H, W] in 0..1. Where a picture has no inside or no edge, any pixel takes its place.
    """
    height, width = alpha.shape
    mask = (alpha > 0.5).float()[None, None]
    side = 2 * settings.edge_px + 1
    grown = max_pool2d(mask, side, stride=1, padding=settings.edge_px)[0, 0] > 0.5
    shrunk = max_pool2d(1 - mask, side, stride=1, padding=settings.edge_px)[0, 0] < 0.5
    inside = torch.nonzero((mask[0, 0] > 0.5).flatten())[:, 0]
    edge = torch.nonzero((grown & ~shrunk).flatten())[:, 0]
    chosen = []
    left = settings.rays
    for members, share in ((inside, settings.inside_share), (edge, settings.edge_share)):
        count = round(settings.rays * share)
        if len(members):
            picked = (uniform((count,), generator, alpha.device) * len(members)).long().clamp(max=len(members) - 1)
            chosen.append(members[picked])
            left -= count
    anywhere = (uniform((left,), generator, alpha.device) * (height * width)).long().clamp(max=height * width - 1)
    flat = torch.cat((*chosen, anywhere))
    return torch.stack((flat // width, flat % width), -1)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Uniform numbers from a generator, drawn where it lives."""
    return torch.rand(shape, generator=generator, device=None if generator is None else generator.device).to(device)
