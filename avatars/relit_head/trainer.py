"""Training of relightable heads, as the shared loop asks for it.

Places, blendshapes and what nobody sees are an RGB head's (`RgbHeadTrainer`); what is compared with the pictures is
shaded from materials in the capture's light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.relit_head.avatar import RelitHeadAvatar
from avatars.relit_head.light import CaptureLight
from avatars.relit_head.model import BRIGHTEST, RelitHead
from avatars.relit_head.occlusion import baked
from avatars.relit_head.picture import lit_picture
from avatars.relit_head.priors import held_where_dim, is_hair, kinds, neighbours, usual_roughness
from avatars.relit_head.start import spread_frames, trained_before
from avatars.rendering.rasterise import Rasterised
from avatars.rgb_head.fill import filled_in_place
from avatars.rgb_head.model import SH0
from avatars.rgb_head.objective import HeadObjective
from avatars.rgb_head.trainer import FAINT, RgbHeadTrainer
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.image_loss import blend_terms, image_terms
from avatars.training.refine import TrackRefinement, track_terms
from avatars.training.trainer import RatedParameter

DARKEST_SHADE = 0.08
"""Of the light's mean: a colour seen in deeper shade is divided by this, or noise would become white skin."""
SHADED_POSES = 12
"""Poses over whose mean light the colours of a head trained before are divided."""


def _albedo(colours: Tensor, shade: Tensor) -> Tensor:
    """Display-encoded albedo [N, 3] of display-encoded colours [N, 3] seen where white would show `shade` [N, 3]."""
    return srgb_from_linear(linear_from_srgb(colours) / shade).clamp(0, BRIGHTEST)


