"""Which numbers of an avatar an edit may change, for every method: one explicit table.

Places on the template, skinning, networks and what drives them stay as they are, so an edited avatar moves as before.
What follows expression or pose (blendshapes, bases) is frozen unless `EditRates.deltas` is above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from avatars.avatar import Avatar
from avatars.gaussian_head.avatar import GaussianHeadAvatar
from avatars.gaussians.binding import Anchors, anchors, stack_anchors
from avatars.gaussians.posed import PosedGaussians
from avatars.gaussians.spherical_harmonics import SH0
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.mlp_body.express import CHANNELS, COLOUR, OPACITY, ROTATION, SCALE
from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_head.avatar import RelitHeadAvatar
from avatars.relit_head.model import BRIGHTEST
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.model import RgbHead, Surface
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.text_edit.config import EditRates
from shared.errors import BadAvatar

LOGIT_PER_UNIT = 4.0
"""Of a sigmoid at its middle: so much does the number change for a change of 1 of what it stands for."""
Motion = tuple[Tensor, Tensor, Tensor]
"""rotations [T, J, 3] rad, translations [T, 3] m, expressions [T, E] on the device."""


@dataclass(frozen=True, eq=False)
class Trained:
    """One tensor an edit changes. axis: along which the Gaussians lie. factor: of its rate, broadcastable, or None."""

    name: str
    parameter: nn.Parameter
    rate: float
    axis: int = 0
    factor: Tensor | None = None


class Editable(Protocol):
    """An avatar under edit. positions: in units of `unit_m`; log_scales; None where a method keeps them."""

    trained: tuple[Trained, ...]
    unit_m: float

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B] int64 of the motion, differentiable by what is trained."""

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """Local positions [N, 3] and logarithms of scales [N, ...] as they are now."""

    def finish(self) -> Avatar:
        """The edited avatar."""


class EditableRgbHead:
    """Positions, rotations, scales, opacities and colours; blendshapes by `deltas`."""

    unit_m = 1.0

    def __init__(self, avatar: RgbHeadAvatar, rates: EditRates, motion: Motion, model: RgbHead | None = None) -> None:
        self.avatar, self.motion = avatar, motion
        self.model = avatar.model if model is None else model
        model, found = self.model, []
        for name, rate in (
            ("positions", rates.position),
            ("rotations", rates.rotation),
            ("scales", rates.scale),
            ("opacities", rates.opacity),
            ("colours", rates.colour / SH0),
        ):
            if rate > 0:
                found.append(Trained(name, getattr(model, name), rate))
        for name, rate in (
            ("position_deltas", rates.position),
            ("rotation_deltas", rates.rotation),
            ("colour_deltas", rates.colour / SH0),
        ):
            if rate * rates.deltas > 0:
                found.append(Trained(name, getattr(model, name), rate * rates.deltas, axis=1))
        self.trained = tuple(found)
        for entry in self.trained:
            entry.parameter.requires_grad_(True)
        with torch.no_grad():
            self.vertices = torch.cat(
                [model.head.posed_vertices(*(part[i : i + 1] for part in motion)) for i in range(len(motion[0]))]
            )
            self.psi = model.weights(model.theta(*motion))
        self.kept: dict[int, Anchors] = {}

    def surface(self, frames: Tensor) -> Surface:
        """The posed surface under all Gaussians; on the CPU each instant's is kept."""
        if self.vertices.is_cuda:
            return self.model.surface(self.vertices, frames)
        for frame in frames.tolist():
            if frame not in self.kept:
                self.kept[frame] = anchors(self.model.binding, self.vertices[frame : frame + 1], self.model.frame)
        return stack_anchors([self.kept[frame] for frame in frames.tolist()])

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B]."""
        return self.model.place(self.surface(frames), self.psi[frames], hide_unseen=True)

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """Positions in m and logarithms of scales."""
        return self.model.positions, self.model.scales

    def finish(self) -> Avatar:
        """The edited avatar."""
        return RgbHeadAvatar(self.model, half_deltas=self.avatar.half_deltas)


class EditableRelitHead(EditableRgbHead):
    """As an RGB head, with albedo for colours; pictures show its diffuse part in the light of its capture."""

    def __init__(self, avatar: RelitHeadAvatar, rates: EditRates, motion: Motion) -> None:
        self.relit = avatar.relit
        super().__init__(avatar, rates, motion, avatar.relit.head)  # type: ignore[arg-type]
        self.shades: dict[int, Tensor] = {}

    def _shade(self, frame: int) -> Tensor:
        """What white shows at an instant, [1, N, 3] linear; normals and visibility are those of the unedited head."""
        if frame not in self.shades:
            with torch.no_grad():
                one = tuple(part[frame : frame + 1] for part in self.motion)
                white = self.relit.pose(*one, light=self.avatar.captured_light)  # type: ignore[attr-defined]
                assert white.material is not None
                shown = linear_from_srgb(white.colours)
                self.shades[frame] = shown / white.material.albedo.clamp_min(1e-4)
        return self.shades[frame]

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B]."""
        placed = super().posed(frames)
        shade = torch.cat([self._shade(frame) for frame in frames.tolist()])
        albedo = linear_from_srgb(placed.colours.clamp(0, BRIGHTEST))
        return replace(placed, colours=srgb_from_linear((albedo * shade).clamp_min(1e-6)))

    def finish(self) -> Avatar:
        """The edited avatar; materials, occlusion and light are its parent's."""
        old: RelitHeadAvatar = self.avatar  # type: ignore[assignment]
        return RelitHeadAvatar(self.relit, old.radiance, half_deltas=old.half_deltas)


