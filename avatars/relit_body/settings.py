"""How a relightable student is distilled, as frozen dataclasses (method page E); rates decay by a factor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.errors import BadConfig


@dataclass(frozen=True)
class RelitRates:
    """Adam's learning rates. position is in m and decays to position_final; material: albedo, roughness, metallic.

    environment: the light starts as the teacher's and is held there, so its steps are small; the published 0.05 is for
    one that starts as noise.
    """

    position: float = 5.5e-4
    position_final: float = 0.01
    rotation: float = 0.001
    scale: float = 0.005
    opacity: float = 0.05
    material: float = 0.05
    environment: float = 0.002
    final: float = 0.1


@dataclass(frozen=True)
class RelitLosses:
    """Weights of the terms; 0 leaves one out.

    Against the photograph: picture (L1, forward shaded), mask (L1), lpips where its weights are present. Against the
    teacher's pictures, in the foreground: normal, albedo (L1), roughness, metallic (squared); novel_picture: its
    colours in poses the capture does not have (L1). Against its answers at the surfels: point_normal (negative cosine),
    point_position (squared, in cm), point_material (squared). environment: squared difference to the teacher's light;
    environment_variation: its steps from texel to texel.

    Held: size (beyond size_limit_m, in m), anisotropy (of axes beyond 1 : 3), orientation (facing away), distortion
    (m, from distortion_from of the schedule on; the published weight of 100 is for squared distances of a depth
    squeezed into 0 to 1, here it fades trunks, whose front and back lie far apart), prior ((1 - roughness) +
    metallic), isometry (distances to neighbours kept by posing, m), consistency (normals against those of the depth
    map, further poses only, from consistency_from on), smoothness (steps of materials between pixels, less at edges of
    the photograph). shading_from: of the schedule, where lpips and smoothness begin.
    """

    picture: float = 1.0
    mask: float = 0.3
    normal: float = 1.0
    albedo: float = 0.2
    roughness: float = 0.01
    point_normal: float = 0.1
    point_position: float = 0.05
    point_material: float = 0.08
    environment: float = 2.0
    size: float = 5.0
    size_limit_m: float = 0.02
    anisotropy: float = 1.0
    orientation: float = 0.1
    distortion: float = 0.5
    distortion_from: float = 0.1
    prior: float = 0.0025
    metallic: float = 0.01
    novel_picture: float = 1.0
    lpips: float = 0.05
    smoothness: float = 1.0
    shading_from: float = 0.667
    consistency: float = 0.05
    consistency_from: float = 0.233
    isometry: float = 1.0
    environment_variation: float = 0.01


@dataclass(frozen=True)
class RelitConfig:
    """teacher: a NAME.teacher folder; 'capture': the ground truth a synthetic capture brings; 'painted': the template
    itself with painted materials. pseudo_truth: folder of its pictures (relight pseudo-gt); without one a teacher is
    asked during training, in `further` recombined poses beyond those of the capture.

    surfels: at the start, of this opacity, and of the materials the teacher answers where they lie, or all grey as
    published (begin); spare: how many more densification may add. probe_side: nodes along a side
    of the occlusion lattices. points: surfels asked about at each step. novel_every: each so many steps a pose the
    capture does not have is distilled from the teacher's pictures, 0 for never. densify_at: parts of the schedule after
    which gaps are filled from the teacher's surface. grow_every, from grow_from to grow_until (parts of the schedule, 0
    for never): surfels at which pictures pull harder than grow_above (a gradient by the place on an image 2 wide) get a
    neighbour.
    environment_rows: of the learned light.
    """

    teacher: str = "painted"
    pseudo_truth: str = ""
    further: int = 64
    surfels: int = 50_000
    opacity: float = 0.5
    begin: Literal["teacher", "grey"] = "teacher"
    spare: int = 25_000
    probe_side: int = 20
    points: int = 4096
    novel_every: int = 3
    densify_at: tuple[float, ...] = (0.017, 0.067, 0.133, 0.333, 0.567)
    grow_every: float = 0.0034
    grow_from: float = 0.017
    grow_until: float = 0.533
    grow_above: float = 2e-4
    environment_rows: int = 32
    rates: RelitRates = field(default_factory=RelitRates)
    losses: RelitLosses = field(default_factory=RelitLosses)


def check_relit(config: RelitConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    for name, value, low in (
        ("relit.surfels", config.surfels, 16),
        ("relit.spare", config.spare, 0),
        ("relit.probe_side", config.probe_side, 2),
        ("relit.points", config.points, 1),
        ("relit.environment_rows", config.environment_rows, 4),
        ("relit.novel_every", config.novel_every, 0),
        ("relit.further", config.further, 0),
    ):
        if value < low:
            raise BadConfig(f"{name} is too small", found=str(value), expected=f"at least {low}")
