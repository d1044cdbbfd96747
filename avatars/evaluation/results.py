"""What an evaluation leaves: metrics.npz, metrics.txt, metrics.json and a contact sheet."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.evaluation.measure import Measured, pair
from avatars.files import disk_failure, write_atomically
from avatars.training.figures import contact_sheet

ORIGINAL_NAMES = {"psnr_db": "psnr"}
"""Our metric names -> RGBAvatar's, where they differ; metrics.npz and metrics.txt have theirs."""
DIGITS = {"l1": 6, "l2": 6}
PER_RANK = 4
Groups = Mapping[str, NDArray[np.intp]]


def capture_groups(capture: Capture, images: Sequence[int]) -> dict[str, NDArray[np.intp]]:
    """Rows of `images` by the capture's own marks: train, test and val, as far as there are any."""
    marks = np.array([capture.images[index].split for index in images])
    return {name: np.flatnonzero(marks == name) for name in ("train", "test", "val") if (marks == name).any()}


def index_groups(count: int, split: int) -> dict[str, NDArray[np.intp]]:
    """Rows before and after index `split`, which counts from the end where it is negative (RGBAvatar's -350)."""
    rows = np.arange(count)
    return {f"before {split}": rows[:split], f"from {split}": rows[split:]}


def summary(measured: Measured, groups: Groups) -> dict[str, dict[str, float]]:
    """Group (and 'all') -> count and the mean of every metric."""
    every = {**groups, "all": np.arange(len(measured.images))}
    return {name: {"images": len(rows), **measured.means(rows)} for name, rows in every.items()}


def text_table(means: Mapping[str, Mapping[str, float]]) -> str:
    """The means as lines of text, one for each group, under RGBAvatar's names; a dash where a group is empty."""
    names = [name for name in next(iter(means.values())) if name != "images"]
    lines = ["frames".ljust(14) + "count".rjust(7) + "".join(ORIGINAL_NAMES.get(n, n).rjust(12) for n in names)]
    for group, row in means.items():
        cells = ("-" if math.isnan(row[name]) else f"{row[name]:.{DIGITS.get(name, 4)}f}" for name in names)
        lines.append(group.ljust(14) + f"{row['images']:.0f}".rjust(7) + "".join(cell.rjust(12) for cell in cells))
    return "\n".join(lines) + "\n"


def write_evaluation(
    folder: Path, avatar: Avatar, capture: Capture, measured: Measured, groups: Groups, device: str
) -> dict[str, dict[str, float]]:
    """Write the four files into `folder` and return `summary`. Raises EnvironmentFailed.

    metrics.npz: one array per metric and `image`, `frame`, `camera`, `split`, in the order of the frames.
    """
    means = summary(measured, groups)
    entries = [capture.images[index] for index in measured.images]
    arrays: dict[str, Any] = {ORIGINAL_NAMES.get(name, name): values for name, values in measured.values.items()}
    arrays |= {
        "image": np.array([entry.file.name for entry in entries]),
        "frame": np.array([entry.frame for entry in entries]),
        "camera": np.array([capture.camera_names[entry.camera] for entry in entries]),
        "split": np.array([entry.split for entry in entries]),
    }
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    viewing = measured.viewing
    document = {
        "capture": capture.name,
        "size_px": list(capture.train_size(viewing.size_px)),
        "background": viewing.background,
        "clamped": viewing.clamp,
        "means": {group: {name: _number(value) for name, value in row.items()} for group, row in means.items()},
        "frames": [
            {"file": entry.file.name, "frame": entry.frame, "split": entry.split}
            | {name: round(float(values[row]), 6) for name, values in measured.values.items()}
            for row, entry in enumerate(entries)
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "metrics.npz", stream.getvalue())
        write_atomically(folder / "metrics.txt", text_table(means).encode())
        write_atomically(folder / "metrics.json", json.dumps(document, indent=1).encode())
        columns = []
        for row, rank in notable_rows(measured.values["psnr_db"]):
            truth, model = pair(avatar, capture, measured.images[row], viewing, device)
            label = f"{rank}: {entries[row].file.stem} {measured.values['psnr_db'][row]:.1f} dB"
            columns.append((label, truth, model))
        contact_sheet(folder / "contact_sheet.png", columns, per_row=PER_RANK)
    except OSError as error:
        raise disk_failure(folder, error) from error
    return means


def notable_rows(psnr_db: NDArray[np.float64]) -> list[tuple[int, str]]:
    """Rows of the best, median and worst frames by PSNR, up to four each, none twice."""
    order = np.argsort(-psnr_db, kind="stable")
    each = min(PER_RANK, max(1, len(order) // 3))
    middle = max(each, len(order) // 2 - each // 2)
    chosen: dict[int, str] = {}
    for rank, rows in (
        ("best", order[:each]),
        ("worst", order[-each:][::-1]),
        ("median", order[middle : middle + each]),
    ):
        for row in rows:
            chosen.setdefault(int(row), rank)
    ranks = ("best", "median", "worst")
    return sorted(chosen.items(), key=lambda item: (ranks.index(item[1]), -psnr_db[item[0]]))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
