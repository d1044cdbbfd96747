"""The published course of training in place of the volumetric stage: patches, its losses, rates and times (method page
3 to 7, without the defects of 10)."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Rasterised
from avatars.surface_body.march import RayBatch, rays_through
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.parity_losses import (
    eikonal_term,
    mask_counts,
    mask_sharpness,
    mask_term,
    patch_terms,
    skinning_weight,
)
from avatars.surface_body.parity_march import Followed, OnePose, cut, follow, one_pose, samples_of
from avatars.surface_body.parity_sampling import choose_patches
from avatars.surface_body.refined_poses import RefinedPoses
from avatars.surface_body.volume_stage import VolumeStage
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch
from avatars.training.lpips import find_lpips
from avatars.training.sampler import seeds
from avatars.training.trainer import RatedParameter

log = logging.getLogger("effigy.training")
SAMPLES_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 21}
FAINT = 1e-3


class ParityStage(VolumeStage):
    """A `stages.Stage` of a model with a `PlaneField` and `NetworkWeights`. share: of the published 300,000 steps."""

    poses: RefinedPoses

    def __init__(self, config: TrainConfig, model: SurfaceModel, poses: RefinedPoses) -> None:
        super().__init__(config, model, poses)
        self.parity = config.surface.parity
        self.pixels: Tensor | None = None
        self.drawing = torch.Generator(model.device)
        self.lpips = None
        if self.parity.losses.perceptual > 0:
            self.lpips = find_lpips(config.losses.lpips_folder, model.device)
            if self.lpips is None:
                log.info("In its place: multi-scale SSIM and differences of Laplacian pyramids")

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Field and skinning at their rates; poses belong to the whole run."""
        rates = self.parity.rates
        until = max(1, round(self.config.schedule.images * self.config.surface.stages.volume))
        found = []
        for name, value in self.model.named_parameters():
            rate = rates.skinning if name.startswith("weights.") else rates.rate
            found.append(RatedParameter(name, value, rate, rate * rates.final, until))
        return tuple(found)

    def corrects(self, share: float) -> bool:
        """Whether poses are corrected at this share of the stage."""
        return self.config.surface.poses.refine and share >= self.parity.rates.poses_from

    def looked_at(self, frames: Tensor, *, corrected: bool) -> list[OnePose]:
        """Frames [B] ready to be looked at, differentiable."""
        transforms = self.model.body.transforms(*self.poses.of(frames, corrected=corrected))
        return [
            one_pose(self.model, transform, self.guide(frame), self.model.body.skin)
            for transform, frame in zip(transforms, frames.tolist(), strict=True)
        ]

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Named terms, already weighted: of all patches, and of the rays behind them."""
        self.share = share
        self.model.field.begin()
        weights = self.parity.losses
        alphas, targets = batch.alpha(), batch.target()
        shown, wanted, found, inside = [], [], [], []
        part = batch.part or ranks.Part(0, len(alphas), len(alphas))
        every = seeds(part.whole, self.generator)[part.first : part.last]
        for number, pose in enumerate(self.looked_at(batch.frames, corrected=self.corrects(share))):
            self.drawing.manual_seed(every[number])
            picture = self._patches(batch, number, pose, alphas[number], targets[number], share)
            shown.append(picture[0])
            wanted.append(picture[1])
            if picture[2] is not None:
                found.append(picture[2])
                inside.append(picture[3])
        terms = patch_terms(torch.cat(shown), torch.cat(wanted), weights, self.lpips)
        kept = skinning_weight(weights, share)
        names = ("eikonal", "mask", "skinning") if kept > 0 else ("eikonal", "mask")
        if not found:  # nobody is in these pictures
            terms["mask"] = 0.0 * self.model.field.sharpness()
            return ranks.evened(terms, dict.fromkeys(names, torch.zeros(())), batch.part)
        gradient, distance = (torch.cat([getattr(one, name) for one in found]) for name in ("gradient", "distance_m"))
        terms["eikonal"] = weights.eikonal * eikonal_term(gradient)
        seen = torch.cat(inside)
        terms["mask"] = weights.mask * mask_term(distance, seen, mask_sharpness(weights, share))
        counts = {"eikonal": gradient[..., 0].numel(), "mask": int(mask_counts(distance, seen).sum())}
        if kept > 0:
            apart = torch.cat([(one.skin - one.start).abs().sum(-1) for one in found])
            terms["skinning"] = kept * apart.mean()
            counts["skinning"] = apart.numel()
        there = gradient.device
        return ranks.evened(
            terms, {key: torch.tensor(value, device=there) for key, value in counts.items()}, batch.part
        )

    def _patches(
        self, batch: Batch, number: int, pose: OnePose, alpha: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Followed | None, Tensor]:
        """Patches of one picture [n, h, w, 3] as the model shows them and as they are, its rays, and which of those see
        the person."""
        camera, background = batch.cameras.one(number), batch.backgrounds[number]
        height, width = alpha.shape
        everywhere = self._rays(camera, height, width)
        near, far = cut(everywhere, pose, camera.near_m)
        chosen = choose_patches(alpha, (far > near).view(height, width), self.parity.sampling, self.drawing)
        flat = (chosen[..., 0] * width + chosen[..., 1]).flatten()
        rows = torch.nonzero(far[flat] > near[flat])[:, 0]
        shown = background.expand(len(flat), 3)
        wanted = target.reshape(-1, 3)[flat].view(*chosen.shape[:3], 3)
        if not len(rows):
            return shown.reshape(wanted.shape), wanted, None, rows
        pixels = flat[rows]
        rays = everywhere.some(pixels)
        at = samples_of(self.model, pose, rays, near[pixels], far[pixels], self.drawing)
        annealed = min(1.0, share / self.parity.losses.annealed) if self.parity.losses.annealed > 0 else 1.0
        found = follow(self.model, pose, rays, at, self.levels(), annealed)
        covered = alpha.flatten()[pixels]
        colour = found.over(found.colour) + (1 - found.weights.sum(1))[:, None] * background
        painted = torch.where((found.hit | (covered > 0))[:, None], colour, background)
        return shown.index_copy(0, rows, painted).view(wanted.shape), wanted, found, covered > 0.5

    def _rays(self, camera: CameraBatch, height: int, width: int) -> RayBatch:
        if self.pixels is None or self.pixels.shape[:2] != (height, width):
            y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            self.pixels = torch.stack((x, y), -1).to(self.model.device)
        return rays_through(camera, self.pixels.view(1, -1, 2))

    def render(self, batch: Batch) -> Rasterised:
        """The person in the batch's frames and cameras, without jitter; rays that miss the dilated body are empty."""
        with torch.no_grad():
            self.model.field.begin()
            poses = self.looked_at(batch.frames, corrected=self.corrects(self.share))
            height, width = batch.cameras.height_px, batch.cameras.width_px
            found = [self._picture(batch.cameras.one(number), pose) for number, pose in enumerate(poses)]
            whole = torch.stack(found).view(len(found), height, width, 5)
            alpha = whole[..., 3].clamp(0, 1)
            depth = torch.where(alpha > FAINT, whole[..., 4] / alpha.clamp_min(FAINT), torch.zeros_like(alpha))
            return Rasterised(whole[..., :3], alpha, depth)

    def _picture(self, camera: CameraBatch, pose: OnePose) -> Tensor:
        """[H * W, 5]: premultiplied colour, coverage, depth by coverage."""
        height, width = camera.height_px, camera.width_px
        rays = self._rays(camera, height, width)
        near, far = cut(rays, pose, camera.near_m)
        found = near.new_zeros(len(near), 5)
        forward = camera.camera_from_world[0, 2, :3]
        each = max(1, SAMPLES_AT_ONCE[near.device.type] // self.parity.sampling.samples)
        for part in torch.nonzero(far > near)[:, 0].split(4 * each):
            at = samples_of(self.model, pose, rays.some(part), near[part], far[part], None)
            for hit in torch.nonzero(at.hit)[:, 0].split(each):
                if not len(hit):  # rays into the box that meet nobody: a split of nothing is one empty part
                    continue
                some = rays.some(part[hit])
                traced = follow(self.model, pose, some, at.some(hit), self.levels(), 1.0)
                ahead = (some.directions * forward).sum(-1)
                depth = (traced.weights * traced.where_m).sum(1) * ahead
                parts = (traced.over(traced.colour), traced.weights.sum(1)[:, None], depth[:, None])
                found[part[hit]] = torch.cat(parts, -1)
        return found
