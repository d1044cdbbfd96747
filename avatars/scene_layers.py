"""What rides along in the one rasterisation of a picture of several avatars, and where each is found again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.scene_light import SceneLight
from avatars.lit_pixels import FIXED, surface_features
from avatars.owners import Owners
from avatars.rendering import CameraBatch


class Layers:
    """The channels that some passes need, a slice for each kind; that of owners is the last and of any width.

    holes: which avatars are held out; lights: that of each, None where it is that of its capture; materials: whether
    any has them; shaded: whether colours or albedo are asked for; normal, owners: passes that need these themselves.
    """

    def __init__(
        self,
        holes: Sequence[bool],
        lights: Sequence[SceneLight | None],
        *,
        coloured: bool,
        albedo: bool,
        materials: bool,
        normal: bool,
        owners: bool,
    ) -> None:
        self._holes, self._lights = holes, lights
        shaded = coloured and (materials or any(lights) or albedo)
        wanted = {
            "colour": 3 if coloured else 0,
            "normal": 3 if normal or shaded else 0,
            "shown": 2 if any(holes) else 0,
            "surface": FIXED + max((light.lamps() for light in lights if light is not None), default=0)
            if materials and coloured
            else 0,
        }
        self.slices: dict[str, slice] = {}
        used = 0
        for name, width in wanted.items():
            if width:
                self.slices[name] = slice(used, used + width)
                used += width
        if owners or (shaded and len(holes) > 1):
            self.slices["owner"] = slice(used, None)

    def features(self, sets: Sequence[PosedGaussians], camera: CameraBatch, owners: Owners) -> Tensor:
        """[1, N, C] for all avatars together; one empty channel where only depth or cover is asked for.

        What a held out avatar would add is zero; `shown` is 1 and the camera's z for all others.
        """
        rows = []
        ahead = camera.camera_from_world[:, 2]
        own = owners.rows(sets[0].means)
        for index, gaussians in enumerate(sets):
            found = {
                "colour": gaussians.colours,
                "normal": torch.zeros_like(gaussians.means) if gaussians.normals is None else gaussians.normals,
                "owner": own[index].expand(1, gaussians.count, -1),
            }
            if "surface" in self.slices:
                light = self._lights[index]
                shining = None if light is None or gaussians.material is None else light.filtered()
                surface, found["normal"] = surface_features(gaussians, camera.positions(), shining)
                spare = self.slices["surface"].stop - self.slices["surface"].start - surface.shape[-1]
                found["surface"] = torch.nn.functional.pad(surface, (0, spare))
            if "shown" in self.slices:
                depth_m = gaussians.means @ ahead[:, :3, None] + ahead[:, 3:, None]
                found["shown"] = torch.cat([torch.ones_like(depth_m), depth_m], dim=-1)
            if self._holes[index]:
                found = {name: torch.zeros_like(values) for name, values in found.items()}
            channels = [found[name] for name in self.slices] or [torch.zeros_like(gaussians.means[..., :1])]
            rows.append(torch.cat(channels, dim=-1))
        return torch.cat(rows, dim=1)
