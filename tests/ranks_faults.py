"""What may go wrong in a training of several processes, one thing after the other in one sitting of two of them.

`python -m tests.ranks_faults FOLDER`, started by torchrun, trains the capture in FOLDER/capture and leaves what each
process saw in FOLDER/saw.RANK.json.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _set_pg_timeout

from avatars.captures.opening import open_capture
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.training import loop, ranks
from avatars.training.checkpoint import newest_checkpoint, save_checkpoint
from avatars.training.config import load_config
from avatars.training.gradients import SharedGradients
from avatars.training.loop import Run
from avatars.training.progress import Progress
from shared.errors import EffigyError, EnvironmentFailed

BATCH, FAULT_AT, IMAGES = 4, 8, 24
SUM_S, FULL_S = 0.5, 1.5
"""The sums' patience while the disk is full, and for how long it is."""
TINY = {
    "schedule.images": str(IMAGES),
    "schedule.batch": str(BATCH),
    "schedule.stages_from": "[0, 1000]",
    "reporting.checkpoint_images": str(BATCH),
    "reporting.curve_points": "0",
    "reporting.preview_s": "1000",
    "model.first_look_px": "0",
    "model.fill_unseen": "false",
}
SHORT = ("ahead", "forward", "backward", "after_step")


class _Lacks(torch.autograd.Function):
    """Itself; its backward has no memory."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")


def trained(folder: Path, place: Path, most_batch: int = 0, capture: str = "capture", **more: str) -> dict[str, Any]:
    """How a run went here: its end or what ended it, the pictures it learned from, what it told."""
    events: list[Progress] = []
    learned: list[int] = []
    plain = Run._learn

    def learn(self: Run, chosen: Tensor, backgrounds: Tensor, at: float) -> bool:
        before = self.images
        try:
            return plain(self, chosen, backgrounds, at)
        finally:
            learned.extend(chosen.tolist() if self.images > before else [])

    told = events.append if ranks.rank() == 0 else lambda event: None
    with mock.patch.object(Run, "_learn", learn):
        run = Run(load_config("tiny", TINY | more), open_capture(folder / capture), place, "cpu", told, most_batch)
        try:
            end = run.go(str)
        except (torch.OutOfMemoryError, EffigyError) as error:
            end = f"{type(error).__name__}: {error}"
    ranks.meet()
    saved = newest_checkpoint(place / loop.CHECKPOINTS)
    found = {"end": end, "learned": learned, "pictures": run.sampler.count, "batch": run.batch}
    if saved is not None:
        finite = all(bool(value.isfinite().all()) for key, value in saved.tensors.items() if "parameter." in key)
        found |= {"saved": saved.notes["images"], "finite": finite}
    return found | {"told": [event.message for event in events]}


@contextlib.contextmanager
def faulty(name: str, fault: Callable[[Any, dict[str, Tensor] | None], Any]) -> Iterator[None]:
    """A method of the trainer whose result passes through `fault`, called with that of the step after FAULT_AT."""
    plain, images = getattr(RgbHeadTrainer, name), [0]

    def method(self: RgbHeadTrainer, *given: Any) -> Any:
        images[0] += BATCH
        result = plain(self, *given)
        return fault(self, result) if images[0] == FAULT_AT + BATCH else result

    with mock.patch.object(RgbHeadTrainer, name, method):
        yield


def short(folder: Path, where: str) -> dict[str, Any]:
    """The second process has no memory once; then all again, with half the batch (in one case of the two alike).

    ahead: before its backward, when the first is in the middle of its own.
    """

    def fault(_: Any, result: Any) -> Any:
        if ranks.rank() == 0:
            if where == "forward":  # a method that sums in its losses
                ranks.summed(torch.ones(1))
            return result
        if where == "backward":
            return {key: _Lacks.apply(value) for key, value in result.items()}
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")

    with faulty("after_step" if where == "after_step" else "losses", fault):
        first = trained(folder, folder / where)
    return {"first": first, "again": trained(folder, folder / where, BATCH // 2) if where != "forward" else None}


def full(folder: Path) -> dict[str, Any]:
    """The disk is full for longer than a sum may take."""
    begun: list[float] = []
    plain = Run.order

    def save(place: Path, checkpoint: Any, images: int) -> Path:
        if images == FAULT_AT:
            begun.append(begun[0] if begun else time.monotonic())
            if time.monotonic() - begun[0] < FULL_S:
                raise EnvironmentFailed("it cannot be written", found="No space left on device")
        return save_checkpoint(place, checkpoint, images)

    def order(self: Run, wanted: Callable[[], str]) -> tuple[float, str]:
        _set_pg_timeout(timedelta(seconds=SUM_S) if self.images == FAULT_AT else ranks.STEP_PATIENCE)
        try:
            return plain(self, wanted)
        finally:
            _set_pg_timeout(ranks.STEP_PATIENCE)

    with (
        mock.patch.object(loop, "save_checkpoint", save),
        mock.patch.object(Run, "order", order),
        mock.patch("avatars.training.room.LOOK_EVERY_S", 0.1),
    ):
        return trained(folder, folder / "full")


def not_a_number(folder: Path) -> dict[str, Any]:
    """The second process's loss is none."""

    def fault(_: Any, result: dict[str, Tensor] | None) -> Any:
        assert result is not None
        return {key: value * float("nan") for key, value in result.items()} if ranks.rank() else result

    with faulty("losses", fault):
        return trained(folder, folder / "nan")


