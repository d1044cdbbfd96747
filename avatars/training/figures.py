"""The pictures of a training report, drawn without a display and without pyplot's global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatars.training.evaluation import Curves

ERROR_GAIN = 5
LABEL_PX = 14
SEEN = 8  # of 255: how much a pixel differs from its picture's corner where a person is
MARGIN = 0.02  # of the picture's side, left around people


def loss_figure(path: Path, curves: Curves) -> None:
    """Running means of the loss terms over images, logarithmic."""
    figure, axes = _axes("images", "loss (running mean)")
    images = [count for count, _ in curves.losses]
    for name in sorted({key for _, terms in curves.losses for key in terms}):
        values = np.array([terms.get(name, np.nan) for _, terms in curves.losses], np.float64)
        if (values > 0).any():
            axes.plot(images, np.where(values > 0, values, np.nan), label=name)
    axes.set_yscale("log")
    # Plain numbers: ticks as powers of ten are set as formulas, which takes matplotlib longer than all the rest.
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if axes.lines:
        axes.legend()
    figure.savefig(path)


def psnr_figure(path: Path, curves: Curves) -> None:
    """Held-out PSNR over images, with seconds along the top."""
    figure, axes = _axes("images", "PSNR on a held-out subset (dB)")
    images, values = [count for count, _, _ in curves.psnr], [db for _, _, db in curves.psnr]
    axes.plot(images, values, marker="o")
    for count, seconds, db in curves.psnr:
        label = f"{seconds:.0f} s"
        axes.annotate(label, (count, db), textcoords="offset points", xytext=(0, 6), fontsize=7, ha="center")
    figure.savefig(path)


def coverage_figure(path: Path, train_deg: NDArray[np.float64], test_deg: NDArray[np.float64]) -> None:
    """From where the head was seen: yaw and pitch of every picture."""
    figure, axes = _axes("yaw of the camera around the head (degrees)", "pitch (degrees)")
    axes.scatter(train_deg[:, 0], train_deg[:, 1], s=12, label=f"training ({len(train_deg)})")
    axes.scatter(test_deg[:, 0], test_deg[:, 1], s=24, marker="x", label=f"held out ({len(test_deg)})")
    axes.legend()
    figure.savefig(path)


def contact_sheet(
    path: Path, columns: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]], per_row: int = 6
) -> None:
    """Truth above model above error (times 5), a labelled column for each (label, truth, model), all of one size.

    Empty background around the people is cut off, by one size in all columns.
    """
    found = []
    for (label, *pair), window in zip(columns, _windows([column[1:] for column in columns]), strict=True):
        truth, model = (image[window] for image in pair)
        error = np.abs(truth.astype(np.int16) - model.astype(np.int16)) * ERROR_GAIN
        found.append((label, (truth, model, np.clip(error, 0, 255).astype(np.uint8))))
    stacked_sheet(path, found, per_row)


def _windows(pairs: Sequence[Sequence[NDArray[np.uint8]]]) -> list[tuple[slice, slice]]:
    """Rows and columns of each pair of pictures [H, W, 3] to be shown: the person of either, in windows of one size."""
    spans = []
    for pair in pairs:
        shown = np.any([np.abs(image.astype(np.int16) - image[0, 0]).max(-1) > SEEN for image in pair], 0)
        lines = [np.flatnonzero(shown.any(1 - axis)) for axis in (0, 1)]
        spans.append(
            [(int(at[0]), int(at[-1]) + 1) if len(at) else (0, shown.shape[axis]) for axis, at in enumerate(lines)]
        )
    windows: list[list[slice]] = [[] for _ in spans]
    for axis in (0, 1):
        margin = 2 * round(MARGIN * max((pair[0].shape[axis] for pair in pairs), default=0))
        size = max((last - first for first, last in (span[axis] for span in spans)), default=0) + margin
        for window, span, pair in zip(windows, spans, pairs, strict=True):
            length = pair[0].shape[axis]
            start = min(max((sum(span[axis]) - size) // 2, 0), max(length - size, 0))
            window.append(slice(start, start + size))
    return [(rows, columns) for rows, columns in windows]


def stacked_sheet(path: Path, columns: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], per_row: int = 6) -> None:
    """A labelled column for each (label, pictures [H, W, 3] of one width), the pictures below each other."""
    tiles = []
    for label, pictures in columns:
        stacked = np.concatenate(list(pictures))
        width = max(stacked.shape[1], 6 + math.ceil(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(label)))
        tile = Image.new("RGB", (width, stacked.shape[0] + LABEL_PX), "white")
        tile.paste(Image.fromarray(stacked), (0, LABEL_PX))
        ImageDraw.Draw(tile).text((3, 1), label, fill="black")
        tiles.append(tile)
    if not tiles:
        return
    width, height = (max(tile.size[axis] for tile in tiles) for axis in (0, 1))
    across = min(per_row, len(tiles))
    sheet = Image.new("RGB", (across * width, -(-len(tiles) // across) * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % across * width, index // across * height))
    sheet.save(path)


def _axes(x_label: str, y_label: str):  # type: ignore[no-untyped-def]
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
