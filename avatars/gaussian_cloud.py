"""An avatar's posed Gaussians for another renderer: in its own axes, lit, as harmonics of display-encoded colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.gaussians.spherical_harmonics import SH0, rotated_sh
from avatars.lighting import environment_irradiance, relighting
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.lighting.irradiance import lamps_irradiance
from avatars.rendering.constants import ALPHA_FLOOR
from avatars.scene import SceneInstance
from shared.types import Environment

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GaussianCloud:
    """means, scales: [N, 3] m; quats: [N, 4] wxyz; opacities: [N]; harmonics: [N, C, 3]; float32, avatar's axes."""

    means: Float32
    quats: Float32
    scales: Float32
    opacities: Float32
    harmonics: Float32


@torch.no_grad()
def gaussian_cloud(
    instance: SceneInstance, environment: Environment | None, device: torch.device | str = "cpu"
) -> GaussianCloud:
    """The Gaussians of an instance's first instant; those too faint, broken or without size are left out.

    environment None keeps the light of the capture and with it colours that change with the direction (harmonics
    beyond the first); new light gives colours that are the same from everywhere. A colour is 0.5 + the harmonics' sum.
    """
    rotations, translations, expressions = (
        torch.as_tensor(np.array(values[:1], np.float32), device=device)
        for values in (instance.rotations, instance.translations, instance.expressions)
    )
    posed = instance.avatar.pose(rotations, translations, expressions, normals=environment is not None)
    scales, quats = posed.scales[0], posed.quats[0]
    kept = torch.isfinite(posed.means[0]).all(-1) & torch.isfinite(scales).all(-1) & torch.isfinite(quats).all(-1)
    # A point without size would ruin the quantisation Blender stores such attributes with.
    kept &= (posed.opacities[0] >= ALPHA_FLOOR) & (scales.amax(dim=-1) > 0) & (quats.square().sum(-1) > 0)
    found = (posed.means[0], torch.nn.functional.normalize(quats, dim=-1), scales, posed.opacities[0])
    return GaussianCloud(*(_array(part[kept]) for part in (*found, _harmonics(instance, posed, environment))))


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.cpu().numpy(), np.float32)


def _harmonics(instance: SceneInstance, posed: PosedGaussians, environment: Environment | None) -> Tensor:
    """[N, C, 3] in the avatar's axes."""
    view = posed.view_colours
    if environment is None and view is not None:
        model_from_axes = view.axes_from_world[0].cpu().double().numpy().T  # posed without a world matrix
        turned = rotated_sh(view.coefficients[0].cpu().numpy(), model_from_axes)
        return torch.from_numpy(turned).to(posed.means)
    encoded = posed.colours[0] if view is None else (view.coefficients[0, :, 0] * SH0 + 0.5).clamp(min=0)
    if environment is not None:
        normals = torch.zeros_like(posed.means[0]) if posed.normals is None else posed.normals[0]
        linear = torch.as_tensor(np.array(instance.world_from_avatar[0, :3, :3], np.float32)).to(normals)
        world_normals = normals @ (linear / torch.linalg.det(linear) ** (1 / 3)).T
        light = environment_irradiance(environment).to(normals)
        matrix = torch.as_tensor(np.array(instance.world_from_avatar[0], np.float32)).to(normals)
        middle = matrix[:3, :3] @ posed.means[0].median(dim=0).values + matrix[:3, 3]
        light = light + lamps_irradiance(environment, middle)
        gain = relighting(light, instance.avatar.captured_irradiance, world_normals, normals)
        encoded = srgb_from_linear(linear_from_srgb(encoded.clamp(min=0)) * gain)
    return ((encoded - 0.5) / SH0)[:, None]
