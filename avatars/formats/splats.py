"""Plain Gaussian splats as arrays: what a frame of an avatar is in a file any viewer opens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.gaussians.posed import PosedGaussians, multiply_quaternions, quaternion_from_matrix
from avatars.gaussians.spherical_harmonics import SH0, degree_of, rotated_sh

Float = NDArray[np.float32]
Axes = Literal["z-up", "y-up", "y-down"]
INVISIBLE = 1.0 / 255.0
"""Less opaque Gaussians are drawn by no renderer."""
FROM_Z_UP = {
    "z-up": np.eye(3),
    "y-up": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "y-down": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""Axes a file may be written in. z-up: Blender's, facing -y. y-up: facing +z (glTF, FLAME, SPZ's RUB). y-down: facing
-z, as captures of COLMAP come out of 3D Gaussian splatting (x right, y down, z forward)."""


@dataclass(frozen=True, eq=False)
class Splats:
    """N Gaussians, raw as files hold them.

    positions [N, 3] m; rotations [N, 4] wxyz; log_scales [N, 3] log m; logits [N] of opacity; sh [N, C, 3] coefficients
    of display-encoded sRGB, C = (degree + 1)².
    """

    positions: Float
    rotations: Float
    log_scales: Float
    logits: Float
    sh: Float

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics."""
        return degree_of(self.sh.shape[1])

    def turned(self, rotation: NDArray[np.floating]) -> Splats:
        """The same splats turned by `rotation` [3, 3], their colours with them."""
        turn = quaternion_from_matrix(torch.as_tensor(np.asarray(rotation, np.float64)))
        rotations = multiply_quaternions(turn, torch.from_numpy(self.rotations.astype(np.float64))).numpy()
        return replace(
            self,
            positions=(self.positions @ np.asarray(rotation).T).astype(np.float32),
            rotations=rotations.astype(np.float32),
            sh=rotated_sh(self.sh, rotation) if self.degree else self.sh,
        )

    def in_axes(self, axes: Axes) -> Splats:
        """The same splats, from Effigy's axes (z-up) to others."""
        return self if axes == "z-up" else self.turned(FROM_Z_UP[axes])


def splats_of(posed: PosedGaussians, frame: int = 0) -> Splats:
    """One posed frame as splats in model axes; Gaussians nobody could see are left out."""
    with torch.no_grad():
        opacity = posed.opacities[frame].cpu().double()
        shown = opacity >= INVISIBLE
        opacity = opacity[shown].clamp(max=1 - 1e-6)

        def array(value: torch.Tensor) -> Float:
            return value.cpu()[shown].float().numpy()

        if posed.view_colours is None:
            sh = (array(posed.colours[frame])[:, None] - 0.5) / SH0
        else:
            sh = array(posed.view_colours.coefficients[frame])
        found = Splats(
            positions=array(posed.means[frame]),
            rotations=array(posed.quats[frame]),
            log_scales=np.log(np.maximum(array(posed.scales[frame]), 1e-12)),
            logits=torch.logit(opacity).float().numpy(),
            sh=sh.astype(np.float32),
        )
        if posed.view_colours is None or found.degree == 0:
            return found
        world_from_axes = posed.view_colours.axes_from_world[frame].cpu().double().numpy().T
        return replace(found, sh=rotated_sh(found.sh, world_from_axes))
