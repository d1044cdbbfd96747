"""What training minimises for a head, and how Gaussians get their first colours: for frames from any source."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rendering.seen_colours import seen_colours
from avatars.rgb_head.cuda_place import FaceRows, usable
from avatars.rgb_head.first_look import is_layer
from avatars.rgb_head.graphed_step import GraphedStep
from avatars.rgb_head.model import SH0, RgbHead, Surface
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch
from avatars.training.image_loss import blend_terms, image_terms
from avatars.training.refine import Correction
from avatars.training.trainer import RatedParameter

SEEN_WEIGHT = 0.1
COLOUR_PATIENCE = 200
"""Steps without a newly seen Gaussian after which no more are looked for (method page 5)."""


class HeadObjective:
    """The losses of one head being trained. `quiet_steps`: tensor, how many steps ago a Gaussian was first seen.

    Frames come as θ [B, D] and their posed surface (`model.surface(vertices)`), pictures as a `Batch` of the same B.
    record: on CUDA, replay recorded graphs where that can be done; only where no other thread uses the device.
    """

    def __init__(self, config: TrainConfig, model: RgbHead, *, record: bool = False) -> None:
        self.config, self.model = config, model
        device = model.positions.device
        self.graphed = GraphedStep(model) if record and usable(device, model.frame) else None
        binding, wanted = model.binding, config.losses
        table = [wanted.hair_limit_m if is_layer(name) else wanted.offset_limit_m for name in binding.group_names]
        self.generator = torch.Generator(device)
        self.start = model.positions.detach().clone()
        self.quiet_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.colours_settled, self.looks = False, 0
        # Reading a number from a CUDA device waits for all that is under way there.
        self.ask_every = 20 if device.type == "cuda" else 1
        self.reach_m = torch.tensor(table, device=device)[binding.group]

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Attributes, deltas and network with the paper's rates per attribute; deltas follow their attribute's."""
        rates = self.config.rates
        total = rates.others_until or self.config.schedule.images
        model = self.model

        def rated(name: str, rate: float, final: float, until: int) -> RatedParameter:
            return RatedParameter(name, getattr(model, name), rate, final, until)

        last = rates.others_final
        position = (rates.position, rates.position_final, rates.position_until)
        found = [
            rated("positions", *position),
            rated(
                "position_deltas",
                rates.position * rates.delta_position,
                rates.position_final * rates.delta_position,
                position[2],
            ),
        ]
        for name, rate in (
            ("rotations", rates.rotation),
            ("scales", rates.scale),
            ("opacities", rates.opacity),
            ("colours", rates.colour),
            ("rotation_deltas", rates.rotation * rates.delta_rotation),
            ("colour_deltas", rates.colour * rates.delta_colour),
        ):
            found.append(rated(name, rate, rate * last, total))
        for name, parameter in model.network.named_parameters():
            found.append(RatedParameter(f"network.{name}", parameter, rates.network, rates.network * last, total))
        return tuple(found)

    def weights(self, theta: Tensor, at: float) -> Tensor | None:
        """ψ [B, K], or None before blendshapes have joined."""
        return None if at < self.config.schedule.deltas_from else self.model.weights(theta)

    def jittered(self, theta: Tensor, at: float, part: ranks.Part | None = None) -> Tensor:
        """θ with noise of theta_noise standard deviations, a function of the seed and the position in the schedule."""
        noise = self.config.losses.theta_noise
        if noise <= 0:
            return theta
        self.generator.manual_seed((1_000_003 * self.config.seed + int(at)) % 2**32)  # the CPU generator takes 32 bits
        count = len(theta) if part is None else part.whole
        drawn = torch.randn((count, *theta.shape[1:]), generator=self.generator, device=theta.device)
        if part is not None:
            drawn = part.of(drawn)
        return theta + noise * self.model.driving_range.sigma * drawn

    def placed(
        self, theta: Tensor, surface: Surface, at: float, *, driven: bool = False
    ) -> tuple[PosedGaussians, Tensor | None]:
        """Posed Gaussians with gradients, and ψ [B, K] once blendshapes have joined. driven: θ gets a gradient, too."""
        if self.graphed is not None and isinstance(surface, FaceRows) and not driven:
            return self.graphed(theta, surface, blended=at >= self.config.schedule.deltas_from)
        weights = self.weights(theta, at)
        return self.model.place(surface, weights, hide_unseen=False), weights

    def losses(
        self, theta: Tensor, surface: Surface, batch: Batch, at: float, correction: Correction | None = None
    ) -> dict[str, Tensor]:
        """L1, structural similarity, coverage, and the terms that keep Gaussians where unseen poses need them.

        correction: of a track's errors, where θ comes from one.
        """
        driven = correction is not None and correction.points is not None
        posed, weights = self.placed(self.jittered(theta, at, batch.part), surface, at, driven=driven)
        if correction is not None:
            posed = correction.carried(posed, batch.cameras)
        drawn = rasterise(
            posed,
            batch.cameras,
            posed.colours,
            background=batch.backgrounds,
            depth=False,
            finite=isinstance(surface, FaceRows),  # those have been checked
        )
        features, alpha = drawn.features, drawn.alpha
        if correction is not None:
            features, alpha = correction.weighed(features, alpha)
        terms = image_terms(features, alpha, batch.target(), batch.alpha(), self.config.losses, at)
        deltas = (self.model.position_deltas, self.model.rotation_deltas, self.model.colour_deltas)
        return terms | blend_terms(weights, deltas, self.config.losses) | self.regularisers(weights)

    def regularisers(self, weights: Tensor | None) -> dict[str, Tensor]:
        """Weighted terms of the model alone, for ψ [B, K] or None."""
        model, wanted, terms = self.model, self.config.losses, {}
        if wanted.offset > 0:
            away = (model.positions - self.start).norm(dim=-1) / self.reach_m - 1
            terms["offset"] = wanted.offset * away.clamp_min(0).mean()
        if wanted.size > 0:
            terms["size"] = wanted.size * (model.scales.exp() / wanted.size_limit_m - 1).clamp_min(0).mean()
        if wanted.delta > 0 and weights is not None:
            moved = torch.addmm(
                torch.zeros_like(model.positions).view(1, -1), weights, model.position_deltas.flatten(1)
            )
            terms["delta"] = wanted.delta * moved.square().mean() * 1e6  # in square millimetres
        return terms

    def first_colours(
        self,
        theta: Tensor,
        surface: Surface,
        batch: Batch,
        at: float,
        held: Callable[[Tensor], Tensor] = lambda colours: colours,
    ) -> None:
        """Give Gaussians seen for the first time the colour of what they show (method page 5).

        held: what such display-encoded colours [N, 3] come to as the model holds them.
        """
        if not self.config.schedule.colour_from_images or self.colours_settled:
            return
        model = self.model
        with torch.no_grad():
            posed = model.place(surface, self.weights(theta, at), hide_unseen=False)
            colours, alpha = batch.straight()
            seen = seen_colours(posed, batch.cameras, colours, (alpha > 0.5).float(), min_weight=SEEN_WEIGHT)
            total, weight = (ranks.summed(values.contiguous()) for values in seen)
            new = (weight > SEEN_WEIGHT) & ~model.seen
            mean = held(total / weight.clamp_min(1e-6)[:, None])
            model.colours.copy_(torch.where(new[:, None], (mean - 0.5) / SH0, model.colours))
            model.seen |= new
            self.quiet_steps = torch.where(new.any(), 0, self.quiet_steps + 1)
            self.looks += 1
            if self.looks % self.ask_every == 0:
                self.colours_settled = bool((self.quiet_steps >= COLOUR_PATIENCE) | model.seen.all())

    def render(self, theta: Tensor, surface: Surface, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras as the avatar will look, without background or gradients."""
        with torch.no_grad():
            posed = self.model.place(surface, self.model.weights(theta), hide_unseen=True)
            return rasterise(posed, batch.cameras, posed.colours, finite=isinstance(surface, FaceRows))
