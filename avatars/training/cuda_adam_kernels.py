"""The Triton kernel of Adam (Kingma and Ba 2015) with decoupled weight decay. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

NUMBERS_A_BLOCK = 1024


@triton.jit
def adam(addresses, blocks, rates, beta1, beta2, epsilon, BLOCK: tl.constexpr):
    """Each program updates one block [which tensor, first number] of `blocks`.

    addresses [tensors, 5]: where parameter, gradient, mean and square lie, and how many numbers. rates [tensors, 3]:
    learning rate over the first moment's bias, 1 over the root of the second's, and what weight decay leaves (1: all).
    """
    which = tl.load(blocks + tl.program_id(0) * 2)
    at = tl.load(blocks + tl.program_id(0) * 2 + 1) + tl.arange(0, BLOCK)
    row = addresses + which * 5
    parameter = tl.load(row).to(tl.pointer_type(tl.float32))
    gradient = tl.load(row + 1).to(tl.pointer_type(tl.float32))
    mean = tl.load(row + 2).to(tl.pointer_type(tl.float32))
    square = tl.load(row + 3).to(tl.pointer_type(tl.float32))
    live = at < tl.load(row + 4)
    rate, spread = tl.load(rates + which * 3), tl.load(rates + which * 3 + 1)
    kept = tl.load(rates + which * 3 + 2)
    slope = tl.load(gradient + at, mask=live, other=0.0)
    m = tl.load(mean + at, mask=live, other=0.0)
    m += (slope - m) * (1.0 - beta1)
    v = tl.load(square + at, mask=live, other=0.0) * beta2 + slope * slope * (1.0 - beta2)
    value = tl.load(parameter + at, mask=live, other=0.0) * kept - rate * m / (tl.sqrt(v) * spread + epsilon)
    tl.store(parameter + at, value, mask=live)
    tl.store(mean + at, m, mask=live)
    tl.store(square + at, v, mask=live)
