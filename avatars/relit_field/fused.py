"""Pure functions of tensors that torch may compile into few kernels, forwards and backwards.

A step of training is some thousand small operations, and on a fast device handing them out takes longer than they do.
Compiling takes a minute or so, which a run of some minutes does not win back: it is for those who ask (`fusing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
_wanted: ContextVar[bool] = ContextVar("effigy_fused", default=False)


@contextmanager
def fusing(wanted: bool) -> Iterator[None]:
    """Within this, functions marked `fused` are compiled, if wanted."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def fused(function: Function) -> Function:
    """Mark a function of tensors (and tuples of them) that may be compiled. It must be pure."""

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return (_compiled(function) if _wanted.get() else function)(*arguments)

    return call  # type: ignore[return-value]


@lru_cache(maxsize=32)
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)
