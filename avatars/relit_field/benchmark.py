"""How long a teacher's training steps take (shape and radiance alone, and with physically based shading) and a picture
of it, shaded with all maps: as pseudo ground truth is rendered, and by asking the fields along whole rays."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from avatars.captures.capture import Capture
from avatars.relit_field.picture import picture
from avatars.relit_field.trainer import TeacherTrainer
from avatars.training.config import TrainConfig
from avatars.training.evaluation import white_batch
from avatars.training.loop import Run

HEADER = f"{'stage':12} {'ms':>9} {'a second':>8} {'ops':>9} {'peak GiB':>9} {'prepared s':>10}"
WARM_UP = 8


@dataclass(frozen=True)
class TeacherRow:
    """One stage: a step of training, or a picture.

    operations: of torch, forwards and backwards; table: the profiler's, empty where not asked for.
    """

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
    """Train a fresh teacher for about `seconds` in each stage, then render its pictures; nothing is kept."""
    with tempfile.TemporaryDirectory(prefix="effigy-") as folder:
        run = Run(config, capture, Path(folder), device, lambda told: None)
        run.prepare()
        starts = config.teacher.light.starts_at
        for stage, at in (("geometry", starts * 0.9), ("shaded", starts + (config.schedule.images - starts) * 0.3)):
            for _ in range(WARM_UP):
                run.step(at)

            def step(at: float = at) -> None:
                run.step(at)

            yield _measured(stage, step, 4, seconds, run, table_rows)
        trainer = run.trainer
        assert isinstance(trainer, TeacherTrainer)
        person, light = trainer.model.person, trainer.model.light
        row = white_batch(run.held_out, [0])
        pose, levels = trainer.posed(int(row.frames[0])), trainer.levels(config.schedule.images)
        for stage, lattice in (("picture", True), ("whole rays", False)):

            def render(lattice: bool = lattice) -> None:
                picture(person, pose, row.cameras, config.teacher, light=light, levels=levels, lattice=lattice)

            render()
            yield _measured(stage, render, 1, seconds, run, table_rows if lattice else 0)


def line(row: TeacherRow) -> str:
    """One row under HEADER."""
    return (
        f"{row.stage:12} {row.milliseconds:9.2f} {row.steps_per_s:8.1f} {row.operations:9.0f} "
        f"{row.peak_gib:9.2f} {row.preparation_s:10.1f}"
    )


def as_json(rows: list[TeacherRow]) -> list[dict[str, object]]:
    """The rows' numbers by name."""
    return [{k: v for k, v in dataclasses.asdict(row).items() if k != "table"} for row in rows]


def _measured(stage: str, act: Callable[[], None], few: int, seconds: float, run: Run, rows: int) -> TeacherRow:
    first = _timed(act, few, run.device)
    found = _timed(act, max(few, int(seconds / first)), run.device)
    operations, table = _profiled(act, run.device, rows)
    return TeacherRow(stage, found * 1e3, operations, _peak_gib(run.device), run.preparation_s, table)


def _timed(act: Callable[[], None], times: int, device: torch.device) -> float:
    """Seconds each."""
    _wait(device)
    begun = time.perf_counter()
    for _ in range(times):
        act()
    _wait(device)
    return (time.perf_counter() - begun) / times


def _profiled(act: Callable[[], None], device: torch.device, rows: int) -> tuple[float, str]:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        act()
        _wait(device)
    found = profile.key_averages()
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = found.table(sort_by=order, row_limit=rows, max_name_column_width=48) if rows else ""
    return sum(event.count for event in found if event.key.startswith("aten::")), table


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
