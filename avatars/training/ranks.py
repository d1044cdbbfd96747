"""Several processes train one model, a device each: which pictures of a step are this one's, and what all agree on.

The processes are torchrun's (`torch.distributed`). They hold the same model, draw the same order of pictures, take a
share of each step's pictures each and make the same step with the sum of their gradients. Where there is one process
every function here gives back what it was given. What is called by one process must be called by all, in one order.

All that is said begins with a meeting (`meet`). Who is out of memory says so at the next one instead of what was due,
and all know it there, so that nobody waits for a sum that does not come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from shared.errors import EnvironmentFailed

if TYPE_CHECKING:
    from avatars.training.config import Schedule
    from avatars.training.trainer import RatedParameter, Trainer

PATIENCE = timedelta(days=7)
"""Given to meetings and to what the first says: it waits for room on a disk, measures, reads, makes an edit's pictures,
and all that takes as long as it takes. Who dies is noticed by torchrun, who stands still by the server's watchdog."""
STEP_PATIENCE = timedelta(minutes=30)
"""Given to a step's sums, to which all come from one meeting: who is that late hangs; then all go on from a
checkpoint."""
_groups: dict[str, dist.ProcessGroup] = {}
"""PATIENT: of all processes, on the host, with PATIENCE. Waiting there costs neither a core nor a GPU."""
PATIENT = "patient"


class Short(torch.OutOfMemoryError):
    """One of the processes is out of memory. Raised on all of them at one place."""


def join(device: torch.device) -> None:
    """Meet the other processes that torchrun started. Raises EnvironmentFailed."""
    kind = "cpu:gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        kind += ",cuda:nccl"
    try:
        dist.init_process_group(kind, timeout=STEP_PATIENCE)
        _groups[PATIENT] = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EnvironmentFailed("The processes of the training did not meet", found=str(error)) from error


def leave() -> None:
    """Part from the others, when the first has done what it does alone."""
    if count() > 1:
        meet()
        _groups.clear()
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is. 0 writes, tells and decides."""
    return dist.get_rank() if count() > 1 else 0


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures first to last (excluded) of a step's `whole` are this process's.

    images: [whole] int64 on the host, the capture's index of each picture of the step, where known. split: all
    processes have the same pictures, and each looks at another part of their rays.
    """

    first: int
    last: int
    whole: int
    images: Tensor | None = None
    split: bool = False

    @property
    def share(self) -> float:
        """What this process's mean over its pictures counts in the mean over all."""
        return 1 / count() if self.split else (self.last - self.first) / self.whole

    def of(self, values: Tensor) -> Tensor:
        """This process's rows of values [whole, ...]."""
        return values[self.first : self.last]


