"""The Triton kernel of Adam (Kingma and Ba 2015, without weight decay). CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

NUMBERS_A_BLOCK = 1024


@triton.jit(do_not_specialize=["count", "rate", "spread"])
def adam(parameter, gradient, mean, square, count, rate, spread, beta1, beta2, epsilon, BLOCK: tl.constexpr):
    """rate: learning rate over the first moment's bias; spread: 1 over the root of the second's."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    slope = tl.load(gradient + at, mask=live, other=0.0)
    m = tl.load(mean + at, mask=live, other=0.0)
    m += (slope - m) * (1.0 - beta1)
    v = tl.load(square + at, mask=live, other=0.0) * beta2 + slope * slope * (1.0 - beta2)
    value = tl.load(parameter + at, mask=live, other=0.0) - rate * m / (tl.sqrt(v) * spread + epsilon)
    tl.store(parameter + at, value, mask=live)
    tl.store(mean + at, m, mask=live)
    tl.store(square + at, v, mask=live)
