"""What a finished edit leaves: the new version of the avatar, which remembers its parent, and a report to look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from avatars.avatar import Avatar
from avatars.avatar_folder import (
    About,
    avatar_digest,
    iterations_of,
    load_avatar,
    read_description,
    save_avatar,
    shown_name,
)
from avatars.captures.capture import Capture
from avatars.evaluation.frames import Shot, over, render_shots
from avatars.files import write_folder_atomically
from avatars.templates.opening import TemplateReference
from avatars.training.evaluation import as_uint8
from avatars.training.figures import LABEL_PX, loss_figure
from avatars.training.report import front_preview, peak_rss_mib
from avatars.training.room import REPORT_BYTES, bytes_of
from avatars.training.views import notable_images
from shared.errors import BadAvatar

if TYPE_CHECKING:
    from avatars.training.loop import Run

SHEET_COLUMNS = 8
NO_SETTINGS = ("prompt", "editor", "avatar", "parent", "weights_file")
"""Parts of an edit that its note tells elsewhere, or that are paths of one machine."""


def no_avatar(
    reference: TemplateReference, document: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> Avatar:
    """Raises BadAvatar: an edited avatar keeps the method of its parent."""
    raise BadAvatar("text_edit is a way to change avatars, no kind of avatar", do="Copy the avatar again")


def edit_note(run: Run) -> dict[str, Any]:
    """What an edited avatar remembers of how it was made."""
    edit = run.config.edit
    folder = Path(edit.avatar)
    parent = read_description(folder)
    editor = getattr(run.trainer, "editor", None)
    found = getattr(editor, "found", None)  # of diffusion editors: whose own numbers stand where settings said 0
    told = dataclasses.asdict(edit if found is None else dataclasses.replace(edit, settings=editor.settings))
    settings = {name: value for name, value in told.items() if name not in NO_SETTINGS}
    settings |= settings.pop("settings")
    note = {
        "parent": {
            "digest": avatar_digest(folder),
            "avatar_id": folder.name.removesuffix(".avatar"),
            "name": shown_name(folder, parent),
            "iterations": iterations_of(parent),
        },
        "prompt": edit.prompt,
        "editor": edit.editor,
        "seed": settings.pop("seed"),
        "settings": settings | {"painted": bool(edit.weights_file), "iterations": run.config.schedule.images},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return note if found is None else note | {"weights": {"model": found.name, "licence": found.licence}}


def write_edit(
    run: Run, facts: Mapping[str, Any], avatar_folder: Path, report_folder: Path, name: str
) -> dict[str, Any]:
    """Write the edited avatar and the report, and return the numbers. Raises EnvironmentFailed.

    facts: `Run.facts` as they were when training ended.
    """
    trainer = run.trainer
    preview = trainer.preview() if hasattr(trainer, "preview") else None
    avatar = trainer.finish()
    before = load_avatar(Path(run.config.edit.avatar), str(run.device))
    capture, device = run.capture, run.device
    images = [*capture.split("test"), *capture.split("train")]
    told = notable_images(capture, images, SHEET_COLUMNS)
    pairs = [before_and_after(before, avatar, capture, index, run.config.size_px, device) for index, _ in told]
    moved = [float(np.abs(a.astype(float) - b.astype(float)).mean() / 255) for a, b in pairs]
    metrics: dict[str, Any] = {
        **facts,
        "gaussians": len(getattr(trainer, "gate", ())),
        "edited_views": len(trainer.cache) if hasattr(trainer, "cache") else 0,
        "changed": round(float(np.mean(moved)), 5) if moved else 0.0,
        "peak_rss_mib": peak_rss_mib(),
        "size_px": list(capture.train_size(run.config.size_px)),
    }
    note = edit_note(run)

    def fill(target: Path) -> None:
        (target / "metrics.json").write_text(json.dumps(metrics | {"edit": note}, indent=1), encoding="utf-8")
        loss_figure(target / "loss.png", run.curves)
        sheet([(label, *pair) for (_, label), pair in zip(told, pairs, strict=True)]).save(target / "contact_sheet.png")
        if preview is not None:
            Image.fromarray(preview).save(target / "edited_view.png")

    report_folder.parent.mkdir(parents=True, exist_ok=True)
    run.keep(lambda: write_folder_atomically(report_folder, fill), report_folder, REPORT_BYTES, "the report")
    old = read_description(Path(run.config.edit.avatar))
    about = About(
        name=name,
        licence=str(old["licence"]),
        consent=str(old.get("consent", "")),
        training={"metrics": {key: value for key, value in metrics.items() if isinstance(value, int | float)}},
        provenance=dict(old.get("provenance", {})),
        edit=note,
    )
    shown, needed_bytes = front_preview(avatar, capture, device), bytes_of(avatar.tensors())
    run.keep(lambda: save_avatar(avatar_folder, avatar, about, shown), avatar_folder, needed_bytes, "the avatar")
    return metrics


def before_and_after(
    before: Avatar, after: Avatar, capture: Capture, index: int, size_px: int, device: torch.device
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both avatars over white in one view of a capture, [H, W, 3] uint8 each."""
    size = capture.train_size(size_px)
    shots = [Shot(capture.images[index].frame, capture.camera_of(index, size))]
    first, second = (
        as_uint8(over(next(render_shots(avatar, capture.motion, shots, device, 1)), 1.0)[0])
        for avatar in (before, after)
    )
    return first, second


def sheet(columns: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]], per_row: int = 4) -> Image.Image:
    """A labelled column for each (label, before, after), before above after."""
    tiles = []
    for label, first, second in columns:
        stacked = np.concatenate((first, second))
        tile = Image.new("RGB", (stacked.shape[1], stacked.shape[0] + LABEL_PX), "white")
        tile.paste(Image.fromarray(stacked), (0, LABEL_PX))
        ImageDraw.Draw(tile).text((3, 1), label, fill="black")
        tiles.append(tile)
    width, height = tiles[0].size if tiles else (1, 1)
    across = max(1, min(per_row, len(tiles)))
    whole = Image.new("RGB", (across * width, -(-len(tiles) // across) * height or 1), "white")
    for index, tile in enumerate(tiles):
        whole.paste(tile, (index % across * width, index // across * height))
    return whole
