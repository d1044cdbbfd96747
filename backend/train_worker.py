"""The train worker: `python -m backend.train_worker`, started by the server for one training or edit. Goes on from its
checkpoints by itself, tells its progress, and obeys pause and cancel between steps."""

from __future__ import annotations

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backend.devices import out_of_memory, refusal_for_want_of_memory, resolve_device, usable_cores, use_cores
from backend.edit_run import run_edit
from backend.home import Home
from backend.library import Library
from backend.on_gpus import RankLost
from backend.training_run import Outcome, run_training
from backend.worker_link import join_server, worker_parser
from shared import wire
from shared.edit_messages import StartEdit
from shared.errors import EffigyError
from shared.messages import ChangeJob, Failure, JobInfo, JobPreview, StartTraining

log = logging.getLogger("effigy.train_worker")

TELL_EVERY_S = 0.2
FIRST_WORD_S = 30.0
SHOWN_METRICS = {"psnr_db": "PSNR (dB)", "ssim": "SSIM"}


class Link(Protocol):
    """What a training needs of its end of the connection."""

    def receive(self, timeout_s: float) -> wire.Envelope | None:
        """The next message, or None when none came in time."""

    def send(self, message: Any) -> None:
        """Send a message."""


class _Reporter:
    """Sends progress, not more often than is worth reading, and remembers the last for the end's report."""

    def __init__(self, link: Link, asked: StartTraining | StartEdit) -> None:
        self.link, self.asked = link, asked
        self.kind = "edit" if isinstance(asked, StartEdit) else "train"
        self.last = JobInfo(asked.key, self.kind, asked.name, "running", message="Preparing")
        self._told_s = 0.0
        self._wanted = ""

    def tell(self, progress: Any) -> None:
        """Take a Progress of avatars.training."""
        self.last = JobInfo(
            self.asked.key,
            self.kind,
            self.asked.name,
            "running",
            step=int(progress.step),
            steps=int(progress.steps),
            images_per_s=_finite(progress.images_per_s),
            losses={name: float(value) for name, value in progress.losses.items() if math.isfinite(value)},
            eta_s=_finite(progress.eta_s),
            message=str(progress.message),
        )
        if progress.preview is not None:
            self.link.send(JobPreview(self.asked.key, self.last.step, np.ascontiguousarray(progress.preview, np.uint8)))
        now = time.monotonic()
        if now - self._told_s >= TELL_EVERY_S:
            self._told_s = now
            self.link.send(self.last)

    def wanted(self) -> str:
        """'', 'pause' or 'cancel': the last that the server said."""
        while (envelope := self.link.receive(0.0)) is not None:
            if isinstance(envelope.message, ChangeJob):
                self._wanted = envelope.message.action if envelope.message.action in ("pause", "cancel") else ""
        return self._wanted


def main() -> int:
    """Do one job and end."""
    arguments = worker_parser("Effigy's train worker").parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    link = join_server(arguments)
    first = link.receive(FIRST_WORD_S)
    if first is None or not isinstance(first.message, StartTraining | StartEdit):
        raise RuntimeError("the server did not say what to train")
    work(link, first.message, Home(Path(arguments.home)), arguments.device)
    link.close()
    return 0


def work(link: Link, asked: StartTraining | StartEdit, home: Home, wanted_device: str) -> None:
    """Do what is asked in the job's folder and tell it. Raises what is nobody's fault: it is tried again then."""
    reporter = _Reporter(link, asked)
    link.send(reporter.last)
    try:
        device = resolve_device(wanted_device)
        use_cores(usable_cores())
        folder, library = home.jobs / asked.key, Library(home.library)
        if isinstance(asked, StartEdit):
            outcome = run_edit(asked, folder, library, device, reporter.tell, reporter.wanted)
        else:
            outcome = run_training(asked, folder, library, device, reporter.tell, reporter.wanted)
    except RankLost:
        raise  # as if this process had ended: the server starts it again
    except Exception as error:
        if not isinstance(error, EffigyError):
            if not out_of_memory(error):
                raise  # the server starts this process again
            log.exception("out of memory")
            error = refusal_for_want_of_memory(error, "job")
        link.send(Failure.of(error))
        return
    last = reporter.last
    link.send(
        JobInfo(
            asked.key,
            reporter.kind,
            asked.name,
            outcome.state,
            step=last.step,
            steps=last.steps,
            images_per_s=last.images_per_s,
            losses=last.losses,
            message=_last_words(outcome),
            report_folder=outcome.report_folder,
            avatar_id=outcome.avatar_id,
        )
    )


def _last_words(outcome: Outcome) -> str:
    if outcome.state != "done":
        return outcome.state.capitalize()
    metrics = outcome.metrics or {}
    shown = [f"{label} {metrics[name]:.4g}" for name, label in SHOWN_METRICS.items() if name in metrics]
    return "Done" + (f": {', '.join(shown)} on held-out frames" if shown else "")


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


if __name__ == "__main__":
    sys.exit(main())
