"""What an edit was asked for, kept in its job's folder: it may wait, crash and go on long after it was asked for.

`edit.json` holds the fields of StartEdit, `weights.npy` what was painted; how many GPUs is the job's own. No torch.
"""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from avatars.files import write_atomically
from shared.edit_messages import StartEdit
from shared.errors import BadMessage, EnvironmentFailed
from shared.npz import read_npy

REQUEST, WEIGHTS = "edit.json", "weights.npy"
ELSEWHERE = ("weights", "gpus")
MAX_VERTICES = 1 << 20
MAX_PROMPT = 400
KINDS: dict[str, Any] = {"str": str, "float": (int, float), "int": int, "dict[str, str]": dict}


def check_request(asked: StartEdit) -> None:
    """Raises BadMessage for an edit that no configuration could make sense of."""
    if not asked.prompt.strip() or len(asked.prompt) > MAX_PROMPT:
        raise BadMessage(
            "The edit has no words" if not asked.prompt.strip() else "The prompt is too long",
            expected=f"1 to {MAX_PROMPT} letters",
            do="Say what is to change, for example: a bronze statue",
        )
    weights = asked.weights
    if weights.ndim != 1 or weights.dtype.name != "float32" or len(weights) > MAX_VERTICES:
        raise BadMessage("Painted weights are not [V] float32", found=f"{weights.dtype} {list(weights.shape)}")
    if len(weights) and not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1):
        raise BadMessage("Painted weights are out of range", expected="0 to 1")
    if len(weights) and not weights.any():
        raise BadMessage("Nothing is painted", do="Paint the vertex group, or choose a region")
    if len(weights) and asked.region:
        raise BadMessage("The edit has a region and a painted group", do="Choose one of them")


def put_request(folder: Path, asked: StartEdit) -> None:
    """Keep it. Raises EnvironmentFailed."""
    values = {item.name: getattr(asked, item.name) for item in fields(asked) if item.name not in ELSEWHERE}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(asked.weights):
            buffer = io.BytesIO()
            np.save(buffer, asked.weights)
            write_atomically(folder / WEIGHTS, buffer.getvalue())
        write_atomically(folder / REQUEST, json.dumps(values, ensure_ascii=False).encode())
    except OSError as error:
        raise EnvironmentFailed(
            "The edit cannot be kept", found=f"{folder}: {error.strerror}", do="Make room on the disk"
        ) from error


def read_request(folder: Path, job_id: str) -> StartEdit:
    """What was asked for, with the job's id as its key. Raises EnvironmentFailed where it was damaged."""
    try:
        data: Any = json.loads((folder / REQUEST).read_bytes())
        known = {item.name: data[item.name] for item in fields(StartEdit) if item.name not in ELSEWHERE}
        asked = replace(StartEdit(**known), key=job_id)
        for item in fields(StartEdit):
            if item.name not in ELSEWHERE and not isinstance(getattr(asked, item.name), KINDS[str(item.type)]):
                raise TypeError(item.name)
        if (folder / WEIGHTS).is_file():
            asked = replace(asked, weights=read_npy((folder / WEIGHTS).read_bytes(), WEIGHTS, BadMessage))
        check_request(asked)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, BadMessage) as error:
        raise EnvironmentFailed(
            "What this edit was asked for cannot be read", found=f"{folder / REQUEST}: {error}", do="Ask for it again"
        ) from error
    return asked
