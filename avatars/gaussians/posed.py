"""Gaussians as a renderer takes them: activated, in one space, one set for each frame of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatars.gaussians.spherical_harmonics import sh_colours
from avatars.lighting.occluders import Occluders
from shared.errors import EffigyError


@dataclass(frozen=True, eq=False)
class ViewColours:
    """Colours that depend on where they are seen from (spherical harmonics).

    coefficients: [B, N, (degree + 1)², 3] of display-encoded sRGB. axes_from_world: [B, 3, 3] turns world directions
    into the axes the coefficients are written in.
    """

    coefficients: Tensor
    axes_from_world: Tensor

    def seen(self, means: Tensor, positions: Tensor) -> Tensor:
        """Colours [B, N, 3] of Gaussians at means [B, N, 3] m seen from positions [B, 3] m."""
        away = means - positions.to(means)[:, None]
        return sh_colours(self.coefficients, away @ self.axes_from_world.transpose(1, 2))

    def turned(self, rotations: Tensor) -> ViewColours:
        """The same after everything was turned by rotations [B, 3, 3]."""
        return replace(self, axes_from_world=self.axes_from_world @ rotations.transpose(1, 2))


@dataclass(frozen=True, eq=False)
class PosedMaterial:
    """What light does to posed Gaussians. albedo: [B, N, 3] linear; roughness, metallic: [B, N, 1]; all in 0..1.

    probes: how the person hides the sky from itself, None where that is not known. flat: the Gaussians are surfels, to
    be blended by `rasterise_surfels`; their third scale is next to nothing.
    """

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    probes: Occluders | None = None
    flat: bool = False


@dataclass(frozen=True, eq=False)
class PosedGaussians:
    """B frames of N Gaussians. All tensors share device and dtype.

    means: [B, N, 3] m. quats: [B, N, 4] wxyz, unit. scales: [B, N, 3] m, standard deviations along the axes of `quats`.
    opacities: [B, N] in 0..1. colours: [B, N, 3] display-encoded sRGB. normals: [B, N, 3] unit normals of the surface
    the Gaussians are bound to, or None. view_colours: colours by direction, which `seen_from` puts in place of
    `colours`, or None where they are the same from everywhere (a method may bring its own kind of ViewColours).
    material: of a relightable person, else None. sharp: pictures blur each by half a pixel, and these are so much
    fainter for it that they cover no more than without (Yu et al. 2024, "Mip-Splatting"): outlines do not grow fat.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    normals: Tensor | None = None
    view_colours: ViewColours | None = None
    material: PosedMaterial | None = None
    sharp: bool = False

    def __post_init__(self) -> None:
        if self.means.ndim != 3:
            raise EffigyError(
                "Gaussians need a batch of frames", found=f"means {list(self.means.shape)}", expected="[B, N, 3]"
            )
        frames, count = self.means.shape[:2]
        expected = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "colours": (3,), "normals": (3,)}
        for name, last in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != (frames, count, *last):
                raise EffigyError(
                    f"Gaussians' {name} have the wrong shape",
                    found=str(list(tensor.shape)),
                    expected=str([frames, count, *last]),
                )

    @property
    def frames(self) -> int:
        """B, the number of frames."""
        return self.means.shape[0]

    @property
    def count(self) -> int:
        """N, the number of Gaussians in each frame."""
        return self.means.shape[1]

    def seen_from(self, positions: Tensor) -> PosedGaussians:
        """The same Gaussians with the colours they show to cameras at `positions` [B, 3] m, one for each frame."""
        if self.view_colours is None:
            return self
        return replace(self, colours=self.view_colours.seen(self.means, positions), view_colours=None)

    def transformed(self, world_from_model: Tensor) -> PosedGaussians:
        """The same Gaussians moved by [B, 4, 4] (or [1, 4, 4]) transforms: rigid with a uniform, positive scale."""
        matrix = world_from_model.to(self.means)
        linear = matrix[:, :3, :3]
        scale = torch.linalg.det(linear).abs().pow(1.0 / 3.0)  # [B]
        rotation = linear / scale[:, None, None]
        turn = quaternion_from_matrix(rotation)[:, None, :]
        return PosedGaussians(
            means=self.means @ linear.transpose(1, 2) + matrix[:, None, :3, 3],
            quats=multiply_quaternions(turn, self.quats),
            scales=self.scales * scale[:, None, None],
            opacities=self.opacities,
            colours=self.colours,
            normals=None if self.normals is None else self.normals @ rotation.transpose(1, 2),
            view_colours=None if self.view_colours is None else self.view_colours.turned(rotation),
            sharp=self.sharp,
            material=None
            if self.material is None
            else replace(
                self.material, probes=None if self.material.probes is None else self.material.probes.moved(matrix)
            ),
        )


def concatenate(parts: Sequence[PosedGaussians]) -> PosedGaussians:
    """Several sets of the same frames as one, in order, so that they are sorted together. Normals if all have them.

    Of colours that depend on the view, take `seen_from` before: sets of several kinds share one colour a Gaussian.
    """
    if not parts:
        raise EffigyError("there are no Gaussians to put together", expected="at least one set")
    if len(parts) == 1:
        return parts[0]
    assert len({part.sharp for part in parts}) == 1, "sharp ones are made alike before (rendering.sharpness)"
    assert all(part.view_colours is None for part in parts), "seen_from comes before concatenate"
    frames = {part.frames for part in parts}
    if len(frames) != 1:
        raise EffigyError(
            "sets of Gaussians have different numbers of frames", found=", ".join(map(str, sorted(frames)))
        )
    normals = [part.normals for part in parts if part.normals is not None]
    return PosedGaussians(
        means=torch.cat([part.means for part in parts], dim=1),
        quats=torch.cat([part.quats for part in parts], dim=1),
        scales=torch.cat([part.scales for part in parts], dim=1),
        opacities=torch.cat([part.opacities for part in parts], dim=1),
        colours=torch.cat([part.colours for part in parts], dim=1),
        normals=torch.cat(normals, dim=1) if len(normals) == len(parts) else None,
        sharp=parts[0].sharp,
    )


def multiply_quaternions(left: Tensor, right: Tensor) -> Tensor:
    """The Hamilton product of wxyz quaternions [..., 4], broadcasting: turns by `right`, then by `left`."""
    lw, lx, ly, lz = left.unbind(-1)
    rw, rx, ry, rz = right.unbind(-1)
    return torch.stack(
        [
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ],
        dim=-1,
    )


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Unit wxyz quaternions [..., 4] of rotation matrices [..., 3, 3], w >= 0 up to rounding."""
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # Each row is the quaternion times 4 q_i; the largest q_i gives the one without cancellation.
    w, x, y, z = 1 + trace, 1 + 2 * m[..., 0, 0] - trace, 1 + 2 * m[..., 1, 1] - trace, 1 + 2 * m[..., 2, 2] - trace
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = torch.stack([w, a, b, c, a, x, d, e, b, d, y, f, c, e, f, z], dim=-1).unflatten(-1, (4, 4))
    best = torch.stack([w, x, y, z], dim=-1).argmax(dim=-1)
    chosen = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    chosen = torch.where(chosen[..., :1] < 0, -chosen, chosen)
    return torch.nn.functional.normalize(chosen, dim=-1)
