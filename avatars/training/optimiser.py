"""Adam over a trainer's parameters, with a learning rate for each and a state that can be stored exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avatars.training import cuda_adam
from avatars.training.schedule import log_linear
from avatars.training.trainer import RatedParameter

EPSILON = 1e-15
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Optimiser:
    """Adam (default betas, ε = 1e-15 as in RGBAvatar), AdamW where decay is asked for; one group for each rate."""

    def __init__(self, parameters: Sequence[RatedParameter]) -> None:
        self.parameters = tuple(parameters)
        alike: dict[tuple[float, float, int, float], list[torch.nn.Parameter]] = {}
        for entry in self.parameters:
            rate = (entry.start_rate, entry.final_rate, entry.until_images, entry.decay)
            alike.setdefault(rate, []).append(entry.parameter)
        self.rates = tuple(alike)
        groups = [{"params": members, "lr": rate[0], "weight_decay": rate[3]} for rate, members in alike.items()]
        self.adam = torch.optim.AdamW(groups, eps=EPSILON, fused=True, weight_decay=0.0)
        self.on_cuda = cuda_adam.CudaAdam(betas=self.adam.defaults["betas"], epsilon=EPSILON)

    def step(self, loss: Tensor, at: float) -> None:
        """One update against the gradient of `loss`, with the rates of position `at` in images."""
        for (start, final, until_images, _), group in zip(self.rates, self.adam.param_groups, strict=True):
            group["lr"] = log_linear(start, final, at / max(until_images, 1))
        parameters = [entry.parameter for entry in self.parameters]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        if all(cuda_adam.usable(parameter) for parameter in parameters):
            self._step_on_cuda(gradients)
            return
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def _step_on_cuda(self, gradients: Sequence[Tensor | None]) -> None:
        rates = {parameter: group["lr"] for group in self.adam.param_groups for parameter in group["params"]}
        updates = []
        for entry, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is None:
                continue
            state = self.adam.state[entry.parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(entry.parameter)
                state["exp_avg_sq"] = torch.zeros_like(entry.parameter)
            state["step"] += 1
            moments = (state["exp_avg"], state["exp_avg_sq"])
            tensors = (entry.parameter.detach(), gradient.contiguous(), *moments)
            rate = rates[entry.parameter]
            updates.append(cuda_adam.Update(*tensors, steps=int(state["step"]), rate=rate, decay=entry.decay))
        self.on_cuda.step(updates)

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
