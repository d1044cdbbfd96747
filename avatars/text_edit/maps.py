"""Pictures of the surface beside a render: where on the person each pixel is, how it faces, of what region it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.text_edit.surface import REGIONS, Face, Surface

SOLID = 0.5
LEAST_ALPHA = 1e-3


@dataclass(frozen=True, eq=False)
class SurfaceMaps:
    """Of B pictures: alpha [B, H, W, 1]; depth [B, H, W, 1] m; normal [B, H, W, 3] unit, world axes.

    rest_position [B, H, W, 3] m and rest_normal [B, H, W, 3]: the same place in the template's rest pose, so what is
    computed from them sticks to the person. weights [B, H, W, R]: membership of each of REGIONS, sums to 1 where
    anything is. These are of what the Gaussians show there, blended like their colours, and 0 where nothing is.
    colours: [R, 3], the middle colour of each region (`Surface`), None where unknown.
    """

    alpha: Tensor
    depth: Tensor
    normal: Tensor
    rest_position: Tensor
    rest_normal: Tensor
    weights: Tensor
    face: Face | None = None
    colours: Tensor | None = None

    @property
    def region(self) -> Tensor:
        """The region a pixel shows most of, [B, H, W] int64, an index into REGIONS; -1 where nothing solid is."""
        hard = self.weights.argmax(-1)
        return torch.where(self.alpha[..., 0] > SOLID, hard, torch.full_like(hard, -1))

    def of(self, *names: str) -> Tensor:
        """How much each pixel belongs to the named regions together, [B, H, W, 1]."""
        return self.weights[..., [REGIONS.index(name) for name in names]].sum(-1, keepdim=True)


def surface_maps(posed: PosedGaussians, cameras: CameraBatch, surface: Surface) -> SurfaceMaps:
    """Maps of posed Gaussians [B, N] as cameras [B] see them. No gradients."""
    with torch.no_grad():
        frames = posed.frames
        turned = posed.normals if posed.normals is not None else surface.normals.expand(frames, -1, -1)
        still = torch.cat((surface.positions, surface.normals, surface.weights), 1).to(posed.means)
        features = torch.cat((turned, still.expand(frames, -1, -1)), 2)
        drawn = rasterise(posed, cameras, features)
        alpha = drawn.alpha[..., None]
        values = torch.where(alpha > LEAST_ALPHA, drawn.features / alpha.clamp_min(LEAST_ALPHA), 0.0)
        normal, position, rest_normal, weights = values.split((3, 3, 3, len(REGIONS)), -1)
    unit = torch.nn.functional.normalize
    return SurfaceMaps(
        alpha,
        drawn.depth[..., None],
        unit(normal, dim=-1),
        position,
        unit(rest_normal, dim=-1),
        weights,
        surface.face,
        surface.colours,
    )
