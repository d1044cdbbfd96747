"""One step of Adam over a tensor as a single pass over memory (CUDA only).

torch's fused Adam reaches a fifth of the device's memory bandwidth at twelve million parameters, which is a tenth of a
training step of a head; this reaches most of it. The maths are torch's, which the tests hold it against.
"""

from __future__ import annotations

from torch import Tensor

from avatars.rgb_head.cuda_place import available


def usable(parameter: Tensor) -> bool:
    """Whether the kernel serves this parameter's device."""
    return parameter.is_cuda and available()


def step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    *,
    steps: int,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Update parameter and both moments in place; all float32, contiguous, of one size. steps: counted from 1."""
    from avatars.training.cuda_adam_kernels import NUMBERS_A_BLOCK, adam

    count = parameter.numel()
    if not count:
        return
    first, second = 1 - betas[0] ** steps, 1 - betas[1] ** steps
    adam[(-(-count // NUMBERS_A_BLOCK),)](
        parameter, gradient.contiguous(), mean, square, count,
        rate / first, 1 / second**0.5, betas[0], betas[1], epsilon, BLOCK=NUMBERS_A_BLOCK,
    )  # fmt: skip
