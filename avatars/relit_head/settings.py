"""How a relightable head is trained, beside the settings of an RGB head, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.errors import BadConfig


@dataclass(frozen=True)
class HeadMaterialRates:
    """Adam's learning rates of what an RGB head does not have; albedo takes rates.colour, the rest decay likewise."""

    roughness: float = 0.02
    metallic: float = 0.005
    tilt: float = 0.004
    light: float = 0.02


@dataclass(frozen=True)
class HeadMaterialLosses:
    """Weights of the terms that decide what pictures alone leave open; 0 leaves one out.

    roughness: squared distance to what such a surface usually has (`priors.ROUGHNESS`); metallic: its mean, since
    people are not made of metal; tilt: squared, how far normals lean off the surface's; smooth: of albedo and
    smooth_roughness: of roughness, L1 to the neighbours on the surface; blend: squared albedo blendshapes, which could
    otherwise hold the shading of an expression; dim: of albedo where little light falls, L1 to the mean of its kind of
    surface, since there a photograph says little of it and what other surfaces throw back is taken for whiter skin. Of
    a learned light: light_smooth (squared steps between its texels,
    relative), light_white (squared distance of its colours from grey) and light_mean (squared distance of its mean
    from `HeadLight.mean`).
    """

    roughness: float = 0.02
    metallic: float = 0.01
    tilt: float = 0.02
    smooth: float = 0.02
    smooth_roughness: float = 0.02
    blend: float = 0.02
    dim: float = 0.1
    light_smooth: float = 0.02
    light_white: float = 0.01
    light_mean: float = 1.0


@dataclass(frozen=True)
class HeadLight:
    """The light of the capture. kind 'auto' takes the capture's own where it has one and learns it elsewhere.

    rows: of a learned map. mean: its mean radiance, which pictures cannot tell from the albedo: 1 says that a white
    surface under it would just be white in the pictures, so that a person looks as bright as in them.
    """

    kind: Literal["auto", "learned"] = "auto"
    rows: int = 16
    mean: float = 1.0


@dataclass(frozen=True)
class HeadOcclusion:
    """The surface's visibility of the sky: baked in so many poses of the recording and followed along so many of their
    principal directions. offset_m: rays start so far above the surface. hair: of what the surface under hair sees of
    the sky, so much reaches a strand past the others, which no surface stands for; 1, since the patches of hair have
    ears and nape in them as well."""

    poses: int = 20
    directions: int = 8
    offset_m: float = 0.0008
    hair: float = 1.0


@dataclass(frozen=True)
class RelitHeadConfig:
    """A relightable head; geometry, schedule and picture losses are those of an RGB head.

    start_from: a trained rgb_head to begin with (a NAME.avatar folder), its colours divided by their light; '' begins
    anew.
    """

    start_from: str = ""
    light: HeadLight = field(default_factory=HeadLight)
    occlusion: HeadOcclusion = field(default_factory=HeadOcclusion)
    rates: HeadMaterialRates = field(default_factory=HeadMaterialRates)
    losses: HeadMaterialLosses = field(default_factory=HeadMaterialLosses)


def check_relit_head(config: RelitHeadConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    for name, value, low in (
        ("relit_head.light.rows", config.light.rows, 4),
        ("relit_head.light.mean", config.light.mean, 1e-3),
        ("relit_head.occlusion.poses", config.occlusion.poses, 1),
        ("relit_head.occlusion.directions", config.occlusion.directions, 0),
        ("relit_head.occlusion.offset_m", config.occlusion.offset_m, 0),
        ("relit_head.occlusion.hair", config.occlusion.hair, 0),
    ):
        if value < low:
            raise BadConfig(f"{name} is too small", found=str(value), expected=f"at least {low}")
