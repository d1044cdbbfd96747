"""The curves as pictures, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from PIL import Image

from backend.growth.fit import Growth
from backend.growth.run import curve, fits, settled
from backend.growth.settings import CURVES

COLOURS = 64
CURVES_PICTURE, TRAINING_PICTURE = "curves.png", "training.png"


def draw_plots(output: Path, figures: Mapping[str, Any]) -> list[Path]:
    """curves.png and training.png, of what there is; which were written."""
    written = []
    if drawn(figures):
        written.append(curves_picture(output / CURVES_PICTURE, figures))
    if figures.get("training"):
        written.append(training_picture(output / TRAINING_PICTURE, figures))
    return written


def drawn(figures: Mapping[str, Any]) -> list[str]:
    """The curves that have two points or more."""
    return [part for part in CURVES if len(curve(figures, part)) > 1]


def curves_picture(path: Path, figures: Mapping[str, Any]) -> Path:
    """Time above memory, a column for each curve; dashed: the line that was fitted."""
    parts = drawn(figures)
    found, main = fits(figures), settled(figures)
    figure = Figure(figsize=(3.1 * len(parts), 5.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(str(figures["device"]), fontsize=9)
    grid = figure.subplots(2, len(parts), squeeze=False)
    for column, part in enumerate(parts):
        points = curve(figures, part)
        x = [point["x"] for point in points]
        time, memory = grid[0][column], grid[1][column]
        each = {"a picture": main, "posing": "pose_ms", "blending": "draw_ms", "on the device": "device_ms"}
        for label, key in each.items():
            values = [point[key] for point in points]
            if None not in values:
                time.plot(x, values, marker="o", markersize=3, linewidth=1.8 if key == main else 1, label=label)
        for label, key in (("at most", "peak_mib"), ("avatars alone", "held_mib")):
            values = [point[key] for point in points]
            if None not in values:
                memory.plot(x, [max(value, 0.1) for value in values], marker="o", markersize=3, label=label)
        if part != "batch":
            _line(time, x, found.get(f"{part} time"))
        _line(memory, x, found.get(f"{part} memory"))
        for axes, label in ((time, "ms a picture"), (memory, "MiB")):
            _logarithmic(axes)
            axes.set_xlabel(CURVES[part], fontsize=8)
            if column == 0:
                axes.set_ylabel(label, fontsize=8)
                axes.legend(fontsize=7)
    return _saved(path, figure)


def training_picture(path: Path, figures: Mapping[str, Any]) -> Path:
    """Held-out PSNR over seconds, a line for each number of pictures; and seconds to each target over pictures."""
    rows = sorted(figures["training"].values(), key=lambda one: int(one["frames"]))
    figure = Figure(figsize=(9, 3.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(str(figures["device"]), fontsize=9)
    over_time, over_frames = figure.subplots(1, 2)
    for one in rows:
        seconds, psnr = [point[0] for point in one["curve"]], [point[2] for point in one["curve"]]
        over_time.plot(seconds, psnr, marker="o", markersize=2, linewidth=1, label=f"{one['frames']} pictures")
    over_time.set_xlabel("seconds of training", fontsize=8)
    over_time.set_ylabel("held-out PSNR, dB", fontsize=8)
    for target in rows[0]["reached_s"]:
        found = [(one["frames"], one["reached_s"].get(target)) for one in rows]
        reached = [(frames, seconds) for frames, seconds in found if seconds is not None]
        if reached:
            over_frames.plot(*zip(*reached), marker="o", markersize=3, label=f"{target} dB")
    over_frames.set_xlabel("pictures for training", fontsize=8)
    over_frames.set_ylabel("seconds until reached", fontsize=8)
    for axes in (over_time, over_frames):
        axes.grid(visible=True, alpha=0.3)
        axes.tick_params(labelsize=7)
        if axes.lines:
            axes.legend(fontsize=7)
    return _saved(path, figure)


def _line(axes: Any, x: list[float], found: Growth | None) -> None:
    if found is not None:
        along = np.geomspace(min(x), max(x), 40)
        axes.plot(along, found.fixed + found.slope * along, "k--", linewidth=0.7)


def _logarithmic(axes: Any) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.axes.set_xscale("log") if axis is axes.xaxis else axis.axes.set_yscale("log")
        # Plain numbers: ticks as powers of ten are set as formulas, which takes matplotlib longer than all the rest.
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, alpha=0.3)
    axes.tick_params(labelsize=7)


def _saved(path: Path, figure: Figure) -> Path:
    """As a PNG of few colours, which is a third as large."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    Image.open(memory).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
