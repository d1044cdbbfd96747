"""Where the time of a repeated call goes: its kernels and its host operations, as lines to print."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

CALLS, SHOWN, NAME_LENGTH = 20, 24, 90


def profile_lines(act: Callable[[], Any], device: torch.device, *, calls: int = CALLS, shown: int = SHOWN) -> list[str]:
    """Wall time of a call without the profiler, then the longest kernels (CUDA) and host operations of a call in us."""
    cuda = device.type == "cuda"

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize(device)

    for _ in range(3):
        act()
    wait()
    begun = time.perf_counter()
    for _ in range(calls):
        act()
    wait()
    wall_us = 1e6 * (time.perf_counter() - begun) / calls
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as told:
        for _ in range(calls):
            act()
        wait()
    found = told.key_averages()
    lines = [f"{wall_us:.0f} us a call"]
    if cuda:
        kernels = [(e.self_device_time_total / calls, e.count / calls, e.key) for e in found if _on_device(e)]
        total = sum(entry[0] for entry in kernels)
        lines.append(f"device: {total:.0f} us in {sum(entry[1] for entry in kernels):.0f} kernels and copies")
        lines += _table(kernels, shown)
    host = [(e.self_cpu_time_total / calls, e.count / calls, e.key) for e in found if not _on_device(e)]
    lines.append(f"host: {sum(entry[0] for entry in host):.0f} us with the profiler's own share")
    return lines + _table(host, shown)


def _on_device(entry: Any) -> bool:
    return str(entry.device_type).endswith("CUDA")


def _table(entries: list[tuple[float, float, str]], shown: int) -> list[str]:
    ordered = sorted(entries, reverse=True)[:shown]
    return [f"  {time_us:9.1f} us  {count:6.1f} x  {name[:NAME_LENGTH]}" for time_us, count, name in ordered]
