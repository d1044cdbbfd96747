"""A new RGB head: Gaussians on the texels of a template, before any image has been seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.binding import bind_texels, bind_uv_grid
from avatars.gaussians.frames import FrameKind
from avatars.rgb_head.driving import LAYOUTS, DrivingRange, measure_range, open_range, with_modes
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.model import RgbHead
from avatars.templates.opening import TemplateReference
from avatars.templates.template import Template

DENSITY = {
    "skin/face": 4.0,
    "skin/lids": 10.0,
    "skin/lips": 6.0,
    "skin/scalp": 1.0,
    "skin/body": 0.6,
    "skin/hair1": 1.5,
    "skin/hair2": 1.5,
    "eye_l": 10.0,
    "eye_r": 10.0,
    "teeth": 2.0,
    "tongue": 0.5,
    "lashes": 8.0,
    "tights": 0.8,
}
"""The template's haircap is a volume for long hair and hides the face: it carries none; hair grows from the scalp."""
OFFSETS_M = {"tights": 0.004, "skin/hair1": 0.008, "skin/hair2": 0.02}


@dataclass(frozen=True)
class RgbHeadConfig:
    """The model's shape and start.

    target_gaussians: about how many. tex_size: not 0: the paper's one grid of so many texels a side over the whole UV
    square instead, whatever target_gaussians, density and offsets_m say. density: patch (`gaussians.regions`) ->
    Gaussians per area relative to the others, 0 for none. offsets_m: patch -> start above the surface. blendshapes: K.
    frame: 'uv' (the paper's) or 'orthonormal'.
    initial_scale: start size as a share of the texel's spacing; initial_thickness the same along the normal.
    initial_scale_m: not 0: this start size in m for every Gaussian instead (0.0008 is the paper's).
    first_look_px: size at which training images are searched for Gaussians that nothing shows (0 keeps them all, as the
    paper does). fill_unseen: guess the outside that no image shows from what is near (needs the first look).
    theta: what drives the network, one of `driving.LAYOUTS`; standardised: by its mean and spread in training, and held
    inside its range there (the paper takes it as it is).
    """

    target_gaussians: int = 20000
    tex_size: int = 0
    blendshapes: int = 20
    hidden: int = 128
    frame: FrameKind = "orthonormal"
    theta: Literal["head", "rgbavatar", "expressions"] = "head"
    standardised: bool = True
    initial_scale: float = 0.6
    initial_thickness: float = 0.3
    initial_scale_m: float = 0.0
    initial_opacity: float = 0.5
    first_look_px: int = 128
    fill_unseen: bool = True
    density: Mapping[str, float] = field(default_factory=lambda: dict(DENSITY))
    offsets_m: Mapping[str, float] = field(default_factory=lambda: dict(OFFSETS_M))


def resting_range(size: int) -> DrivingRange:
    """The range of a head that was never trained: anything between -1 and 1."""
    return DrivingRange(torch.zeros(size), torch.ones(size), -torch.ones(size), torch.ones(size))


def new_head(
    reference: TemplateReference,
    config: RgbHeadConfig,
    *,
    seed: int,
    rotations: NDArray[np.float32] | None = None,
    translations: NDArray[np.float32] | None = None,
    expressions: NDArray[np.float32] | None = None,
    rest_pose: NDArray[np.float32] | None = None,
    captured_irradiance: Tensor | None = None,
    vertex_offset: NDArray[np.float32] | None = None,
) -> RgbHead:
    """An untrained head.

    rotations [T, J, 3] rad, translations [T, 3] m (zero if left out) and expressions [T, E] of training frames set the
    range of θ.

    vertex_offset [V, 3] m: the subject's static offset from the shaped template.
    Raises BadTemplate when the template is not at hand or lacks a face group of the config.
    """
    arrays = reference.open()
    template = Template(arrays)
    offset = None if vertex_offset is None else torch.as_tensor(np.array(vertex_offset, np.float32))
    head = HeadTemplate.make(template, reference.preset, reference.shape, offset)
    density = {name: share for name, share in config.density.items() if name.partition("/")[0] in arrays.faces}
    rest = head.vertices.numpy()
    if config.tex_size:
        binding = bind_uv_grid(arrays, rest, config.tex_size)
    else:
        binding = bind_texels(arrays, rest, density, config.target_gaussians)
    layout = LAYOUTS[config.theta](arrays.joint_names, arrays.expression_names)
    theta_range = resting_range(layout.size())
    if rotations is not None and expressions is not None:
        turned, moved = torch.tensor(rotations), torch.tensor(expressions)
        shifted = torch.zeros(len(turned), 3) if translations is None else torch.tensor(translations)
        theta = layout.vector(turned, shifted, moved, arrays.joint_names, arrays.expression_names)
        known = measure_range(theta) if config.standardised else open_range(theta.shape[1])
        theta_range = with_modes(known, theta, layout, shifted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RgbHead(
            head,
            binding,
            layout,
            blendshapes=config.blendshapes,
            frame=config.frame,
            driving_range=theta_range,
            rest_pose=np.zeros((len(arrays.joint_names), 3), np.float32) if rest_pose is None else rest_pose,
            captured_irradiance=captured_irradiance,
            hidden=config.hidden,
        )
    extent = binding.extent_m.clamp(2e-4, 0.02)
    above = {} if config.tex_size else config.offsets_m
    offsets = torch.tensor([above.get(name, 0.0) for name in binding.group_names])
    with torch.no_grad():
        model.positions[:, 2] = offsets[binding.group]
        model.scales[:, :2] = (config.initial_scale * extent).log()
        model.scales[:, 2] = (config.initial_thickness * extent.prod(1).sqrt()).log()
        if config.initial_scale_m > 0:
            model.scales.fill_(float(np.log(config.initial_scale_m)))
        model.opacities.fill_(float(np.log(config.initial_opacity / (1 - config.initial_opacity))))
    return model