def part_of(whole: int, views: int, *, splits: bool = False) -> Part:
    """This process's part of a step of so many pictures; `views` of one frame stay together where all get some.

    splits: where there are fewer pictures than processes, rays are shared instead.
    """
    several, mine = count(), rank()
    if splits and whole < several:
        return Part(0, whole, whole, split=True)
    together = views if whole % views == 0 and whole // views >= several else 1
    units = whole // together
    first, last = (units * row // several * together for row in (mine, mine + 1))
    return Part(first, last, whole)


def batch_of(plan: Schedule, *, splits: bool = False, several: int = 0) -> int:
    """How many pictures all processes (so many, default: those there are) take together in a step."""
    several = several or count()
    if plan.grow_batch:
        return plan.batch * several
    return plan.batch if splits else max(plan.batch, several)


def grown(parameters: Sequence[RatedParameter], times: float) -> tuple[RatedParameter, ...]:
    """The same with the rates of a batch `times` as large: times its square root (Malladi et al. 2022)."""
    if times == 1:
        return tuple(parameters)
    more = times**0.5
    return tuple(
        replace(entry, start_rate=entry.start_rate * more, final_rate=entry.final_rate * more) for entry in parameters
    )


@dataclass(eq=False)
class Meeting:
    """One that has begun. told: processes out of memory, and what the first brings; summed when `work` is done."""

    told: Tensor
    work: dist.Work

    def end(self) -> tuple[float, int]:
        """Wait until all processes are here, however long; what the first brings. Raises Short, on all."""
        self.work.wait()
        short, at, number = self.told.tolist()
        if short:
            raise Short(f"{int(short)} of {count()} processes of the training out of memory")
        return at, int(number)


def begin_to_meet(at: float = 0.0, number: int = 0, *, short: bool = False) -> Meeting:
    """Come to the meeting of several without waiting for the others: what is done until its end must need none of
    them."""
    brought = (at, number) if rank() == 0 else (0.0, 0)
    told = torch.tensor([short, *brought], dtype=torch.float64)
    return Meeting(told, dist.all_reduce(told, group=_groups[PATIENT], async_op=True))


def meet(at: float = 0.0, number: int = 0, *, short: bool = False) -> tuple[float, int]:
    """Wait until all processes are here, however long; what the first brings is what all take with them.

    short: this process is out of memory. Raises Short, on all, where one is.
    """
    return begin_to_meet(at, number, short=short).end() if count() > 1 else (at, number)


def say_short() -> None:
    """Tell the others, wherever they meet next, that this process is out of memory."""
    with contextlib.suppress(Short):
        meet(short=True)


def summed(values: Tensor) -> Tensor:
    """The sum over all processes of values of one shape, in place. Raises Short."""
    if count() > 1:
        meet()
        dist.all_reduce(values)
    return values


def highest(values: Tensor) -> Tensor:
    """The largest over all processes of values of one shape, in place. Raises Short."""
    if count() > 1:
        meet()
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def first_says(numbers: Iterable[float]) -> list[float]:
    """What process 0 says, on all of them; as many numbers everywhere. Raises Short."""
    told = torch.tensor(list(numbers), dtype=torch.float64)
    if count() > 1:
        meet()
        dist.broadcast(told, 0, group=_groups[PATIENT])
    return [float(number) for number in told]


def of_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Process 0's tensors on all of them, on the host; names and shapes may differ before. Raises Short."""
    if count() == 1:
        return dict(tensors)
    packed = torch.empty(0, dtype=torch.uint8)
    if rank() == 0:
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        packed = torch.frombuffer(bytearray(save(plain)), dtype=torch.uint8)
    (size,) = first_says([len(packed)])
    if rank():
        packed = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(packed, 0, group=_groups[PATIENT])
    return load(packed.numpy().tobytes())


def align(trainer: Trainer) -> None:
    """Give all processes the model as process 0 has it: work done side by side may differ in the last bits."""
    if count() == 1:
        return
    entries = trainer.parameters()
    found = of_first(
        {f"parameter.{entry.name}": entry.parameter for entry in entries}
        | {f"trainer.{name}": value for name, value in trainer.state().items()}
    )
    with torch.no_grad():
        for entry in entries:
            entry.parameter.copy_(found.pop(f"parameter.{entry.name}"))
    trainer.restore({name.removeprefix("trainer."): value for name, value in found.items()})


def evened(terms: Mapping[str, Tensor], counts: Mapping[str, Tensor], part: Part | None) -> dict[str, Tensor]:
    """Terms of which some are means over counted things (pixels, samples) that each process has other numbers of.

    counts: of those terms, how many this process has. With the weights that this makes of them, the sum over all
    processes of share times term is the mean over all that was counted. Counts must have the same names everywhere.
    """
    if count() == 1 or part is None:
        return dict(terms)
    mine = torch.stack([value.detach().float().reshape(()) for value in counts.values()])
    scale = mine / (part.share * summed(mine.clone())).clamp_min(1e-20)
    factors = dict(zip(counts, scale, strict=True))
    return {name: value * factors[name] if name in factors else value for name, value in terms.items()}
