"""A discriminator that damps the disagreement of independent edits (GaussianAvatar-Editor; Isola et al. 2017).

It is shown an edited picture with a residual: nothing (real), or what a render differs by (fake). Two optimisers step
in turn: the discriminator on detached renders, the Gaussians against a discriminator that holds still.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from avatars.text_edit.config import EditConfig

R1_EVERY = 16
WIDTHS = ((6, 64, 2), (64, 128, 2), (128, 128, 2), (128, 128, 1))


def patch_discriminator(seed: int) -> nn.Sequential:
    """Logits of patches: [B, 6, H, W] -> [B, 1, H', W']; sides of 32 px and more."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in WIDTHS:
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), nn.LeakyReLU(0.2)]
    layers.append(nn.Conv2d(WIDTHS[-1][1], 1, 4, 1, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                layer.weight.normal_(0, 0.02, generator=generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


class Adversary:
    """The discriminator, its optimiser, and both sides' losses."""

    def __init__(self, config: EditConfig, device: torch.device, seed: int) -> None:
        self.weight, self.r1, self.crop_px = config.weights.adversarial, config.weights.r1, config.crop_px
        self.network = patch_discriminator(seed).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.rates.discriminator, betas=(0.5, 0.999))
        self.steps = 0

    def learn(self, shown: Tensor, edited: Tensor, other: Tensor, generator: torch.Generator) -> float:
        """One step of the discriminator, and its loss. Pictures [B, H, W, 3]; other: edits of other views, if any.

        Nothing of it reaches what `shown` was made from.
        """
        fake = self._patch(edited, shown.detach() - edited, generator)
        real = self._patch(other, torch.zeros_like(other), generator)
        self.network.requires_grad_(True)
        penalised = self.r1 > 0 and self.steps % R1_EVERY == 0
        real = real.detach().requires_grad_(penalised)
        said = self.network(real)
        loss = (softplus(-said).mean() + softplus(self.network(fake.detach())).mean()) * self.weight
        if penalised:
            (slope,) = torch.autograd.grad(said.sum(), real, create_graph=True)
            loss = loss + self.weight * R1_EVERY * self.r1 / 2 * slope.square().flatten(1).sum(1).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.steps += 1
        return float(loss.detach())

    def loss(self, shown: Tensor, edited: Tensor, generator: torch.Generator) -> Tensor:
        """What renders [B, H, W, 3] cost that are told from edits; its gradient does not touch the discriminator."""
        self.network.requires_grad_(False)
        patch = self._patch(edited, shown - edited, generator)
        return self.weight * softplus(-self.network(patch)).mean()

    def _patch(self, edited: Tensor, residual: Tensor, generator: torch.Generator) -> Tensor:
        """[B, 6, h, w]: condition and residual of one random window."""
        both = torch.cat((edited, residual), -1).permute(0, 3, 1, 2)
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
