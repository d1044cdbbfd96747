"""One process of a training on several GPUs: `python -m backend.rank_worker`, started by torchrun (`on_gpus`).

The first process writes and tells: lines of JSON on what was its standard output, to the process that asked for the
training, which answers on standard input with what is wanted. Why a process failed lies in a file, whoever it was.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from avatars.training import ranks
from avatars.training.progress import TrainResult
from backend.devices import out_of_memory, usable_cores, use_cores
from backend.rank_orders import Order, obey
from backend.worker_link import ORPHANED_EXIT, tie_to_parent
from shared.errors import EffigyError, first_line
from shared.messages import Failure

FAILURE = "failure.json"
SHORT = "short_of_memory"
"""The code of a failure that a smaller batch may mend."""

log = logging.getLogger("effigy.ranks")


class _Talk:
    """What the first process hears and says."""

    def __init__(self, told: BinaryIO) -> None:
        self._told, self._wanted = told, ""
        threading.Thread(target=self._hear, name="wanted", daemon=True).start()

    def _hear(self) -> None:
        for line in sys.stdin:
            self._wanted = line.strip() if line.strip() in ("pause", "cancel") else ""
        os._exit(ORPHANED_EXIT)  # who asked for the training is gone

    def wanted(self) -> str:
        """'', 'pause' or 'cancel'."""
        return self._wanted

    def tell(self, progress: Any) -> None:
        """Take a Progress of avatars.training."""
        values = {name: getattr(progress, name) for name in ("step", "steps", "images_per_s", "eta_s", "message")}
        values["losses"] = {name: float(value) for name, value in progress.losses.items()}
        if progress.preview is not None:
            picture = np.ascontiguousarray(progress.preview, np.uint8)
            values["shape"], values["pixels"] = picture.shape, base64.b64encode(picture.tobytes()).decode()
        self.say({"progress": values})

    def say(self, document: dict[str, Any]) -> None:
        """One line."""
        with contextlib.suppress(OSError):
            self._told.write(json.dumps(document).encode() + b"\n")
            self._told.flush()


def main(run: Callable[..., TrainResult] = obey) -> int:
    """Train as one of several, and end."""
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the log
    tie_to_parent()
    parser = argparse.ArgumentParser(description="One process of a training on several GPUs")
    for name in ("--order", "--folder", "--kind"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch", type=int, default=0)
    arguments = parser.parse_args()
    number = int(os.environ["RANK"])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s {number} %(name)s %(message)s")
    device = torch.device("cpu") if arguments.kind == "cpu" else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    use_cores(max(1, usable_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    place = Path(arguments.order)
    try:
        order = Order(**json.loads(place.read_text(encoding="utf-8")))
        talk = _Talk(told) if number == 0 else None
        ranks.join(device)
        result = run(
            order,
            Path(arguments.folder),
            str(device),
            talk.tell if talk is not None else _unheard,
            talk.wanted if talk is not None else str,
            most_batch=arguments.batch,
        )
    except Exception as error:
        if not out_of_memory(error) and not isinstance(error, EffigyError):
            raise  # torchrun's log shows it; who asked begins again from the last checkpoint
        log.exception("rank %d", number)
        _leave_failure(place.parent / FAILURE, error)
        return 1
    if talk is not None:
        talk.say({"result": _packed(result)})
    ranks.leave()
    return 0


def _packed(result: TrainResult) -> dict[str, Any]:
    return {
        "avatar_folder": str(result.avatar_folder),
        "report_folder": str(result.report_folder),
        "metrics": dict(result.metrics),
        "state": result.state,
    }


def _unheard(told: Any) -> None:
    """What other processes than the first tell."""


def _leave_failure(place: Path, error: Exception) -> None:
    """Say why in a file, for the first that fails: the others fail because of it."""
    if out_of_memory(error):
        failure = Failure(SHORT, "The device has not enough memory for this job", first_line(error))
    else:
        assert isinstance(error, EffigyError)
        failure = Failure.of(error)
    beside = place.with_name(f"{FAILURE}.{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(asdict(failure)), encoding="utf-8")
        os.link(beside, place)  # whole or not at all, and not where there is one


if __name__ == "__main__":
    sys.exit(main())
