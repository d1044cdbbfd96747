"""Stage B: the canonical mesh itself is drawn and compared, and everything that will be exported is what is trained.

Vertices, eight skinning weights each, a solid texture and the recording's poses learn from pictures through drawn
triangles. A small network beside the texture takes up what depends on the view and on how the skin is turned; it is
kept small, so that the texture alone is the colour, and is left out of what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, relu

from avatars.relit_body.person import Person
from avatars.relit_field.networks import layer
from avatars.rendering import MeshDrawing, Rasterised, draw_mesh
from avatars.surface_body.mesh_settings import MeshStageSettings
from avatars.surface_body.mesh_shape import Neighbours, bends, calmed
from avatars.surface_body.mesh_state import MeshState, blended, eight_of, skinned, vertex_normals, with_expressions
from avatars.surface_body.solid_texture import SolidTexture
from avatars.training import ranks
from avatars.training.data import Batch
from avatars.training.losses import dssim_loss, gradient_loss, l1_loss
from avatars.training.lpips import Lpips, find_lpips
from avatars.training.trainer import RatedParameter
from shared.errors import EffigyError

RESIDUAL_LIMIT = 0.3
SPARE = 1.1
MARGIN = 2000
"""Rows for vertices: half as many as faces if the mesh is closed, and some for one that is not."""
TOPOLOGY = ("vertices", "faces", "joints", "weights", "expression_dirs", "centre", "half_m")


class Poses(Protocol):
    """Poses of a recording as they are known now."""

    def of(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E] of frames [B]; differentiable."""

    def penalty(self, frames: Tensor, prior: float, temporal: float) -> Tensor:
        """What corrections cost, a scalar."""


class HasMesh(Protocol):
    """The stage before."""

    def mesh_state(self) -> MeshState:
        """The mesh as it is now, without gradients."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture of the mesh. colour: [B, H, W, 3] premultiplied; alpha: [B, H, W]; residual: [P, 3] that the view adds
    to the texture at the pixels that show something; drawing: of those."""

    colour: Tensor
    alpha: Tensor
    residual: Tensor
    drawing: MeshDrawing


