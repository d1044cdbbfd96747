"""A step of the volumetric stage from guides and random numbers on, as one module that a CUDA graph can hold."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from avatars.rendering.cameras import CameraBatch
from avatars.surface_body.march import GuideParts, guided, rays_through
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.objective import COUNTED, Chance, Course, losses
from avatars.surface_body.pixels import choose_pixels
from avatars.surface_body.poses import PoseResidual
from avatars.surface_body.refined_poses import RefinedPoses
from avatars.surface_body.settings import SurfaceConfig
from avatars.training.data import Batch

NAMES = ("colour", "mask", "eikonal", "hull", "delta", "bumps", "weights", "poses")


class VolumeStep(nn.Module):
    """Tensors of a batch -> weighted terms. lens: cameras of the batch's size and kind."""

    def __init__(
        self,
        model: SurfaceModel,
        poses: PoseResidual | RefinedPoses,
        config: SurfaceConfig,
        course: Course,
        lens: CameraBatch,
    ) -> None:
        super().__init__()
        self.model, self.poses, self.config, self.course, self.lens = model, poses, config, course, lens

    def forward(
        self,
        pixels: Tensor,
        K: Tensor,
        camera_from_world: Tensor,
        frames: Tensor,
        backgrounds: Tensor,
        anneal: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        """What the terms in COUNTED were counted over, then the terms [T], named by NAMES as far as there are.

        rest: the guides' parts, then what `Chance` holds.
        """
        guides, chance = rest[:4], Chance(*rest[4:])
        cameras = replace(self.lens, K=K, camera_from_world=camera_from_world)
        batch = Batch(pixels, cameras, frames, backgrounds)
        alpha, model = batch.alpha(), self.model
        chosen = choose_pixels(alpha, self.config.sampling, chance.pixels)
        number = torch.arange(len(chosen), device=chosen.device)[:, None].expand(chosen.shape[:2])
        at = (number, chosen[..., 0], chosen[..., 1])
        transforms = model.body.transforms(*self.poses.of(frames, corrected=self.course.corrected))
        terms, counts = losses(
            model,
            guided(model, transforms, guides, model.weights.rows(), model.weights.lattice),
            rays_through(cameras, chosen.flip(-1) + 0.5),
            batch.target()[at].view(-1, 3),
            alpha[at].view(-1),
            backgrounds[:, None].expand(-1, chosen.shape[1], -1).reshape(-1, 3),
            self.course,
            anneal,
            chance,
        )
        if self.course.corrected:
            terms["poses"] = self.poses.penalty(frames, self.config.losses.poses, self.config.poses.temporal)
        assert tuple(terms) == NAMES[: len(terms)]
        assert len(counts) == len(COUNTED)
        return torch.cat((counts, torch.stack(list(terms.values()))))


def given_to(batch: Batch, guides: GuideParts, anneal: float, chance: Chance) -> tuple[Tensor, ...]:
    """What `VolumeStep.forward` takes."""
    cameras = batch.cameras
    drawn = (chance.pixels, chance.coarse, chance.fine, chance.aside)
    shared = (cameras.K, cameras.camera_from_world, batch.frames, batch.backgrounds)
    return (batch.pixels, *shared, torch.full((), anneal, device=batch.backgrounds.device), *guides, *drawn)
