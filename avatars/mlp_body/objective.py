"""What training minimises for a body (method page A.6), for batches that may show a pose several times."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body.express import Expressed, seen_colours
from avatars.mlp_body.model import Drive, MlpBody
from avatars.mlp_body.neighbours import Mixing, mix
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.training.config import LossWeights, TrainConfig
from avatars.training.data import Batch
from avatars.training.image_loss import image_terms, late_weight
from avatars.training.lpips import find_lpips
from avatars.training.trainer import RatedParameter

log = logging.getLogger("effigy.training")
SQUARE_M2 = 1e-12
"""Added under roots, so that control points which have not moved have a gradient of zero."""
INSTEAD_SSIM, INSTEAD_PYRAMID = 0.1, 0.5
"""The perceptual terms of the head's `quality` preset, where LPIPS is wanted and its weights are not here."""


class BodyObjective:
    """Losses of one body being trained. exposure [cameras, 3, 4]: colour maps of cameras, or None."""

    def __init__(self, config: TrainConfig, model: MlpBody, exposure: nn.Parameter | None = None) -> None:
        self.config, self.body, self.model, self.exposure = config, config.body, model, exposure
        self.generator = torch.Generator().manual_seed(config.seed)
        self.pairs = pair_mixing(model.points.control_pairs)
        self.weights = config.losses
        self.lpips = None
        if config.losses.lpips > 0:
            self.lpips = find_lpips(config.losses.lpips_folder, model.neutral.device)
            self.weights = without_lpips(config.losses, instead=self.lpips is None)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Everything the model owns with the rates of the method page, A.7."""
        rates, total, model = self.body.rates, self.config.schedule.images, self.model

        def rated(name: str, rate: float, final: float, decay: float = 0.0) -> RatedParameter:
            return RatedParameter(name, model.get_parameter(name), rate, rate * final, total, decay)

        found = [
            rated("control_offsets", rates.control * rates.scene_scale, rates.control_final),
            rated("control_bases", rates.control_basis * rates.scene_scale, rates.final),
            rated("neutral", rates.attributes, rates.final),
            rated("bases", rates.bases, rates.bases_final),
            rated("wiggle", rates.wiggle, rates.final),
        ]
        if model.view_dependent:
            found += [
                rated("sh1", rates.sh1, rates.final),
                rated("sh1_bases", rates.sh1_bases, rates.bases_final),
            ]
        for name, _ in model.networks.named_parameters():
            found.append(rated(f"networks.{name}", rates.networks, rates.final, rates.networks_decay))
        if self.exposure is not None:
            rate = rates.exposure
            found.append(RatedParameter("exposure", self.exposure, rate, rate * rates.final, total))
        return tuple(found)

    def stage(self, at: float) -> tuple[bool, bool]:
        """Whether the bases take part at position `at`, and whether colour depends on the view."""
        active = at >= self.config.schedule.deltas_from
        return active, self.model.view_dependent and at >= self.body.sh_from

    def expressed(self, drive: Drive, at: float) -> tuple[Expressed, Tensor]:
        """Gaussians of poses [U] at position `at`, and the control points' offsets [U, C, 3]."""
        active, view_dependent = self.stage(at)
        return self.model(drive, active=active, view_dependent=view_dependent)

    def losses(
        self, expressed: Expressed, controls: Tensor, rows: Tensor, batch: Batch, at: float
    ) -> dict[str, Tensor]:
        """Named terms, already weighted. rows [B]: which pose of `expressed` each picture of the batch shows."""
        drawn = draw(expressed, rows, batch)
        shown = self._shown(drawn, batch)
        target, alpha, wanted = batch.target(), drawn.alpha, batch.alpha()
        if batch.ignored is not None:
            behind = batch.backgrounds[:, None, None]
            shown = torch.where(batch.ignored[..., None], behind, shown)
            target = torch.where(batch.ignored[..., None], behind, target)
            alpha, wanted = (torch.where(batch.ignored, 0.0, value) for value in (alpha, wanted))
        terms = image_terms(shown, alpha, target, wanted, self.weights, at)
        if self.lpips is not None:
            losses = self.config.losses
            weight = late_weight(losses.lpips, losses.lpips_from, losses.ramp_images, at)
            if weight > 0:
                pair = self._perceived(shown, target, at)
                terms["lpips"] = weight * self.lpips(*pair).mean()
        return terms | self._regularisers(expressed, controls, active=self.stage(at)[0])

    def _shown(self, drawn: Rasterised, batch: Batch) -> Tensor:
        """The drawn person over the backgrounds, through its camera's colour map where there is one."""
        colours, behind = drawn.features, (1 - drawn.alpha[..., None]) * batch.backgrounds[:, None, None]
        if self.exposure is not None and batch.lenses is not None:
            maps = self.exposure[batch.lenses]
            colours = torch.einsum("bhwc,bdc->bhwd", colours, maps[..., :3])
            colours = colours + drawn.alpha[..., None] * maps[:, None, None, :, 3]
        return colours + behind

    def _perceived(self, shown: Tensor, target: Tensor, at: float) -> tuple[Tensor, Tensor]:
        """Pictures as LPIPS compares them: whole at most lpips_px a side, later a random patch of that side."""
        side = self.body.losses.lpips_px
        height, width = shown.shape[1:3]
        if max(height, width) <= side:
            return shown, target
        if at >= self.body.losses.patch_from:
            self.generator.manual_seed((1_000_003 * self.config.seed + int(at)) % 2**32)
            top, left = (
                int(torch.randint(max(length - side, 0) + 1, (), generator=self.generator))
                for length in (height, width)
            )
            window = (slice(None), slice(top, top + side), slice(left, left + side))
            return shown[window], target[window]
        size = (round(height * side / max(height, width)), round(width * side / max(height, width)))
        return resized(shown, size), resized(target, size)

    def _regularisers(self, expressed: Expressed, controls: Tensor, *, active: bool) -> dict[str, Tensor]:
        wanted, terms = self.body.losses, {}
        if wanted.smoothness > 0:
            terms["smoothness"] = wanted.smoothness * smoothness(controls, self.pairs)
        if wanted.size > 0:
            terms["size"] = wanted.size * oversize(expressed.scales, wanted.size_limit_m)
        if wanted.basis > 0 and active:
            terms["basis"] = wanted.basis * (
                self.model.bases.square().mean() + self.model.control_bases.square().mean()
            )
        return terms


