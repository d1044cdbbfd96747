"""Adam over a trainer's parameters, with a learning rate for each and a state that can be stored exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from avatars.training import cuda_adam, ranks
from avatars.training.adam import FusedAdam
from avatars.training.gradients import SharedGradients
from avatars.training.trainer import RatedParameter

EPSILON = 1e-15
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Optimiser:
    """Adam (default betas, ε = 1e-15 as in RGBAvatar), AdamW where decay is asked for; one group for each rate.

    Where several processes train, all make the step of the sum of their gradients.
    """

    def __init__(self, parameters: Sequence[RatedParameter]) -> None:
        self.parameters = tuple(parameters)
        for entry in self.parameters:
            # Fused steps go through memory: of a parameter that lies in another order than its gradient they would
            # step each number by another's slope.
            entry.parameter.data = entry.parameter.data.contiguous()
        alike: dict[object, list[RatedParameter]] = {}
        for entry in self.parameters:
            alike.setdefault(_course(entry), []).append(entry)
        self.leaders = tuple(members[0] for members in alike.values())
        groups = [
            {
                "params": [entry.parameter for entry in members],
                "lr": members[0].start_rate,
                "weight_decay": members[0].decay,
                "betas": members[0].betas,
            }
            for members in alike.values()
        ]
        self.adam = FusedAdam(groups, epsilon=EPSILON)
        several = ranks.count() > 1
        self.shared = SharedGradients([entry.parameter for entry in self.parameters]) if several else None
        self.whole = True
        """Whether no step is half made."""
        self.on_cuda: dict[tuple[int, tuple[float, float]], cuda_adam.CudaAdam] = {}
        """By the part of the step and its betas: each remembers where its tensors lie."""

    def step(self, loss: Tensor, at: float) -> None:
        """One update against the gradient of `loss`, with the rates of position `at` in images."""
        for leader, group in zip(self.leaders, self.adam.param_groups, strict=True):
            group["lr"] = leader.rate(at)
        parameters = [entry.parameter for entry in self.parameters]
        parts: Iterable[Mapping[int, Tensor | None]]
        if self.shared is not None:
            parts = self.shared.of(loss)
        else:
            parts = [dict(enumerate(torch.autograd.grad(loss, parameters, allow_unused=True)))]
        on_cuda = all(cuda_adam.usable(parameter) for parameter in parameters)
        rates = {parameter: group["lr"] for group in self.adam.param_groups for parameter in group["params"]}
        self.whole = False
        for number, part in enumerate(parts):
            if on_cuda:
                self._step_on_cuda(number, part, rates)
            else:
                self.adam.step([(parameters[index], gradient) for index, gradient in part.items()])
        self.whole = True

    def finite(self) -> bool:
        """Whether all parameters are numbers."""
        return all(bool(torch.isfinite(entry.parameter.detach()).all()) for entry in self.parameters)

    def _step_on_cuda(self, number: int, part: Mapping[int, Tensor | None], rates: Mapping[Tensor, float]) -> None:
        updates: dict[tuple[float, float], list[cuda_adam.Update]] = {}
        for index, gradient in part.items():
            if gradient is None:
                continue
            entry = self.parameters[index]
            state = self.adam.state.setdefault(entry.parameter, {})
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(entry.parameter)
                state["exp_avg_sq"] = torch.zeros_like(entry.parameter)
            state["step"] += 1
            moments = (state["exp_avg"], state["exp_avg_sq"])
            tensors = (entry.parameter.detach(), gradient.contiguous(), *moments)
            rate = rates[entry.parameter]
            update = cuda_adam.Update(*tensors, steps=int(state["step"]), rate=rate, decay=entry.decay)
            updates.setdefault(entry.betas, []).append(update)
        for betas, those in updates.items():
            if (number, betas) not in self.on_cuda:
                self.on_cuda[number, betas] = cuda_adam.CudaAdam(betas=betas, epsilon=EPSILON)
            self.on_cuda[number, betas].step(those)

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments by name."""
        found: dict[str, Tensor] = {}
        for entry in self.parameters:
            found[f"parameter.{entry.name}"] = entry.parameter.detach()
            moments = self.adam.state.get(entry.parameter, {})
            found |= {f"{moment}.{entry.name}": moments[moment] for moment in MOMENTS if moment in moments}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        for entry in self.parameters:
            # Our own steps count on the host, where counting waits for nothing.
            device, own = entry.parameter.device, cuda_adam.usable(entry.parameter)
            with torch.no_grad():
                entry.parameter.copy_(state[f"parameter.{entry.name}"])
            moments = {
                moment: state[f"{moment}.{entry.name}"].to("cpu" if own and moment == "step" else device).clone()
                for moment in MOMENTS
                if f"{moment}.{entry.name}" in state
            }
            if moments:
                self.adam.state[entry.parameter] = moments


def _course(entry: RatedParameter) -> object:
    """What parameters of one group have in common."""
    rates = (entry.start_rate, entry.final_rate, entry.until_images, entry.decay, entry.betas)
    return (*rates, entry.warm_up_images, entry.warm_up_share, entry.drops, entry.drop)
