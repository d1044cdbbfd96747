"""How good presets are after so many seconds of training: one after another on one device, measured on held-out frames.

The clock runs while the model trains; preparing, measuring and saving are not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatars.captures.capture import Capture
from avatars.training.changed_data import as_wanted
from avatars.training.config import TrainConfig, load_config
from avatars.training.evaluation import BEST_PSNR_DB, EVALUATION_BATCH, METRICS, as_uint8, metric_names, over_white
from avatars.training.loop import Run
from avatars.training.lpips import find_lpips
from shared.errors import BadConfig

SHEET_FRAMES, SHEET_PX, LABEL_PX = 8, 320, 16
UNITS = {"psnr_db": "{:.2f}", "ssim": "{:.4f}", "ms_ssim": "{:.4f}", "flip": "{:.4f}", "lpips": "{:.4f}"}


@dataclass(frozen=True)
class Standing:
    """Held-out means of one moment. wanted_s: the mark it answers, 0 for the finished avatar; seconds: trained so far.

    After the end of a training the marks that are left repeat the finished avatar.
    """

    wanted_s: float
    seconds: float
    images: int
    means: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Contender:
    """One preset's run: its standings, facts of the training, and rendered held-out frames [F, H, W, 3] uint8."""

    name: str
    standings: tuple[Standing, ...]
    facts: Mapping[str, Any]
    pictures: NDArray[np.uint8]

    def as_json(self) -> dict[str, Any]:
        """JSON form without the pictures."""
        standings = [
            {"mark_s": s.wanted_s or "end", "seconds": s.seconds, "images": s.images, **s.means} for s in self.standings
        ]
        return {"preset": self.name, **self.facts, "standings": standings}


def variant(text: str) -> TrainConfig:
    """A preset with changes: NAME, or NAME+dotted.key=value+dotted.key=value. Raises BadConfig."""
    name, *changes = text.split("+")
    overrides = dict(change.partition("=")[::2] for change in changes)
    if "" in overrides.values():
        raise BadConfig(f"{text!r} is no preset with changes", expected="NAME+key=value+key=value")
    return load_config(name, overrides)


def contend(
    name: str,
    config: TrainConfig,
    capture: Capture,
    device: str,
    marks_s: Sequence[float],
    *,
    stop_s: float = 0.0,
    tell: Callable[[str], None] = lambda message: None,
) -> Contender:
    """Train `config` and measure it after each of marks_s seconds of training and at the end.

    stop_s: not 0: training ends then, however far the schedule is. Raises what training raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, as_wanted(capture, config.data), Path(folder), device, lambda event: None)
    run.prepare()
    standings: list[Standing] = []
    waiting = sorted(marks_s)

    def note(wanted_s: float, seconds: float) -> Standing:
        means = held_out_means(run)
        tell(f"{name}: {seconds:.1f} s, {run.images} images: " + figures(means))
        return Standing(wanted_s, round(seconds, 2), run.images, means)

    run.started, run.training = time.monotonic(), True
    while run.at < config.schedule.images and not (stop_s and run.seconds >= stop_s):
        if waiting and run.seconds >= waiting[0]:
            _wait_for(run.device)
            seconds, paused = run.seconds, time.monotonic()
            standings.append(note(waiting.pop(0), seconds))
            _wait_for(run.device)
            run.started += time.monotonic() - paused
        run.step(run.at)
    _wait_for(run.device)
    seconds = run.seconds
    facts = {
        "training_seconds": round(seconds, 2),
        "preparation_seconds": round(run.preparation_s, 2),
        "images": run.images,
        "images_per_s": round(run.images / max(seconds, 1e-9), 1),
        "gaussians_trained": run.trainer.gaussians(),
    }
    run.trainer.finish()
    end = note(0.0, seconds)
    left = [Standing(mark, end.seconds, end.images, end.means) for mark in waiting]
    rows = sheet_rows(len(run.held_out))
    pictures = np.stack([as_uint8(image) for image in over_white(run.trainer, run.held_out, rows)[0]])
    return Contender(name, (*standings, *left, end), facts, pictures)


def held_out_means(run: Run) -> dict[str, float]:
    """Means over all held-out pictures on white; LPIPS is among them where its weights are at hand."""
    lpips = find_lpips(run.config.losses.lpips_folder, run.device)
    acts = {name: METRICS[name] for name in metric_names(run.held_out)}
    totals = dict.fromkeys((*acts, "lpips") if lpips is not None else acts, 0.0)
    count = len(run.held_out)
    for start in range(0, count, EVALUATION_BATCH):
        model, truth = over_white(run.trainer, run.held_out, range(start, min(start + EVALUATION_BATCH, count)))
        with torch.no_grad():
            for name, act in acts.items():
                totals[name] += float(act(model, truth).clamp_max(BEST_PSNR_DB).sum())
            if lpips is not None:
                totals["lpips"] += float(lpips(model, truth).sum())
    return {name: round(total / count, 5) for name, total in totals.items()}


def figures(means: Mapping[str, float]) -> str:
    """Means in one line, as people write them."""
    return "  ".join(f"{name} {UNITS[name].format(value)}" for name, value in means.items())


def sheet_rows(count: int) -> list[int]:
    """Held-out pictures that the contact sheet shows, evenly spread."""
    return [int(row) for row in np.unique(np.linspace(0, count - 1, min(count, SHEET_FRAMES)).round())]


def truth_pictures(config: TrainConfig, capture: Capture) -> NDArray[np.uint8]:
    """The pictures of `sheet_rows` as they should be, over white, [F, H, W, 3]."""
    held_out = capture.split("test")
    size = capture.train_size(config.size_px)
    shown = []
    for row in sheet_rows(len(held_out)):
        rgba = capture.rgba(held_out[row], size).astype(np.float32)
        shown.append((rgba[..., :3] + (255 - rgba[..., 3:]) + 0.5).clip(0, 255).astype(np.uint8))
    return np.stack(shown)


def write_sheet(path: Path, truth: NDArray[np.uint8], contenders: Sequence[Contender]) -> None:
    """The truth on top, each contender's finished avatar below, as one PNG."""
    rows = [("held-out truth", truth)]
    for one in contenders:
        rows.append((f"{one.name}   {figures(one.standings[-1].means)}", one.pictures))
    tile = min(SHEET_PX, truth.shape[1])
    sheet = Image.new("RGB", (tile * len(truth), (tile + LABEL_PX) * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (label, pictures) in enumerate(rows):
        top = line * (tile + LABEL_PX)
        pen.text((4, top + 2), label, fill="black")
        for column, picture in enumerate(pictures):
            small = Image.fromarray(picture).resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(small, (column * tile, top + LABEL_PX))
    sheet.save(path)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
