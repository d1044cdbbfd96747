"""A process of several in which something goes wrong, as the name of the training says; else `backend.rank_worker`.

'short': the second is out of memory at the first step, and is killed at the second where batches are smaller; 'bad':
the second meets a picture that cannot be read.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from avatars.training import ranks
from avatars.training.loop import Run
from backend.rank_worker import main
from backend.training_run import Outcome, run_training
from shared.errors import BadCapture
from shared.messages import StartTraining


def run(asked: StartTraining, *given: Any, most_batch: int = 0) -> Outcome:
    """`run_training` with the fault."""
    plain = Run.step

    def step(self: Run, at: float) -> None:
        if ranks.rank() == 1 and asked.name == "short" and not most_batch:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")
        if ranks.rank() == 1 and asked.name == "short" and self.images:
            os.kill(os.getpid(), signal.SIGKILL)
        if ranks.rank() == 1 and asked.name == "bad":
            raise BadCapture("a picture cannot be read", found="0042.png")
        plain(self, at)

    Run.step = step  # type: ignore[method-assign]
    return run_training(asked, *given, most_batch=most_batch)


if __name__ == "__main__":
    sys.exit(main(run))
