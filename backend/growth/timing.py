"""Times of a repeated call and what memory it took, on the CPU and on CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

LEAST, MOST, WARM = 3, 300, 2
MIB = 2**20
GROUPS: Mapping[str, tuple[str, ...]] = {
    "sorting": ("sort", "Radix", "radix", "onesweep"),
    "finding tiles": ("isect", "intersect", "Scan", "scan"),
    "projecting": ("projection", "fully_fused"),
    "blending": ("rasterize", "raster"),
    "copies to the host": ("Memcpy DtoH",),
    "copies to the device": ("Memcpy HtoD",),
    "copies and joins": ("Memcpy DtoD", "CatArray", "copy", "Memset", "fill"),
    "choosing pixels": ("index", "gather", "scatter", "nonzero", "Select"),
}
"""What kernels are for, by what their names hold; the first that fits. All else is arithmetic on tensors."""
OTHER = "other arithmetic"


@dataclass(frozen=True)
class Times:
    """Of one call, ms: the median of all, the fastest, and how many there were."""

    median_ms: float
    best_ms: float
    calls: int


def timed(act: Callable[[], Any], seconds: float, device: str) -> Times:
    """Each call by itself, finished before the next begins, after two to warm up; at least three calls."""
    for _ in range(WARM):
        act()
    wait(device)
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < LEAST or (len(found) < MOST and time.perf_counter() < until):
        begun = time.perf_counter()
        act()
        wait(device)
        found.append(1000 * (time.perf_counter() - begun))
    return Times(statistics.median(found), min(found), len(found))


def wait(device: str) -> None:
    """Until the device has done everything it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class Memory:
    """What was taken since it was made: of the device's memory on CUDA, of the process's elsewhere.

    On the CPU the most is the kernel's own mark (Linux), which can be set back; without it `peak_mib` is None.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device if device.startswith("cuda") else ""
        tidy(device)
        self.before = self._now()

    def held_mib(self) -> float:
        """What is in use now."""
        return max(0.0, (self._now() - self.before) / MIB)

    def begin(self) -> None:
        """Forget what was needed at most until now."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.cuda)
        else:
            self.marked = _reset_mark()

    def peak_mib(self) -> float | None:
        """The most that was in use since `begin`."""
        if self.cuda:
            return max(0.0, (torch.cuda.max_memory_allocated(self.cuda) - self.before) / MIB)
        most = _mark_bytes() if self.marked else None
        return None if most is None else max(0.0, (most - self.before) / MIB)

    def _now(self) -> int:
        return int(torch.cuda.memory_allocated(self.cuda) if self.cuda else psutil.Process().memory_info().rss)


def tidy(device: str) -> None:
    """Hand back what nobody uses, so that the next measurement begins from little."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _mark_bytes() -> int | None:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def kernels_of(act: Callable[[], Any], device: str, calls: int = 5) -> tuple[float, float, dict[str, float]]:
    """Of one call on CUDA: ms the device computes, how many kernels and copies that is, and ms for each of GROUPS."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARM):
        act()
    wait(device)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as told:
        for _ in range(calls):
            act()
        wait(device)
    rows = [
        (entry.key, entry.self_device_time_total / 1000 / calls, entry.count / calls)
        for entry in told.key_averages()
        if str(entry.device_type).endswith("CUDA")
    ]
    return sum(row[1] for row in rows), sum(row[2] for row in rows), grouped([row[:2] for row in rows])


def grouped(kernels: Sequence[tuple[str, float]]) -> dict[str, float]:
    """ms for each group of kernels (name, ms), the longest first."""
    found: dict[str, float] = {}
    for name, took_ms in kernels:
        group = next((group for group, words in GROUPS.items() if any(word in name for word in words)), OTHER)
        found[group] = found.get(group, 0.0) + took_ms
    return dict(sorted(found.items(), key=lambda item: -item[1]))