def missing(folder: Path) -> dict[str, Any]:
    """A picture is gone when the second stage, which shows pictures larger, reads them anew."""
    plain = Run.order
    if ranks.rank() == 0:
        shutil.copytree(folder / "capture", folder / "incomplete")
    ranks.meet()
    picture = sorted((folder / "incomplete" / "images").iterdir())[0]

    def order(self: Run, wanted: Callable[[], str]) -> tuple[float, str]:
        if self.images == FAULT_AT and ranks.rank() == 0:
            picture.rename(folder / picture.name)
        return plain(self, wanted)

    stages = {"schedule.stages_from": f"[0, {FAULT_AT}]"}
    with mock.patch.object(Run, "order", order):
        first = trained(folder, folder / "missing", capture="incomplete", **stages)
    if ranks.rank() == 0:
        (folder / picture.name).rename(picture)
    ranks.meet()
    again = trained(folder, folder / "missing", capture="incomplete", **stages)
    return {"first": first, "again": again, "picture": picture.name}


def late() -> str:
    """What the first hears of a sum to which the second does not come."""
    heard = ""
    if ranks.rank() == 0:
        _set_pg_timeout(timedelta(seconds=SUM_S))
        try:
            dist.all_reduce(torch.ones(1))
        except RuntimeError as error:
            heard = str(error)
    ranks.meet()
    return heard


def in_order() -> dict[str, Any]:
    """What two steps give of two parameters whose gradients come in the order in which they are listed."""
    last, first = (torch.tensor([value], requires_grad=True) for value in (3.0, 5.0))
    shared = SharedGradients((last, first), bucket_bytes=1)
    given = []
    for _ in range(2):
        loss = (1 + ranks.rank()) * (first * 2 * last).sum()  # backward comes to `last` before it comes to `first`
        given.append([{str(at): float(value) for at, value in part.items()} for part in shared.of(loss)])
    return {"given": given, "buckets": [list(bucket.views) for bucket in shared.buckets]}


def main() -> None:
    """All of them."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    ranks.join(torch.device("cpu"))
    saw: dict[str, Any] = {where: short(folder, where) for where in SHORT}
    saw |= {"full": full(folder), "nan": not_a_number(folder), "missing": missing(folder), "in_order": in_order()}
    saw["late"] = late()  # the last: it leaves the processes without a connection
    (folder / f"saw.{ranks.rank()}.json").write_text(json.dumps(saw))
    ranks.leave()


if __name__ == "__main__":
    main()
