"""Compiled kernels: numba without the GIL, cached on disk, run side by side by plain threads.

Kernels take (worker, workers, ...) and split the work themselves, so results never depend on the number of threads, and
no OpenMP runtime is involved (safe beside torch's own, after a fork, and from several threads at once). The cache lives
beside the sources, or in the user's cache folder when that is read-only, or in NUMBA_CACHE_DIR where that is set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch

MAX_WORKERS = 16  # more would wait for each other's start longer than they work


@cache
def _sources_digest() -> str:
    """A digest of every kernel source: numba itself would not notice a change in a helper of another file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call, without the GIL; cached on disk where some folder can be written."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba's "no locator available": nowhere to cache, so compile in each process
        return numba.njit(**options)(function)
    cache_file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = (cache_file._source_stamp, _sources_digest())
    return compiled


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """A small function inlined into the kernels that call it."""
    return numba.njit(nogil=True, error_model="numpy")(function)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="effigy-raster")


def run(function: Callable[..., Any], *arguments: Any, pieces: int = MAX_WORKERS) -> None:
    """Call `function(worker, workers, *arguments)` for every worker at once.

    There are as many workers as torch has threads, but no more than `pieces` of work worth a thread (about 0.1 ms).
    """
    workers = max(1, min(torch.get_num_threads(), MAX_WORKERS, pieces))
    if workers == 1:
        function(0, 1, *arguments)
        return
    pool = _pool(os.getpid(), workers - 1)  # by process: threads do not survive a fork
    others = [pool.submit(function, worker, workers, *arguments) for worker in range(1, workers)]
    function(0, workers, *arguments)
    for other in others:
        other.result()
