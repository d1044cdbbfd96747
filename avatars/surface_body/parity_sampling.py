"""Where the published method looks: patches of a picture, and samples inside the dilated body (method page 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.relit_field.rays import uniform
from avatars.surface_body.parity_settings import ParitySampling
from avatars.surface_body.sampling import Spans

LEAST_M = 1e-5
"""A ray with less of itself inside meets nothing."""


def choose_patches(alpha: Tensor, within: Tensor, settings: ParitySampling, generator: torch.Generator) -> Tensor:
    """Rows and columns [patches, side, side, 2] int64 of patches of a picture, whole ones inside it.

    alpha: [H, W] in 0..1; within: [H, W] bool, the pixels whose rays meet the person's box. A patch has its middle on
    the mask, or on a pixel of the box beside it; where there is no such pixel the other kind serves, or any pixel.
    """
    height, width = alpha.shape
    inside, beside = (alpha > 0.5).flatten(), ((alpha <= 0.5) & within).flatten()
    kinds = [torch.nonzero(kind)[:, 0] for kind in (inside, beside)]
    anywhere = torch.arange(height * width, device=alpha.device)
    rows, columns = min(settings.patch_px, height), min(settings.patch_px, width)
    drawn = uniform((settings.patches, 2), generator, alpha.device).tolist()
    patches = []
    for kind, place in drawn:
        first, second = kinds if kind < settings.inside_share else kinds[::-1]
        members = next(those for those in (first, second, anywhere) if len(those))
        middle = int(members[min(int(place * len(members)), len(members) - 1)])
        top = min(max(middle // width - rows // 2, 0), height - rows)
        left = min(max(middle % width - columns // 2, 0), width - columns)
        y, x = torch.meshgrid(torch.arange(top, top + rows), torch.arange(left, left + columns), indexing="ij")
        patches.append(torch.stack((y, x), -1))
    return torch.stack(patches).to(alpha.device)


@dataclass(frozen=True, eq=False)
class Placed:
    """Samples of R rays. where_m [R, N] along each; width_m [R, N] what each stands for; hit [R] bool: the ray meets
    the dilated body, otherwise its samples are all the way through the box."""

    where_m: Tensor
    width_m: Tensor
    hit: Tensor

    def some(self, which: Tensor) -> Placed:
        """Those rays alone."""
        return Placed(self.where_m[which], self.width_m[which], self.hit[which])


def placed(spans: Spans, near_m: Tensor, far_m: Tensor, count: int, generator: torch.Generator | None) -> Placed:
    """`count` samples a ray, even over what of it lies inside the dilated body, so that each stretch has its share.

    With a generator each ray's samples are moved along it, all by the same random length of up to 1 / count m.
    """
    length = spans.length_m
    hit = length > LEAST_M
    middles = (torch.arange(count, device=length.device) + 0.5) / count
    inside = spans.at(middles * length[:, None])
    through = near_m[:, None] + middles * (far_m - near_m)[:, None]
    where = torch.where(hit[:, None], inside, through)
    width = torch.where(hit, length, far_m - near_m)[:, None].expand(-1, count) / count
    if generator is not None:
        where = where + (2 * uniform((len(where), 1), generator, where.device) - 1) / count
    return Placed(where, width, hit)
