"""How long a teacher's training steps take: of shape and radiance alone, and with physically based shading."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from avatars.captures.capture import Capture
from avatars.training.config import TrainConfig
from avatars.training.loop import Run

HEADER = f"{'stage':10} {'ms/step':>8} {'steps/s':>8} {'ops/step':>9} {'peak GiB':>9} {'prepared s':>10}"
WARM_UP = 8


@dataclass(frozen=True)
class TeacherRow:
    """One stage. operations: of torch, forwards and backwards; table: the profiler's, empty where not asked for."""

    stage: str
    milliseconds: float
    operations: float
    peak_gib: float
    preparation_s: float
    table: str

    @property
    def steps_per_s(self) -> float:
        """Steps a second."""
        return 1e3 / self.milliseconds


def run_teacher_benchmark(
    config: TrainConfig, capture: Capture, device: str, seconds: float, *, table_rows: int = 0
) -> Iterator[TeacherRow]:
    """Train a fresh teacher for about `seconds` in each stage; nothing is kept."""
    with tempfile.TemporaryDirectory(prefix="effigy-") as folder:
        run = Run(config, capture, Path(folder), device, lambda told: None)
        run.prepare()
        starts = config.teacher.light.starts_at
        for stage, at in (("geometry", starts * 0.9), ("shaded", starts + (config.schedule.images - starts) * 0.3)):
            for _ in range(WARM_UP):
                run.step(at)
            first = _timed(run, at, 4)
            found = _timed(run, at, max(4, int(seconds / first)))
            operations, table = _profiled(run, at, table_rows)
            yield TeacherRow(stage, found * 1e3, operations, _peak_gib(run.device), run.preparation_s, table)


def line(row: TeacherRow) -> str:
    """One row under HEADER."""
    return (
        f"{row.stage:10} {row.milliseconds:8.2f} {row.steps_per_s:8.1f} {row.operations:9.0f} "
        f"{row.peak_gib:9.2f} {row.preparation_s:10.1f}"
    )


def as_json(rows: list[TeacherRow]) -> list[dict[str, object]]:
    """The rows' numbers by name."""
    return [{k: v for k, v in dataclasses.asdict(row).items() if k != "table"} for row in rows]


def _timed(run: Run, at: float, steps: int) -> float:
    """Seconds a step."""
    _wait(run.device)
    begun = time.perf_counter()
    for _ in range(steps):
        run.step(at)
    _wait(run.device)
    return (time.perf_counter() - begun) / steps


def _profiled(run: Run, at: float, rows: int) -> tuple[float, str]:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if run.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run.step(at)
        _wait(run.device)
    found = profile.key_averages()
    order = "self_device_time_total" if run.device.type == "cuda" else "self_cpu_time_total"
    table = found.table(sort_by=order, row_limit=rows, max_name_column_width=48) if rows else ""
    return sum(event.count for event in found if event.key.startswith("aten::")), table


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