def without_lpips(weights: LossWeights, *, instead: bool) -> LossWeights:
    """The weights of the other terms; instead: where LPIPS is absent, others take its place, which is said once."""
    if not instead:
        return replace(weights, lpips=0.0)
    log.warning("SSIM and Laplacian pyramids take the place of LPIPS, whose weights are not here")
    changed = replace(weights, lpips=0.0)
    if weights.ssim == 0:
        changed = replace(changed, ssim=INSTEAD_SSIM, ssim_from=weights.lpips_from)
    if weights.pyramid == 0:
        changed = replace(changed, pyramid=INSTEAD_PYRAMID, pyramid_from=weights.lpips_from)
    return changed


def pair_mixing(pairs: Tensor) -> Mixing:
    """Control points [C, s] near each of C as a `Mixing` of C s rows: its gradients need no sorting."""
    flat = pairs.flatten()
    return Mixing.of(flat[:, None], torch.ones(len(flat), 1, device=pairs.device), len(pairs))


def smoothness(offsets: Tensor, pairs: Mixing) -> Tensor:
    """Mean distance, m, between the offsets [U, C, 3] of control points and of those near each (`pair_mixing`)."""
    batch, count = offsets.shape[:2]
    near = mix(offsets.transpose(0, 1).flatten(1), pairs).view(count, -1, batch, 3)
    away = near - offsets.transpose(0, 1)[:, None]
    return (away.square().sum(-1) + SQUARE_M2).sqrt().mean()


def oversize(scales: Tensor, limit_m: float) -> Tensor:
    """Mean over all scales of their value where it is above the limit, 0 elsewhere (the value, not the excess)."""
    return torch.where(scales > limit_m, scales, torch.zeros_like(scales)).mean()


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, H, W, 3] at `size` (height, width), bilinear."""
    found = torch.nn.functional.interpolate(
        images.permute(0, 3, 1, 2),
        size=size,
        mode="bilinear",
        align_corners=False,
        antialias=images.device.type == "cpu",
    )
    return found.permute(0, 2, 3, 1)


def draw(expressed: Expressed, rows: Tensor, batch: Batch) -> Rasterised:
    """The pictures of a batch, premultiplied; rows [B]: which pose each shows."""
    colours = seen_colours(expressed, rows, batch.cameras.positions())
    parts = (expressed.means, expressed.quats, expressed.scales, expressed.opacities, expressed.base)
    if len(expressed.means) > 1:
        parts = tuple(part[rows] for part in parts)
    return rasterise(PosedGaussians(*parts), batch.cameras, colours, depth=False, finite=colours.is_cuda)