class EditableGaussianHead:
    """A GaussianAvatars head: as RGB heads, with colours by direction; positions count in triangle sizes."""

    def __init__(self, avatar: GaussianHeadAvatar, rates: EditRates, motion: Motion) -> None:
        old = avatar.model
        with torch.no_grad():
            rest = old.head.vertices[old.binding.triangles]
            edges = (rest - rest.roll(1, 1)).norm(dim=-1)
            self.unit_m = float(edges.mean(1)[old.binding.face].median().clamp_min(1e-6))
        names = ("positions", "rotations", "scales", "opacities")
        own = {name: nn.Parameter(getattr(old, name).detach().clone()) for name in names}
        self.base = nn.Parameter(old.sh[:, :1].detach().clone())
        self.bands = nn.Parameter(old.sh[:, 1:].detach().clone())
        self.own, self.old, self.motion = own, old, motion
        listed = (
            ("positions", own["positions"], rates.position / self.unit_m),
            ("rotations", own["rotations"], rates.rotation),
            ("scales", own["scales"], rates.scale),
            ("opacities", own["opacities"], rates.opacity),
            ("base", self.base, rates.colour / SH0),
            ("bands", self.bands, rates.view_colour if self.bands.numel() else 0.0),
        )
        self.trained = tuple(Trained(*entry) for entry in listed if entry[2] > 0)

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B]."""
        whole = replace(self.old, **self.own, sh=torch.cat((self.base, self.bands), 1))
        return whole.pose(*(part[frames] for part in self.motion), normals=False)

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """Positions in triangle sizes and logarithms of scales."""
        return self.own["positions"], self.own["scales"]

    def finish(self) -> Avatar:
        """The edited avatar."""
        raw = {name: value.detach() for name, value in self.own.items()}
        return GaussianHeadAvatar(replace(self.old, **raw, sh=torch.cat((self.base, self.bands), 1).detach()))


class EditableMlpBody:
    """A body's neutral colours, opacities, scales and rotations; bases by `deltas`; networks stay."""

    unit_m = 1.0

    def __init__(self, avatar: MlpBodyAvatar, rates: EditRates, motion: Motion) -> None:
        self.avatar, self.model, self.motion = avatar, avatar.model, motion
        rows = torch.zeros(CHANNELS, device=self.model.neutral.device)
        rows[COLOUR], rows[SCALE], rows[ROTATION] = rates.colour / SH0, rates.scale, rates.rotation
        rows[OPACITY] = rates.opacity
        rate = float(rows.max())
        share = (rows / max(rate, 1e-12))[:, None]
        found = [Trained("neutral", self.model.neutral, rate, axis=1, factor=share)] if rate > 0 else []
        if rates.view_colour > 0 and self.model.view_dependent:
            found.append(Trained("sh1", self.model.sh1, rates.view_colour, axis=1))
        if rate * rates.deltas > 0:
            found.append(Trained("bases", self.model.bases, rate * rates.deltas, axis=2, factor=share))
        self.trained = tuple(found)
        for entry in self.trained:
            entry.parameter.requires_grad_(True)

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B]."""
        parts = (part[frames] for part in self.motion)
        return self.model.pose(*parts, clamped=self.avatar.clamped, normals=False)

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """No positions; logarithms of scales."""
        return None, self.model.neutral[SCALE].T

    def finish(self) -> Avatar:
        """The edited avatar."""
        return MlpBodyAvatar(self.model, half=self.avatar.half, clamped=self.avatar.clamped)


class EditableRelitBody:
    """A relightable person's albedo and opacity; shape and shine stay. Surfels are drawn as thin Gaussians."""

    unit_m = 1.0

    def __init__(self, avatar: RelitAvatar, rates: EditRates, motion: Motion) -> None:
        self.avatar, self.motion = avatar, motion
        model = avatar.surfels
        listed = (
            ("albedo", model.albedo, LOGIT_PER_UNIT * rates.colour),
            ("opacities", model.opacities, rates.opacity),
        )
        self.trained = tuple(Trained(*entry) for entry in listed if entry[2] > 0)
        for entry in self.trained:
            entry.parameter.requires_grad_(True)

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B], in the colours of their diffuse part."""
        parts = (part[frames] for part in self.motion)
        return self.avatar.surfels.pose(*parts, light=self.avatar.captured_light)

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """Neither moves."""
        return None, None

    def finish(self) -> Avatar:
        """The edited avatar."""
        return RelitAvatar(self.avatar.surfels, self.avatar.probes, self.avatar.radiance)


class EditableSurfaceBody:
    """A surface body's colours, opacities and sizes of Gaussians; they stay on their faces, and the mesh as it is."""

    unit_m = 1.0

    def __init__(self, avatar: SurfaceAvatar, rates: EditRates, motion: Motion) -> None:
        self.avatar, self.motion, model = avatar, motion, avatar.gaussians
        listed = (
            ("colours", model.colours, rates.colour),
            ("opacities", model.opacities, rates.opacity),
            ("scales", model.scales, rates.scale),
            ("tints", model.tints, rates.view_colour),
        )
        self.trained = tuple(Trained(*entry) for entry in listed if entry[2] > 0)
        for entry in self.trained:
            entry.parameter.requires_grad_(True)

    def posed(self, frames: Tensor) -> PosedGaussians:
        """World Gaussians at instants [B]."""
        return self.avatar.posed(*(part[frames] for part in self.motion), normals=False)

    def places(self) -> tuple[Tensor | None, Tensor | None]:
        """No positions; logarithms of scales."""
        return None, self.avatar.gaussians.scales

    def finish(self) -> Avatar:
        """The edited avatar, whose mesh takes its new colours."""
        return self.avatar.with_gaussians(self.avatar.gaussians)


EDITABLES: Mapping[str, Callable[[Any, EditRates, Motion], Editable]] = {
    "rgb_head": EditableRgbHead,
    "relit_head": EditableRelitHead,
    "gaussian_head": EditableGaussianHead,
    "mlp_body": EditableMlpBody,
    "relit_body": EditableRelitBody,
    "surface_body": EditableSurfaceBody,
}
"""Method -> what of its avatars an edit changes."""


def editable_of(avatar: Avatar, rates: EditRates, motion: Motion) -> Editable:
    """An avatar, whose tensors will be changed, ready for an edit. Raises BadAvatar for methods without an entry."""
    if avatar.method not in EDITABLES:
        raise BadAvatar(f"avatars of method {avatar.method!r} cannot be edited", expected=", ".join(EDITABLES))
    return EDITABLES[avatar.method](avatar, rates, motion)
