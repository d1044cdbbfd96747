"""The report of a relighting measurement: figures as JSON and as a table, and sheets to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatars.captures.capture import Capture
from avatars.evaluation.relighting import MaterialRow, RelitFigures, RelitRow, person_box
from avatars.evaluation.relit_maps import Map, RelitMaps
from avatars.files import write_atomically
from avatars.lighting.colour import srgb_from_linear

FIGURES, TABLE, RELIT_SHEET, MATERIAL_SHEET = "relighting.json", "relighting.md", "relit.png", "materials.png"
LABEL_PX, NARROWEST_PX = 15, 76
RELIT_HEAD = ("subject", "light", "pictures", "PSNR dB", "SSIM", "FLIP", "one factor dB", "inside dB")
MATERIAL_HEAD = ("subject", "pictures", "albedo dB", "normals deg", "roughness", "metallic")


def relit_cells(row: RelitRow) -> tuple[str, ...]:
    """A row as text under `RELIT_HEAD`."""
    likeness = f"{row.psnr_db:.2f}", f"{row.ssim:.4f}", f"{row.flip:.4f}"
    further = f"{row.gained_psnr_db:.2f}", f"{row.inside_psnr_db:.2f}"
    return (row.subject, row.group, str(row.pictures), *likeness, *further)


def material_cells(row: MaterialRow) -> tuple[str, ...]:
    """A row as text under `MATERIAL_HEAD`."""
    values = ((row.albedo_psnr_db, 2), (row.normal_error_deg, 2), (row.roughness_error, 3), (row.metallic_error, 3))
    return (row.subject, str(row.pictures), *("-" if value is None else f"{value:.{n}f}" for value, n in values))


def markdown(figures: RelitFigures) -> str:
    """Both tables as Markdown."""
    parts = []
    for head, rows in (
        (RELIT_HEAD, [relit_cells(row) for row in figures.rows]),
        (MATERIAL_HEAD, [material_cells(row) for row in figures.materials]),
    ):
        if rows:
            lines = [head, tuple("---" for _ in head), *rows]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def write_relit_report(folder: Path, figures: RelitFigures, capture: Capture, facts: Mapping[str, Any]) -> None:
    """Write `relighting.json`, `relighting.md`, `relit.png` and `materials.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        **facts,
        "capture": capture.name,
        "relit": [asdict(row) for row in figures.rows],
        "materials": [asdict(row) for row in figures.materials],
    }
    write_atomically(folder / FIGURES, json.dumps(document, indent=1).encode())
    write_atomically(folder / TABLE, markdown(figures).encode())
    shown = sorted(figures.shown)
    if not shown:
        return
    names = list(figures.shown[shown[0]])
    columns = []
    for index in shown:
        box = person_box(figures.shown[index]["truth"].alpha)
        light = capture.images[index].light
        label = f"{capture.images[index].frame} {light.stem if light is not None else 'own light'}"
        columns.append((label, [_over_white(figures.shown[index][name], box) for name in names]))
    _sheet(folder / RELIT_SHEET, columns, names)
    first = next((index for index in shown if figures.shown[index]["truth"].albedo is not None), None)
    if first is not None:
        names = [name for name in names if figures.shown[first][name].albedo is not None]
        maps = [figures.shown[first][name] for name in names]
        box = person_box(maps[0].alpha)
        kinds = ("albedo", "normals", "roughness", "metallic")
        _sheet(folder / MATERIAL_SHEET, [(kind, [_map(one, kind, box) for one in maps]) for kind in kinds], names)


def _over_white(maps: RelitMaps, box: tuple[slice, slice]) -> NDArray[np.uint8]:
    alpha = maps.alpha[box][..., None]
    return _uint8(maps.colour[box] * alpha + 1 - alpha)


def _map(maps: RelitMaps, kind: str, box: tuple[slice, slice]) -> NDArray[np.uint8]:
    values: Map | None = getattr(maps, kind)
    alpha = maps.alpha[box][..., None]
    if values is None:
        return np.full((*alpha.shape[:2], 3), 235, np.uint8)
    inside = values[box]
    if kind == "albedo":
        inside = srgb_from_linear(torch.from_numpy(np.ascontiguousarray(inside)).clamp(0, 1)).numpy()
    elif kind == "normals":
        inside = inside * 0.5 + 0.5
    else:
        inside = np.repeat(inside[..., None], 3, -1)
    return _uint8(inside * alpha + 1 - alpha)


def _uint8(values: Map) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _sheet(path: Path, columns: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], names: Sequence[str]) -> None:
    """A labelled column for each (label, pictures), one row a name; all pictures of a column have one size."""
    high = max(tile.shape[0] for _, tiles in columns for tile in tiles)
    widths = [max(NARROWEST_PX, *(tile.shape[1] for tile in tiles)) for _, tiles in columns]
    sheet = Image.new("RGB", (sum(widths), LABEL_PX + (high + LABEL_PX) * len(names)), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for (label, tiles), width in zip(columns, widths, strict=True):
        draw.text((left + 2, 1), label, fill="black")
        for row, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (left, LABEL_PX + row * (high + LABEL_PX)))
        left += width
    for row, name in enumerate(names):
        draw.text((2, LABEL_PX + row * (high + LABEL_PX) + high + 1), name, fill="black")
    sheet.save(path)
