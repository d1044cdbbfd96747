"""Compiling and caching kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from avatars.rendering import jit

ROOT = Path(__file__).resolve().parents[3]


def add_index(worker: int, workers: int, out: np.ndarray) -> None:
    for index in range(worker, len(out), workers):
        out[index] += index


def test_a_kernel_that_cannot_be_cached_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_for_real = numba.njit

    def nowhere_to_cache(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_for_real(*arguments, **options)

    monkeypatch.setattr(numba, "njit", nowhere_to_cache)
    out = np.zeros(7, np.float32)
    jit.run(jit.kernel(add_index), out)
    assert out.tolist() == list(range(7))


def test_an_error_in_any_worker_is_raised() -> None:
    def fail(worker: int, workers: int) -> None:
        if worker == workers - 1:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        jit.run(fail)


def test_the_cache_goes_where_it_is_told(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from avatars.rendering.cpu_tiles import list_pairs\n"
        "none = np.zeros(0, np.int32)\n"
        "list_pairs(0, 1, 1, 8, 8, np.zeros((1, 10), np.float32), np.zeros(2, np.int64), none, none)\n"
        "assert sum(list_pairs.stats.cache_hits.values()) == EXPECTED, list_pairs.stats\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for hits in (0, 1):
        subprocess.run(
            [sys.executable, "-c", code.replace("EXPECTED", str(hits))], env=environment, check=True, timeout=120
        )
    assert list(tmp_path.rglob("*list_pairs*.nbi"))


def test_a_change_in_any_kernel_source_makes_the_cache_stale() -> None:
    """numba looks at one file only; this reaches into it, so a new numba must be looked at again when this fails."""
    assert jit._sources_digest() in jit.kernel(add_index)._cache._cache_file._source_stamp