class RelitHeadTrainer:
    """A `Trainer` of one relightable head from one capture. Raises what `RgbHeadTrainer` does, and BadEnvironment."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.wanted, self.device = config, config.relit_head, torch.device(device)
        self.light = CaptureLight(self.wanted.light, capture, self.device)
        begun_with = self.wanted.start_from
        self.base = (
            trained_before(begun_with, config, capture, device)
            if begun_with
            else RgbHeadTrainer(config, capture, device, record=False)
        )
        whole = self.base.model if self.base.beginning is None else self.base.beginning.whole
        dressed = RelitHead(whole)
        dressed.probes = baked(dressed, self.base.theta, self.base.vertices, self.wanted.occlusion)
        self.whole = dressed
        rows = torch.arange(len(whole), device=self.device)
        if self.base.beginning is not None:
            rows = self.base.beginning.rows
        self.model = dressed.with_head(self.base.model, rows)
        self.normals: dict[int, Tensor] = {}
        self._settle()
        frames = torch.tensor(capture.training_frames(), device=self.device)
        # Once and before anything was learned, so that a run which goes on after a pause holds to the same.
        light = self.light.of(None)
        level = float(light.diffuse.detach().mean() * light.strength)
        self.lit = self._mean_shade(frames, least=0).mean(-1) / max(level, 1e-9)
        self.lit[is_hair(self.model.head.binding)] = 1.0  # skin and hair lie side by side there: nothing is usual
        if begun_with:
            shade = self._mean_shade(frames)
            with torch.no_grad():
                colours = (SH0 * self.model.head.colours + 0.5).clamp(0, 1)
                self.model.head.colours.copy_((_albedo(colours, shade) - 0.5) / SH0)

    def _settle(self) -> None:
        """What follows from the set of Gaussians."""
        head = self.model.head
        rest = self.base.vertices[:1]
        with torch.no_grad():
            points = (rest[0, head.binding.triangles[head.binding.face]] * head.binding.barycentrics[..., None]).sum(1)
        self.near = neighbours(head.binding, points)
        self.usual = usual_roughness(head.binding)
        self.kind = kinds(head.binding)
        self.normals.clear()

    def _mean_shade(self, frames: Tensor, least: float = DARKEST_SHADE) -> Tensor:
        """`_shade` [N, 3] over up to SHADED_POSES of frames [T], one by one."""
        chosen = spread_frames(frames, SHADED_POSES)
        return torch.stack([self._shade(frame[None], None, least) for frame in chosen]).mean(0)

    @property
    def objective(self) -> HeadObjective:
        """The RGB head's part."""
        return self.base.objective

    @property
    def refinement(self) -> TrackRefinement | None:
        """The RGB head's."""
        return self.base.refinement

    def retable(self) -> None:
        """Pose every frame anew with what has been refined so far."""
        self.base.retable()
        self.normals.clear()

    def gaussians(self) -> int:
        """How many Gaussians are being trained."""
        return len(self.model)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, with their rates; colours are albedo."""
        rates, all_rates = self.wanted.rates, self.config.rates
        total = all_rates.others_until or self.config.schedule.images
        found = list(self.base.parameters())
        for name in ("roughness", "metallic", "tilt"):
            rate = getattr(rates, name)
            found.append(RatedParameter(name, getattr(self.model, name), rate, rate * all_rates.others_final, total))
        if self.light.texels is not None:
            rate = rates.light
            found.append(RatedParameter("light", self.light.texels, rate, rate * all_rates.others_final, total))
        return tuple(found)

    def _smooth(self, frames: Tensor) -> Tensor:
        """The surface's normals [B, N, 3] in frames [B], kept on the CPU, where working them out again costs more."""
        found = []
        for frame in frames.tolist():
            if frame not in self.normals or self.device.type != "cpu":
                self.normals[frame] = self.model.smooth(self.base.vertices[frame : frame + 1])
            found.append(self.normals[frame])
        if self.device.type != "cpu" or self.base.refinement is not None:  # refined poses change
            self.normals.clear()
        return torch.cat(found)

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """The picture's terms, an RGB head's own, and what holds materials and light."""
        batch = self.base.seen(batch)
        theta, correction = self.base.corrected(batch, at)
        surface = self.base.surface(batch.frames)
        driven = correction is not None and correction.points is not None
        placed, weights = self.objective.placed(
            self.objective.jittered(theta, at, batch.part), surface, at, driven=driven
        )
        if correction is not None:
            placed = correction.carried(placed, batch.cameras)
        frames = self.model.frames(surface, self.base.vertices[batch.frames])
        posed = self.model.dressed(placed, theta.detach(), frames, self._smooth(batch.frames))
        image = lit_picture(posed, batch.cameras, self.light.groups(batch.images, len(batch.frames)))
        shown, alpha = image.features + (1 - image.alpha)[..., None] * batch.backgrounds[:, None, None], image.alpha
        if correction is not None:
            shown, alpha = correction.weighed(shown, alpha)
        terms = image_terms(shown, alpha, batch.target(), batch.alpha(), self.config.losses, at)
        deltas = (self.model.head.position_deltas, self.model.head.rotation_deltas, self.model.head.colour_deltas)
        terms |= blend_terms(weights, deltas, self.config.losses) | self.objective.regularisers(weights)
        terms |= track_terms(correction, batch)
        return terms | self._held(weights) | self.light.terms(self.wanted.losses)

    def _held(self, weights: Tensor | None) -> dict[str, Tensor]:
        """What pictures alone leave open."""
        wanted, model = self.wanted.losses, self.model
        roughness = torch.sigmoid(model.roughness)
        albedo = SH0 * model.head.colours
        terms = {
            "roughness": wanted.roughness * (roughness - self.usual).square().mean(),
            "metallic": wanted.metallic * torch.sigmoid(model.metallic).mean(),
            "tilt": wanted.tilt * model.tilt.square().sum(-1).mean(),
            "smooth": wanted.smooth * (albedo[:, None] - albedo[self.near]).abs().mean(),
            "dim": wanted.dim * held_where_dim(albedo, self.kind, self.lit),
            "smooth_roughness": wanted.smooth_roughness * (roughness[:, None] - roughness[self.near]).abs().mean(),
        }
        if weights is not None and wanted.blend > 0:
            flat = torch.addmm(
                torch.zeros_like(albedo).view(1, -1), weights, (SH0 * model.head.colour_deltas).flatten(1)
            )
            terms["blend"] = wanted.blend * flat.square().mean()
        return terms

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """Heads fill their pictures: as they are."""
        return pictures

    def after_step(self, batch: Batch, at: float) -> None:
        """First albedo for Gaussians seen for the first time: what they show over the light that falls on them."""
        if self.base.refinement is not None:
            self.base.refinement.centre()
        if self.objective.colours_settled or not self.config.schedule.colour_from_images:
            return
        batch = self.base.seen(batch)
        surface = self.base.surface(batch.frames)
        shade = self._shade(batch.frames, batch.images)
        if batch.part is not None:
            shade = ranks.summed(shade * batch.part.share)
        theta = self.base.theta[batch.frames]
        self.objective.first_colours(theta, surface, batch, at, lambda colours: _albedo(colours, shade))

    def _shade(self, frames: Tensor, images: Tensor | None, least: float = DARKEST_SHADE) -> Tensor:
        """What a white surface in place of each Gaussian would show, [N, 3] linear: the mean over frames [B].

        least: of the light's mean, nothing shows less.
        """
        with torch.no_grad():
            axes = self.model.frames(self.base.surface(frames), self.base.vertices[frames])
            driven, smooth = self.model.driven(self.base.theta[frames]), self._smooth(frames)
            total = torch.zeros_like(smooth[0])
            for rows, light in self.light.groups(images, len(frames)):
                normals = smooth[rows]
                shade = light.diffuse_at(normals)
                if self.model.probes is not None:
                    seen = self.model.probes.posed(driven[rows], axes[rows])
                    shade = shade * seen.visible(normals, normals, normals[:, :, None])[0]
                total += shade.clamp(min=least * float(light.diffuse.mean() * light.strength)).sum(0)
            return total / len(frames)

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras as the avatar will look, without background or gradients."""
        batch = self.base.seen(batch)
        with torch.no_grad():
            theta, surface = self.base.theta[batch.frames], self.base.surface(batch.frames)
            placed = self.model.head.place(surface, self.model.head.weights(theta), hide_unseen=True)
            frames = self.model.frames(surface, self.base.vertices[batch.frames])
            posed = self.model.dressed(placed, theta, frames, self._smooth(batch.frames))
            return lit_picture(posed, batch.cameras, self.light.groups(batch.images, len(batch.frames)))

    def state(self) -> Mapping[str, Tensor]:
        """Which Gaussians were seen, and for how many steps none was new."""
        return self.base.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.base.restore(state)

    def finish(self) -> RelitHeadAvatar:
        """The avatar without Gaussians that no image has shown or that faded; its unseen back guessed if wanted."""
        self.retable()
        self.base.hold_range()
        base, begun = self.base, self.base.beginning
        head, rows = self.model.head, torch.arange(len(self.model), device=self.device)
        if begun is not None:
            rows = torch.full((len(begun.whole),), -1, device=self.device)
            rows[begun.rows] = torch.arange(len(begun.rows), device=self.device)
            if base.pictures is not None and self.config.model.fill_unseen:
                head = filled_in_place(head, base.theta, base.vertices, base.pictures, begun)
            else:
                rows = rows[begun.rows]
        visible = head.seen & (torch.sigmoid(head.opacities.detach()) > FAINT)
        found = self.model.with_head(head.kept(visible), rows[visible])
        probes = self.model.probes if head is self.model.head else self.whole.probes
        found.probes = None if probes is None else probes.kept(visible)
        self.model, self.base.model = found, found.head
        self.base.objective = HeadObjective(replace(self.config), found.head)
        self.base.surfaces.clear()
        self._settle()
        return RelitHeadAvatar(found, self.light.stored().to(self.device))
