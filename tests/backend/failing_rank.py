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
from avatars.training.progress import TrainResult
from backend.rank_orders import Order, obey
from backend.rank_worker import main
from shared.errors import BadCapture


def run(order: Order, *given: Any, most_batch: int = 0) -> TrainResult:
    """`obey` with the fault."""
    plain = Run.step

    def step(self: Run, at: float) -> None:
        if ranks.rank() == 1 and order.name == "short" and not most_batch:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")
        if ranks.rank() == 1 and order.name == "short" and self.images:
            os.kill(os.getpid(), signal.SIGKILL)
        if ranks.rank() == 1 and order.name == "bad":
            raise BadCapture("a picture cannot be read", found="0042.png")
        plain(self, at)

    Run.step = step  # type: ignore[method-assign]
    return obey(order, *given, most_batch=most_batch)


if __name__ == "__main__":
    sys.exit(main(run))
