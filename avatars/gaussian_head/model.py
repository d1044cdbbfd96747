"""GaussianAvatars' model: Gaussians in the edge frames of FLAME's triangles, growing with them (method page 10.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.binding import UvBinding, anchors, smooth_normals
from avatars.gaussians.frames import triangle_scales
from avatars.gaussians.posed import PosedGaussians, ViewColours, multiply_quaternions
from avatars.gaussians.spherical_harmonics import SH0
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.rotations import unit_quaternions
from avatars.templates.template import template_triangles
from shared.errors import BadTemplate
from shared.template import TemplateArrays

Y_UP_FROM_MODEL = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


@dataclass(frozen=True, eq=False)
class GaussianHead:
    """N Gaussians on the triangles of one person's template; parameters are raw, `pose` applies the activations.

    positions [N, 3] in the triangle's frame and in units of its size; rotations [N, 4] wxyz; scales [N, 3] log of the
    triangle's size; opacities [N] logit; sh [N, C, 3] coefficients of display-encoded sRGB by direction, in FLAME's
    axes. binding: the triangle of each, all at its centre.
    """

    head: HeadTemplate
    binding: UvBinding
    skin_triangles: Tensor
    positions: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    rest_pose: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)

    def to(self, device: str | torch.device) -> GaussianHead:
        """The same on another device."""
        names = ("head", "binding", "skin_triangles", "positions", "rotations", "scales", "opacities", "sh")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        vertices = self.head.posed_vertices(rotations, translations, expressions)
        surface = anchors(self.binding, vertices, "edge")
        size = triangle_scales(vertices[:, self.binding.triangles])[:, self.binding.face, None]
        batch = len(vertices)
        local = self.positions.expand(batch, -1, -1)[..., None]
        view_colours = None
        if self.sh.shape[1] > 1:
            axes = self.sh.new_tensor(Y_UP_FROM_MODEL).expand(batch, 3, 3)
            view_colours = ViewColours(self.sh.expand(batch, -1, -1, -1), axes)
        return PosedGaussians(
            means=surface.points + size * (surface.frames @ local)[..., 0],
            quats=unit_quaternions(multiply_quaternions(surface.quats, unit_quaternions(self.rotations))),
            scales=size * torch.exp(self.scales),
            opacities=torch.sigmoid(self.opacities).expand(batch, -1),
            colours=self.colours().expand(batch, -1, -1),
            normals=smooth_normals(self.binding, vertices, self.skin_triangles) if normals else None,
            view_colours=view_colours,
        )

    def colours(self) -> Tensor:
        """The part of the colours that is the same from everywhere, [N, 3] display-encoded sRGB."""
        return (SH0 * self.sh[:, 0] + 0.5).clamp_min(0)

    def faces(self) -> NDArray[np.int64]:
        """The face of each Gaussian, [N], in the numbering of `template_triangles`."""
        triangles, _, _ = template_triangles(self.head.template.arrays)
        return rows_of(triangles.astype(np.int64), self.binding.triangles.cpu().numpy())[
            self.binding.face.cpu().numpy()
        ]


def rows_of(triangles: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` [M, 3] stands among `triangles` [F, 3], corners in the same order. Raises BadTemplate."""
    base = int(max(triangles.max(initial=0), wanted.max(initial=0))) + 1
    keys, sought = ((t[:, 0] * base + t[:, 1]) * base + t[:, 2] for t in (triangles, wanted))
    order = np.argsort(keys, kind="stable")
    found = order[np.searchsorted(keys[order], sought).clip(max=len(keys) - 1)]
    if not np.array_equal(keys[found], sought):
        raise BadTemplate(
            "Gaussians sit on triangles that are not the template's", do="Use the template they were made for"
        )
    return found


def bound_to_faces(arrays: TemplateArrays, face: NDArray[np.integer]) -> UvBinding:
    """Gaussians at the centres of the template's faces numbered `face` [N]. Raises BadTemplate."""
    triangles, _, group = template_triangles(arrays)
    if face.size and (face.min() < 0 or face.max() >= len(triangles)):
        raise BadTemplate(
            f"Gaussians are bound to faces that the template {arrays.template_id!r} lacks",
            found=f"{face.min()} to {face.max()}",
            expected=f"0 to {len(triangles) - 1}",
        )
    used, row = np.unique(face, return_inverse=True)
    return UvBinding(
        torch.from_numpy(triangles[used].astype(np.int64)),
        torch.zeros(len(used), 3, 2),  # the edge frame looks at no UV coordinates
        torch.from_numpy(row.astype(np.int64)),
        torch.full((len(face), 3), 1 / 3),
        torch.from_numpy(group[face].astype(np.int64)),
        tuple(arrays.faces),
        torch.zeros(len(face), 2),
    )
