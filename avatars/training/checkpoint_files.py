"""Checkpoints as files: which there are, and whether one is intact. For whoever moves them; loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avatars.files import check_seal, sha256_of

TENSORS, NOTES = "state.safetensors", "state.json"
KEPT = 2
MAX_NOTES_BYTES = 16 << 20


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(path for path in folder.glob("images_*") if path.is_dir()) if folder.is_dir() else []


def verified_notes(path: Path) -> dict[str, Any]:
    """The notes of a checkpoint whose files are what was written. Raises ValueError, KeyError, TypeError, OSError,
    RecursionError for one that is damaged."""
    if (path / NOTES).stat().st_size > MAX_NOTES_BYTES:
        raise ValueError(f"{NOTES} is too large")
    check_seal(path / NOTES)
    notes: dict[str, Any] = json.loads((path / NOTES).read_text(encoding="utf-8"))
    if sha256_of(path / TENSORS) != notes["sha256"]:
        raise ValueError("its digest is another")
    return notes
