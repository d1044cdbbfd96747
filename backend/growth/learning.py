"""How long a training takes to a given held-out PSNR, for recordings of more and more pictures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.training.config import TrainConfig, load_config
from avatars.training.evaluation import curve_subset, measure
from avatars.training.loop import Run
from avatars.training.quality import contend
from avatars.warm_up import compile_kernels
from backend.growth.settings import GrowthBenchmark
from backend.growth.timing import wait
from shared.errors import BadConfig

WARM_UP_IMAGES = {"schedule.images": "60", "schedule.max_seconds": "0", "schedule.deltas_from": "20"}


def fewer(capture: Capture, frames: int) -> Capture:
    """The capture with `frames` of its training pictures, spread evenly; held-out pictures stay. Raises BadConfig."""
    training = capture.split("train")
    if frames > len(training):
        raise BadConfig(
            f"--frames asks for more pictures than {capture.name} has for training",
            found=str(frames),
            expected=f"at most {len(training)}",
        )
    kept = {training[row] for row in np.linspace(0, len(training) - 1, frames).round().astype(int)}
    images = [image for index, image in enumerate(capture.images) if index in kept or image.split != "train"]
    return replace(capture, images=tuple(images))


def configured(wanted: GrowthBenchmark) -> TrainConfig:
    """The preset with a schedule that ends after `train_s`, so that rates have fallen by then on any device."""
    ends = {"schedule.max_seconds": f"{wanted.train_s:g}", "schedule.min_images": "0"}
    return load_config(wanted.preset, {**wanted.overrides, **ends})


def learned(wanted: GrowthBenchmark, frames: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """One training: PSNR over seconds, and when each target was reached (None: never). The clock stands still while
    pictures are decoded and measured."""
    config = configured(wanted)
    capture = fewer(open_capture(wanted.capture), frames)
    with tempfile.TemporaryDirectory(prefix="effigy-growth-") as folder:
        run = Run(config, capture, Path(folder), wanted.device, lambda event: None)
    run.prepare()
    rows = curve_subset(len(run.held_out), wanted.held_out)
    curve: list[tuple[float, int, float]] = []

    def look() -> None:
        wait(wanted.device)
        seconds, begun = run.seconds, time.monotonic()
        psnr = float(np.mean(measure(run.trainer, run.held_out, rows, ("psnr_db",))["psnr_db"]))
        curve.append((round(seconds, 3), run.images, round(psnr, 3)))
        tell(f"{frames} pictures: {seconds:.1f} s, {run.images} images, {psnr:.2f} dB")
        wait(wanted.device)
        run.started += time.monotonic() - begun

    run.started, run.training = time.monotonic(), True
    due = wanted.look_s
    while run.at < config.schedule.images:
        run.step(run.at)
        if run.seconds >= due:
            look()
            due += wanted.look_s
    look()
    return {
        "frames": frames,
        "preparation_s": round(run.preparation_s, 2),
        "training_s": round(run.seconds, 2),
        "images": run.images,
        "gaussians": run.trainer.gaussians(),
        "held_out": len(rows),
        "curve": curve,
        "best_db": max(db for _, _, db in curve),
        "reached_s": {f"{target:g}": first_at(curve, target) for target in wanted.targets_db},
    }


def first_at(curve: Sequence[tuple[float, int, float]], target_db: float) -> float | None:
    """Seconds until a curve of (seconds, images, dB) reaches a target, on the line between two looks; None: never."""
    before: tuple[float, float] | None = None
    for seconds, _, psnr_db in curve:
        if psnr_db >= target_db:
            if before is None or psnr_db == before[1]:
                return seconds
            share = (target_db - before[1]) / (psnr_db - before[1])
            return round(before[0] + share * (seconds - before[0]), 3)
        before = (seconds, psnr_db)
    return None


def warm_up(wanted: GrowthBenchmark) -> None:
    """Compile what the steps compile, on nobody's clock."""
    if not wanted.device.startswith("cuda"):
        compile_kernels()
        return
    config = load_config(wanted.preset, {**wanted.overrides, **WARM_UP_IMAGES})
    contend("warm-up", config, fewer(open_capture(wanted.capture), min(wanted.frames)), wanted.device, ())
