"""One step of Adam over all parameters as a single pass over memory and a single launch (CUDA only).

torch's fused Adam reaches a fifth of the device's memory bandwidth at twelve million parameters, which is a tenth of a
training step of a head; this reaches most of it. The maths are torch's, which the tests hold it against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatars.rendering.has_triton import available


def usable(parameter: Tensor) -> bool:
    """Whether the kernel serves this parameter's device."""
    return parameter.is_cuda and available()


@dataclass(frozen=True, eq=False)
class Update:
    """One parameter with its gradient and moments: float32, contiguous, of one size. steps: counted from 1.

    decay: AdamW's decoupled weight decay.
    """

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    steps: int
    rate: float
    decay: float = 0.0


class CudaAdam:
    """Steps over lists of updates; where the tensors lie is sent to the device only when that has changed."""

    def __init__(self, *, betas: tuple[float, float], epsilon: float) -> None:
        self.betas, self.epsilon = betas, epsilon
        self.places: tuple[int, ...] = ()
        self.sizes: tuple[int, ...] = ()
        self.addresses = self.blocks = torch.empty(0)

    def step(self, updates: Sequence[Update]) -> None:
        """Update parameters and moments in place."""
        from avatars.training.cuda_adam_kernels import NUMBERS_A_BLOCK, adam

        updates = [update for update in updates if update.parameter.numel()]
        if not updates:
            return
        device = updates[0].parameter.device
        rows = [(u.parameter, u.gradient, u.mean, u.square) for u in updates]
        places = tuple(tensor.data_ptr() for row in rows for tensor in row)
        sizes = tuple(update.parameter.numel() for update in updates)
        if places != self.places:
            table = np.array(places, np.int64).reshape(-1, 4)
            self.addresses = _sent(np.column_stack((table, np.array(sizes, np.int64))), device)
            self.places = places
        if sizes != self.sizes:
            counts = [-(-size // NUMBERS_A_BLOCK) for size in sizes]
            which = np.repeat(np.arange(len(counts)), counts)
            start = np.concatenate([np.arange(count) for count in counts]) * NUMBERS_A_BLOCK
            self.blocks = _sent(np.column_stack((which, start)).astype(np.int64), device)
            self.sizes = sizes
        beta1, beta2 = self.betas
        scales = [
            (u.rate / (1 - beta1**u.steps), 1 / (1 - beta2**u.steps) ** 0.5, 1 - u.rate * u.decay) for u in updates
        ]
        rates = _sent(np.array(scales, np.float32), device)
        adam[(len(self.blocks),)](self.addresses, self.blocks, rates, beta1, beta2, self.epsilon, BLOCK=NUMBERS_A_BLOCK)


def _sent(values: np.ndarray, device: torch.device) -> Tensor:
    """A table on the device, without waiting for what is under way there."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
