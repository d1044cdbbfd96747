"""A relightable person from joint rotations to the rows that are blended, as a recorded CUDA graph; and its pictures.

Posing is about sixty small launches around one large kernel; replayed they cost what the large one does. What cannot be
recorded stays outside: the rasteriser reads a count back in every call. For one thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.prefilter import FilteredLight
from avatars.lit_pixels import FIXED, lamps_of, lit_pictures, surface_rows
from avatars.recorded import Recorded
from avatars.relit_body.avatar import RelitAvatar
from avatars.rendering import CameraBatch, SurfelImage, rasterise_surfels

log = logging.getLogger("effigy.rendering")
BLENDED_WIDTHS = (15, 31, 63)
"""Channels of a row: with depth a width that gsplat compiles."""


@dataclass(frozen=True, eq=False)
class LitPicture:
    """B pictures of one person. light: [B, H, W, 6] diffuse and specular linear radiance times cover; image: alpha,
    depth and what was blended (materials, visibility, normals; see `lit_pixels`).
    """

    light: Tensor
    image: SurfelImage

    @property
    def combined(self) -> Tensor:
        """Premultiplied linear RGBA [B, H, W, 4]."""
        both = self.light[..., :3] + self.light[..., 3:]
        return torch.cat([both, self.image.alpha[..., None]], dim=-1)


class RelitPictures:
    """Pictures of one avatar in model axes, poses [1, ...]: posing, rows, blending, shading, as fast as there is.

    On CUDA what lies before the rasteriser is recorded at the first call for each number of lamps; the avatar's tensors
    may change in place, but not move. Where the device refuses to record, which is said once, calls are plain ones.
    """

    def __init__(self, avatar: RelitAvatar) -> None:
        self.avatar = avatar
        self.recorded: dict[int, Recorded[tuple[PosedGaussians, Tensor]]] = {}

    def __call__(
        self,
        rotations: Tensor,
        translations: Tensor,
        expressions: Tensor,
        cameras: CameraBatch,
        light: FilteredLight | None = None,
    ) -> LitPicture:
        """One pose [1, J, 3] rad, [1, 3] m, [1, E] through one camera, in `light` or that of the capture."""
        light = self.avatar.captured_light if light is None else light
        with torch.no_grad():
            posed, rows = self.rows(rotations, translations, expressions, cameras.positions(), light)
            image = rasterise_surfels(posed, cameras, rows, finite=True)
            lamps = lamps_of(light)
            lit = lit_pictures(image.features, image.alpha, cameras, light, surface=0, normal=FIXED + lamps)
            return LitPicture(lit, image)

    def rows(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, eyes: Tensor, light: FilteredLight
    ) -> tuple[PosedGaussians, Tensor]:
        """Posed surfels and their rows [1, N, C]; on CUDA they are the graph's own until the next call."""
        lamps = lamps_of(light)
        given = (rotations, translations, expressions, eyes)
        if lamps:
            assert light.lobes is not None
            assert light.lobes.lamps is None, "poses are recorded for lights far away only"
            given = (*given, light.lobes.directions)
        if not rotations.is_cuda:
            return self._found(*given)
        if lamps not in self.recorded:
            self.recorded[lamps] = Recorded(self._found, "posing", log)
        return self.recorded[lamps](*given)

    def _found(self, *given: Tensor) -> tuple[PosedGaussians, Tensor]:
        rotations, translations, expressions, eyes, *lamps = given
        surfels, probes = self.avatar.surfels, self.avatar.probes
        posed = surfels.pose(rotations, translations, expressions, probes=probes)
        directions = lamps[0] if lamps else None
        least = FIXED + 3 + (0 if directions is None else len(directions))
        width = next((width for width in BLENDED_WIDTHS if width >= least), least)
        return posed, surface_rows(posed, eyes, directions, width=width)
