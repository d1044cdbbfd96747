"""What a body is made of, how it is trained and what it is held to, as frozen dataclasses (method page A.2 to A.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import BadConfig

DENSITY = {
    "skin/face": 2.0,
    "skin/lids": 2.0,
    "skin/lips": 2.0,
    "skin/scalp": 1.0,
    "skin/body": 1.0,
    "eye_l": 2.0,
    "eye_r": 2.0,
    "teeth": 0.5,
    "tongue": 0.2,
}
"""Patch (`gaussians.regions`) of the open template -> Gaussians per area relative to the others."""


@dataclass(frozen=True)
class BodyRates:
    """Adam's learning rates (method page A.7). Each decays exponentially to its share `*_final` at the run's end.

    control and control_basis are multiplied by scene_scale (the original's is about 3, see the page). networks are
    trained by AdamW with that weight decay. pose: of the refinement of each frame's pose; exposure: of each camera's.
    """

    control: float = 1.6e-4
    control_final: float = 0.01
    control_basis: float = 1.6e-5
    scene_scale: float = 3.0
    attributes: float = 5e-4
    sh1: float = 2.5e-5
    bases: float = 1e-4
    bases_final: float = 1.0
    sh1_bases: float = 2.5e-6
    networks: float = 5e-4
    networks_decay: float = 1e-3
    wiggle: float = 1e-3
    final: float = 0.1
    pose: float = 1e-4
    exposure: float = 1e-3


@dataclass(frozen=True)
class BodyLosses:
    """Terms beside those of the picture (`losses`), and how pictures are compared (method page A.6).

    smoothness: mean distance between the offsets of neighbouring control points; size: of scales above size_limit_m,
    their value. basis: mean square of what the bases add, against wild poses. pose: mean square of the refinement.
    boundary_px: a band of that radius along the mask's edge is left out (-1: as published for the recording's layout,
    none for others). lpips_px: pictures are brought to this side for LPIPS until patch_from images, from then on a
    random patch of that side is taken.
    """

    smoothness: float = 0.1
    size: float = 1.0
    size_limit_m: float = 0.01
    basis: float = 0.0
    pose: float = 0.0
    boundary_px: int = -1
    lpips_px: int = 512
    patch_from: int = 300_000


@dataclass(frozen=True)
class MlpBodyConfig:
    """The model's shape, start and schedule; counts in `schedule` and here are images.

    gaussians, controls, anchors: points sampled on the template. basis, control_basis: vectors that each Gaussian and
    each control point owns. widths: hidden layers of each anchor's network. neighbours: mixed by inverse distance.
    smooth_neighbours: of a control point, itself included. wiggle_m: reach of a Gaussian's own free offset.
    initial_*: start. sh_from: view-dependent colour joins (-1: never). hands, face: whether the networks see the
    fingers' pose, and jaw, eyes and expression (skinning always follows them); each anchor sees only what is near it.
    detail_anchors: this share of the anchors is put on head and hands. clamp_components, clamp_sigmas: novel poses are
    held inside the training poses for the networks (0 components: not). density: see `DENSITY`.
    refine_pose_from: poses of frames are refined from then on (-1: never). exposure: each camera has its own affine
    colour map in training. crop: train on the part of each picture around its mask, with crop_margin_px around.
    half: the finished avatar is stored in half precision.
    """

    gaussians: int = 200_000
    controls: int = 10_000
    anchors: int = 300
    basis: int = 15
    control_basis: int = 15
    widths: tuple[int, ...] = (512, 256, 256, 256)
    neighbours: int = 3
    smooth_neighbours: int = 7
    wiggle_m: float = 0.008
    initial_opacity: float = 0.8
    initial_basis: float = 0.002
    sh_from: int = 250_000
    hands: bool = False
    face: bool = False
    detail_anchors: float = 0.0
    clamp_components: int = 20
    clamp_sigmas: float = 2.0
    refine_pose_from: int = -1
    exposure: bool = False
    crop: bool = False
    crop_margin_px: int = 12
    half: bool = False
    density: Mapping[str, float] = field(default_factory=lambda: dict(DENSITY))
    rates: BodyRates = field(default_factory=BodyRates)
    losses: BodyLosses = field(default_factory=BodyLosses)


def check_body(config: MlpBodyConfig) -> None:
    """Refuse values that make no sense together. Raises BadConfig."""
    for name, low in (
        ("gaussians", 4),
        ("controls", 4),
        ("anchors", 4),
        ("basis", 1),
        ("control_basis", 1),
        ("neighbours", 1),
        ("smooth_neighbours", 2),
        ("clamp_components", 0),
        ("crop_margin_px", 0),
    ):
        value = getattr(config, name)
        if value < low:
            raise BadConfig(f"body.{name} is too small", found=str(value), expected=f"at least {low}")
    fewest = min(config.gaussians, config.controls, config.anchors)
    if max(config.neighbours, config.smooth_neighbours) > fewest:
        raise BadConfig(
            "body.neighbours are more than there are points", found=str(config.neighbours), expected=f"up to {fewest}"
        )
    if not config.widths or min(config.widths) < 1:
        raise BadConfig("body.widths names no hidden layer", found=str(list(config.widths)), expected="e.g. [64, 64]")
    for name in ("initial_opacity", "detail_anchors"):
        value = getattr(config, name)
        if not 0 <= value < 1 or (name == "initial_opacity" and value == 0):
            raise BadConfig(f"body.{name} is out of range", found=str(value), expected="above 0 and below 1")
