"""Checkpoints: a folder each, safetensors and JSON, written whole or not at all, verified before use, two kept."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avatars.files import save_tensors, sha256_of, write_folder_atomically, write_seal
from avatars.training.checkpoint_files import KEPT, NOTES, TENSORS, checkpoints, verified_notes
from shared.errors import EnvironmentFailed

UNFINISHED = re.compile(r"\.(images_\d{10})\.[0-9a-f]+\.(tmp|old)")


log = logging.getLogger("effigy.training")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a bit-exact resume needs. notes: counters and the identity of the run, as JSON values.

    passed_over: newer ones that were damaged, each in a few words, where this is the older of the two.
    """

    tensors: Mapping[str, Tensor]
    notes: Mapping[str, Any]
    passed_over: tuple[str, ...] = ()


def save_checkpoint(folder: Path, checkpoint: Checkpoint, images: int) -> Path:
    """Write a checkpoint under `folder` and drop all but the newest two. Raises EnvironmentFailed."""
    target = folder / f"images_{images:010d}"

    def fill(place: Path) -> None:
        contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in checkpoint.tensors.items()}
        save_tensors(contiguous, place / TENSORS)
        notes = dict(checkpoint.notes) | {"sha256": sha256_of(place / TENSORS)}
        (place / NOTES).write_text(json.dumps(notes, indent=1), encoding="utf-8")
        write_seal(place / NOTES)

    write_folder_atomically(target, fill)
    found = checkpoints(folder)
    newer = [path for path in found if path > target]  # damaged: this run went on from an older one
    for path in (*newer, *[path for path in found if path <= target][:-KEPT]):
        shutil.rmtree(path, ignore_errors=True)
    return target


def clear_unfinished(folder: Path) -> None:
    """Put right what a kill inside `save_checkpoint` left: half-written ones go, one set aside comes back."""
    for path in folder.glob(".images_*") if folder.is_dir() else ():
        match = UNFINISHED.fullmatch(path.name)
        if match is None:
            continue
        if match[2] == "old" and not (folder / match[1]).exists():
            path.replace(folder / match[1])
        else:
            shutil.rmtree(path, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint; None where there is none. Raises EnvironmentFailed if all are damaged."""
    found = checkpoints(folder)
    problems = []
    for path in reversed(found):
        try:
            notes = verified_notes(path)
            checkpoint = Checkpoint(load_file(str(path / TENSORS)), notes, tuple(problems))
            for problem in problems:
                log.warning("a damaged checkpoint was passed over: %s", problem)
            return checkpoint
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise EnvironmentFailed(
            f"no checkpoint in {folder} is intact", found=problems[0], do="Delete that folder to begin anew"
        )
    return None