class MeshStage:
    """A stage of the trainer. Its tensors have room for about `most_faces` faces from the start; which rows are in use
    is known from the mesh it begins with.

    begins, ends: shares of the schedule of `images` in which it trains, for the rates. refine: whether poses learn.
    """

    def __init__(
        self,
        settings: MeshStageSettings,
        person: Person,
        poses: Poses,
        previous: HasMesh,
        *,
        most_faces: int,
        begins: float,
        ends: float,
        images: int,
        temporal: float = 0.0,
        seed: int = 0,
        lpips_folder: str = "",
    ) -> None:
        self.settings, self.person, self.poses, self.previous = settings, person, poses, previous
        self.begins, self.ends, self.images, self.temporal = begins, ends, images, temporal
        device, draw = person.joints.device, torch.Generator().manual_seed(seed + 3)
        rows = int(most_faces / 2 * SPARE) + MARGIN
        self.offsets = nn.Parameter(torch.zeros(rows, 3, device=device))
        self.logits = nn.Parameter(torch.zeros(rows, 8, device=device))
        self.solid = SolidTexture(torch.zeros(3), 1.0, settings.solid, draw).to(device)
        width, inputs = settings.residual_width, settings.solid.features + 6
        made = [layer(inputs, width, draw), layer(width, 3, draw)] if width else []
        for tensor in made[-1] if made else ():
            tensor.data.zero_()
        self.residual = [nn.Parameter(tensor.data.to(device)) for pair in made for tensor in pair]
        self.lpips_folder, self.asked_lpips = lpips_folder, False
        self.lpips: Lpips | None = None
        self.start: MeshState | None = None
        self.neighbours: Neighbours | None = None

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors, with rates in images of the whole run; poses belong to the whole run."""
        rates = self.settings.rates
        table = [("mesh.offsets", self.offsets, rates.vertices), ("mesh.logits", self.logits, rates.skinning)]
        for name, value in self.solid.named_parameters():
            table.append((f"mesh.solid.{name}", value, rates.grid if name == "grid.table" else rates.network))
        table += [(f"mesh.residual.{n}", value, rates.network) for n, value in enumerate(self.residual)]
        until = max(1, round(self.images * self.ends))
        before = self.begins / max(self.ends - self.begins, 0.01 * self.ends)
        first = rates.final**-before  # so that rates are theirs where the stage begins
        return tuple(
            RatedParameter(name, value, rate * first, rate * rates.final, until) for name, value, rate in table
        )

    @property
    def begun(self) -> bool:
        """Whether there is a mesh yet."""
        return self.start is not None

    def begin(self) -> None:
        """Take the mesh of the stage before, its weights and its colours. Raises EffigyError where there is no room."""
        found = self.previous.mesh_state()
        if len(found.vertices) > len(self.offsets):
            raise EffigyError(
                "the mesh has more vertices than there is room for",
                found=str(len(found.vertices)),
                expected=f"at most {len(self.offsets)}",
                do="Allow more faces (surface.faces) or take a coarser mesh (surface.resolution)",
            )
        with torch.no_grad():
            self.offsets.zero_()
            self.logits.zero_()
            for name, value in self.solid.named_parameters():
                value.copy_(dict(found.solid.named_parameters())[name])
            beside = Neighbours.of(found.vertices, found.faces)
            places = beside.levelled(found.vertices, self.settings.first_smoothings)
            every = self._smoothed(beside, found.joints, found.weights)
            weights, joints = every.topk(min(8, every.shape[1]), dim=1)
            joints, weights = eight_of(joints, weights)
        smooth = MeshState(places, found.faces, joints, weights, found.expression_dirs, found.solid)
        self._take(smooth, found.solid.centre, found.solid.half_m)

    def _smoothed(self, beside: Neighbours, joints: Tensor, weights: Tensor) -> Tensor:
        """Weights [V, K] of joints [V, K] among those of their neighbours, [V, all joints]; differentiable."""
        every = weights.new_zeros(len(weights), len(self.person.joints)).scatter_add(1, joints.long(), weights)
        return beside.smoothed(every, self.settings.weight_smoothings)

    def _take(self, mesh: MeshState, centre: Tensor, half_m: float) -> None:
        self.solid.centre.copy_(centre)
        self.solid.half_m = half_m
        self.start = MeshState(mesh.vertices, mesh.faces, mesh.joints, mesh.weights, mesh.expression_dirs, self.solid)
        self.neighbours = Neighbours.of(mesh.vertices, mesh.faces)

    @property
    def _begun(self) -> tuple[MeshState, Neighbours]:
        assert self.start is not None, "the stage has begun"
        assert self.neighbours is not None
        return self.start, self.neighbours

    def moved_by(self) -> Tensor:
        """How far vertices are from where they began, [V, 3] m; differentiable."""
        start, beside = self._begun
        return beside.edge_m * beside.smoothed(self.offsets[: len(start.vertices)], self.settings.smoothings)

    def weights(self) -> Tensor:
        """Skinning weights [V, 8], rows sum to 1, those of neighbours alike, or bent joints crumple; joints that a
        vertex did not follow it never follows."""
        start, beside = self._begun
        follows = start.weights > 0
        scores = torch.where(follows, start.weights.clamp_min(1e-8).log() + self.logits[: len(follows)], -torch.inf)
        kept = self._smoothed(beside, start.joints, torch.softmax(scores, 1)).gather(1, start.joints.long())
        kept = torch.where(follows, kept, 0.0)
        return kept / kept.sum(1, keepdim=True)

    def draw(self, batch: Batch, vertices: Tensor, weights: Tensor) -> Drawn:
        """The mesh with canonical vertices [V, 3] m and weights [V, 8] in the batch's frames and cameras."""
        start, beside = self._begun
        rotations, translations, expressions = self.poses.of(batch.frames)
        transforms = blended(self.person.moved(rotations, translations, expressions), start.joints, weights)
        shifted = with_expressions(vertices, start.expression_dirs, expressions)
        posed = skinned(shifted, transforms)
        if posed.requires_grad:
            share = 1.0 if batch.part is None else batch.part.share
            posed.register_hook(partial(calmed, share=share))  # type: ignore[no-untyped-call]
        drawing = draw_mesh(posed, start.faces, batch.cameras)
        along = normalize(posed.detach() - batch.cameras.positions()[:, None], dim=-1)
        with torch.no_grad():
            turned = (transforms[..., :3] * along[..., None]).sum(-2)
            carried = torch.cat((normalize(turned, dim=-1), vertex_normals(posed, start.faces)), -1)
        places = drawing.interpolated(vertices[None])
        colours, features = self.solid.with_features(places, follow=self.settings.follow and places.requires_grad)
        residual = torch.zeros_like(colours)
        if self.residual:
            with torch.no_grad():
                seen = normalize(drawing.interpolated(carried).view(-1, 2, 3), dim=-1).flatten(1)
            first, first_bias, last, last_bias = self.residual
            hidden = relu(linear(torch.cat((features, seen), -1), first, first_bias))
            residual = RESIDUAL_LIMIT * torch.tanh(linear(hidden, last, last_bias))
        values = torch.cat((colours + residual, torch.ones_like(colours[:, :1])), -1)
        image = drawing.antialiased(drawing.picture(values), beside.edges)
        return Drawn(image[..., :3], image[..., 3], residual, drawing)

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Named terms, already weighted."""
        start, beside = self._begun
        wanted, away = self.settings.losses, self.moved_by()
        vertices = start.vertices + away
        drawn = self.draw(batch, vertices, self.weights())
        shown = drawn.colour + (1 - drawn.alpha[..., None]) * batch.backgrounds[:, None, None]
        target, alpha, cover = batch.target(), drawn.alpha, batch.alpha()
        if batch.ignored is not None:
            shown = torch.where(batch.ignored[..., None], target, shown)
            alpha = torch.where(batch.ignored, cover, alpha)
        terms = {"l1": wanted.l1 * l1_loss(shown, target), "mask": wanted.mask * (alpha - cover).abs().mean()}
        if wanted.dssim:
            terms["dssim"] = wanted.dssim * dssim_loss(shown, target)
        lpips = self._lpips() if wanted.lpips else None
        if lpips is not None:
            terms["lpips"] = wanted.lpips * lpips(shown, target).mean()
        elif wanted.gradient:
            terms["gradient"] = wanted.gradient * gradient_loss(shown, target)
        steady = wanted.laplacian * (wanted.laplacian_late / max(wanted.laplacian, 1e-12)) ** share
        terms["laplacian"] = steady * beside.unevenness(away) / max(beside.edge_m, 1e-9) ** 2
        terms["normals"] = wanted.normals * bends(vertices, start.faces, beside.edges)
        beyond = relu(away.norm(dim=-1) / wanted.hinge_m - 1)
        terms["hinge"] = wanted.hinge * beyond.square().mean()
        terms["weights"] = wanted.weights * self.logits[: len(away)].square().mean()
        if len(drawn.residual):
            terms["residual"] = wanted.residual * drawn.residual.square().mean()
        if wanted.poses:
            terms["poses"] = self.poses.penalty(batch.frames, wanted.poses, self.temporal)
        pixels = alpha.new_tensor(float(len(drawn.residual)))
        return ranks.evened(terms, {"residual": pixels}, batch.part)

    def _lpips(self) -> Lpips | None:
        if not self.asked_lpips:
            self.lpips, self.asked_lpips = find_lpips(self.lpips_folder, self.offsets.device), True
        return self.lpips

    def after_step(self, batch: Batch, share: float) -> None:
        """Nothing."""

    def render(self, batch: Batch) -> Rasterised:
        """The mesh in the batch's poses and cameras, premultiplied, without background or gradients."""
        with torch.no_grad():
            start, _ = self._begun
            drawn = self.draw(batch, start.vertices + self.moved_by(), self.weights())
            colour = drawn.colour.clamp_min(0).minimum(drawn.alpha[..., None])
            return Rasterised(colour, drawn.alpha, drawn.drawing.depth_picture())

    @torch.no_grad()
    def mesh_state(self) -> MeshState:
        """The mesh as it is now, without gradients; that of the stage before where this one never had its time."""
        if not self.begun:
            self.begin()
        start, _ = self._begun
        places, weights = start.vertices + self.moved_by(), self.weights()
        return MeshState(places, start.faces, start.joints, weights, start.expression_dirs, self.solid)

    def state(self) -> Mapping[str, Tensor]:
        """The mesh it began with; nothing before that."""
        if self.start is None:
            return {}
        kept = {name: getattr(self.start, name) for name in TOPOLOGY[:5]}
        return kept | {"centre": self.solid.centre, "half_m": torch.tensor(self.solid.half_m, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; parameters must have been restored."""
        if not state:
            return
        device = self.offsets.device
        parts = {name: state[name].to(device) for name in TOPOLOGY}
        centre, half_m = parts.pop("centre"), float(parts.pop("half_m"))
        self._take(MeshState(**parts, solid=self.solid), centre, half_m)

    def gaussians(self) -> int:
        """None here: faces."""
        return 0
