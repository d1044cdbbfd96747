"""Whether Triton kernels can be had; torch's CUDA builds for Linux bring the compiler."""

from __future__ import annotations

import importlib.util
from functools import cache


@cache
def available() -> bool:
    """Whether Triton is here. Loads nothing."""
    return importlib.util.find_spec("triton") is not None
