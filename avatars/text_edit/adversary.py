"""A discriminator that damps the disagreement of independent edits (GaussianAvatar-Editor; Isola et al. 2017).

It is shown an edited picture with a residual. 'edits', as published: nothing (real), or what the render differs by
(fake). 'instants': how the person's colours differ between this view and another, before the edit (real) and now
(fake); what single edits left behind is told from what expressions and directions did before. Two optimisers step in
turn: the discriminator on detached residuals, the Gaussians against a discriminator that holds still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from avatars.text_edit.config import EditConfig
from avatars.training import ranks

R1_EVERY = 16
PUBLISHED_SPREAD = 0.02
"""Of the first weights; at that size a discriminator says nothing for its first thousands of steps."""
LEAK = 0.2
GAIN = 8.0
"""On residuals between instants: they are about a tenth of what colours are, and would go unnoticed beside these."""
WIDTHS = ((6, 64, 2), (64, 128, 2), (128, 128, 2), (128, 128, 1))


def patch_discriminator(seed: int, spread: float = 0.0) -> nn.Sequential:
    """Logits of patches: [B, 6, H, W] -> [B, 1, H', W']; sides of 32 px and more.

    spread: standard deviation of the first weights; 0: by each layer's inputs, so that signals keep their size.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in WIDTHS:
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), nn.LeakyReLU(LEAK)]
    layers.append(nn.Conv2d(WIDTHS[-1][1], 1, 4, 1, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                scaled = math.sqrt(2 / (1 + LEAK**2) / layer.weight[0].numel())
                layer.weight.normal_(0, spread or scaled, generator=generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def paired(condition: Tensor, residual: Tensor, gain: float = 1.0) -> Tensor:
    """What the discriminator is shown: a condition [B, H, W, 3] and a residual of the same shape, [B, H, W, 6]."""
    return torch.cat((condition.detach(), gain * residual), -1)


class Adversary:
    """The discriminator, its optimiser, and both sides' losses."""

    def __init__(self, config: EditConfig, device: torch.device, seed: int) -> None:
        self.weight, self.r1, self.crop_px = config.weights.adversarial, config.weights.r1, config.crop_px
        self.warm_up = config.adversary_warm_up
        spread = PUBLISHED_SPREAD if config.adversary == "edits" else 0.0
        self.network = patch_discriminator(seed, spread).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.rates.discriminator, betas=(0.5, 0.999))
        self.steps = 0

    def learn(self, fake: Tensor, real: Tensor, generator: torch.Generator, share: float = 1.0) -> float:
        """One step of the discriminator on pairs [B, H, W, 6] (`paired`), and its loss without the penalty.

        share: these pairs are that part of a step's, and other processes have the others (`ranks.Part`).
        Nothing of it reaches what `fake` was made from. Adam divides gradients by their own size: no weight is needed.
        """
        fake, real = (self._patch(part.detach(), generator) for part in (fake, real))
        self.network.requires_grad_(True)
        penalised = self.r1 > 0 and self.steps % R1_EVERY == 0
        real.requires_grad_(penalised)
        said = self.network(real)
        told = softplus(-said).mean() + softplus(self.network(fake)).mean()
        loss = told
        if penalised:
            (slope,) = torch.autograd.grad(said.sum(), real, create_graph=True)
            # Patches overlap, so that their sum's slope grows with how many there are.
            patches = said[0].numel()
            loss = told + R1_EVERY * self.r1 / 2 * slope.square().flatten(1).sum(1).mean() / patches
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if ranks.count() > 1:
            slopes = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
            whole = ranks.summed(torch.cat([slope.flatten() for slope in slopes]).mul_(share))
            for slope, part in zip(slopes, whole.split([slope.numel() for slope in slopes]), strict=True):
                slope.copy_(part.view_as(slope))
        self.optimiser.step()
        self.steps += 1
        return float(told.detach())

    @property
    def warm(self) -> bool:
        """Whether the discriminator has learnt alone for long enough."""
        return self.steps > self.warm_up

    def loss(self, fake: Tensor, generator: torch.Generator) -> Tensor:
        """What pairs [B, H, W, 6] cost that are told from real ones; its gradient leaves the discriminator alone."""
        self.network.requires_grad_(False)
        return self.weight * softplus(-self.network(self._patch(fake, generator))).mean()

    def _patch(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        """[B, 6, h, w]: one random window of pairs [B, H, W, 6]."""
        both = pairs.permute(0, 3, 1, 2)
        height, width = both.shape[2:]
        side = min(self.crop_px, height, width) if self.crop_px else 0
        if not side:
            return both
        top = int(torch.randint(height - side + 1, (), generator=generator))
        left = int(torch.randint(width - side + 1, (), generator=generator))
        return both[:, :, top : top + side, left : left + side]

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and count, as tensors."""
        found = {f"adversary.network.{name}": value for name, value in self.network.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"adversary.adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        return found | {"adversary.steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        device = next(self.network.parameters()).device
        start = "adversary.network."
        self.network.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
        whole = self.optimiser.state_dict()
        found: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adversary.adam."):
                index, moment = name.removeprefix("adversary.adam.").split(".")
                there = value.clone() if moment == "step" else value.to(device).clone()
                found.setdefault(int(index), {})[moment] = there
        self.optimiser.load_state_dict({**whole, "state": found})
        self.steps = int(state["adversary.steps"])
