"""torch's fused AdamW without torch.optim's Optimizer class around it.

The class imports torch._dynamo when the first one is made, only to keep torch.compile away from its methods: 1.6 s of a
processor for each process that trains, and nothing here is compiled. The steps are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class FusedAdam:
    """param_groups: each with `params`, `lr`, `betas` and `weight_decay` (decoupled; 0 is plain Adam).

    state: of each parameter that has been stepped, `step`, `exp_avg` and `exp_avg_sq`, as in torch.optim.AdamW.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], *, epsilon: float) -> None:
        self.param_groups: list[dict[str, Any]] = [dict(group) for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self.epsilon = epsilon

    @torch.no_grad()
    def step(self, gradients: Mapping[Tensor, Tensor | None] | Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """One update. gradients: by parameter; those without one stay as they are."""
        # The fused kernel goes through memory: of an expanded gradient, as a sum's, it would read the first value only.
        known = {parameter: None if one is None else one.contiguous() for parameter, one in dict(gradients).items()}
        for group in self.param_groups:
            with_one = [parameter for parameter in group["params"] if known.get(parameter) is not None]
            if not with_one:
                continue
            states = [self._state_of(parameter) for parameter in with_one]
            adam(
                with_one,
                [known[parameter] for parameter in with_one],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=self.epsilon,
                maximize=False,
            )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
