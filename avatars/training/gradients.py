"""Gradients summed over all processes, in a few large buckets that are on their way while backward still goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from avatars.training import ranks

BUCKET_BYTES = 25 << 20


@dataclass(eq=False)
class _Bucket:
    """Some parameters' gradients as one flat tensor. views: of it, by parameter; streams: where they were made."""

    flat: Tensor
    views: dict[int, Tensor]
    found: dict[int, Tensor] = field(default_factory=dict)
    streams: set[torch.cuda.Stream] = field(default_factory=set)
    work: dist.Work | None = None

    def wait(self) -> None:
        """What the current stream does from here on has the sum; on the host, this waits for it."""
        assert self.work is not None
        self.work.wait()


class SharedGradients:
    """What `torch.autograd.grad` gives, summed over all processes.

    Buckets hold the parameters that had a gradient in the last step, in the order in which backward came to them on the
    first process (a bucket waits for its last). All processes send them in one order: each when it is full and those
    before it are sent. A parameter that has gone without (its stage has not begun) and has one now is summed when all
    buckets are. One counts as having a gradient where any process has one.
    """

    def __init__(self, parameters: Sequence[Tensor], bucket_bytes: int = BUCKET_BYTES) -> None:
        self.parameters, self.bucket_bytes = tuple(parameters), bucket_bytes
        self.buckets: list[_Bucket] = []
        self.bucket_of: dict[int, _Bucket] = {}
        self.active, self.sent = False, 0
        self.came: list[int] = []
        self.meeting: ranks.Meeting | None = None
        self.short = ""
        for index, parameter in enumerate(self.parameters):
            parameter.register_hook(partial(self._arrived, index))  # type: ignore[no-untyped-call]

    def of(self, loss: Tensor) -> Iterator[dict[int, Tensor]]:
        """Gradients by the parameters' places, a bucket's together, as their sums come in: what is done with one bucket
        is done while the next is on its way. None of parameters of which no process has one. They last until the next
        step.

        Raises ranks.Short, on all processes and before anything is given, where one has no memory for them.
        """
        # From the end of this meeting to the last sum all send the same, whatever happens. It ends when there is
        # something to send: until then the host gives the device the first part of backward.
        self.meeting, self.short = ranks.begin_to_meet(), ""
        self.active, self.sent, short = True, 0, False
        self.came.clear()
        own: Sequence[Tensor | None]
        for bucket in self.buckets:
            bucket.found.clear()
            bucket.streams.clear()
        try:
            own = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        except torch.OutOfMemoryError:  # what it holds is let go with its traceback, at the end of this block
            own, short = [None] * len(self.parameters), True
        finally:
            self.active = False
        self._send(len(self.buckets))
        self._meet()
        if self.short:
            raise ranks.Short(self.short)
        told = torch.tensor([*(value is not None for value in own), short], dtype=torch.int32)
        dist.all_reduce(told)
        *used, lacking = told.tolist()
        late = [index for index, wanted in enumerate(used) if wanted and index not in self.bucket_of]
        if lacking or late:
            for bucket in self.buckets:
                bucket.wait()
        if lacking:
            raise ranks.Short(f"{lacking} of {ranks.count()} processes of the training out of memory")
        rest = dict(zip(late, self._summed([(index, own[index]) for index in late]), strict=True))
        sent = self.buckets
        now = [index for index, wanted in enumerate(used) if wanted]
        if now != sorted(self.bucket_of):
            self._fill_anew(self._agreed_order(now))
        return _as_they_come(sent, used, rest)

    def _arrived(self, index: int, gradient: Tensor) -> None:
        if not self.active:
            return
        self.came.append(index)
        bucket = self.bucket_of.get(index)
        if bucket is None:
            return
        bucket.found[index] = gradient
        if gradient.is_cuda:
            bucket.streams.add(torch.cuda.current_stream(gradient.device))
        ready = self.sent
        while ready < len(self.buckets) and len(self.buckets[ready].found) == len(self.buckets[ready].views):
            ready += 1
        self._send(ready)

    def _meet(self) -> None:
        """End the meeting, once; that one is short is raised later, for this may run within backward."""
        meeting, self.meeting = self.meeting, None
        if meeting is not None:
            try:
                meeting.end()
            except ranks.Short as error:
                self.short = str(error)  # the error itself would hold this step's memory

    def _send(self, until: int) -> None:
        """Begin to sum the buckets up to `until`; what of them has no gradient here counts as zero."""
        if self.sent < until:
            self._meet()
        if self.short:
            return
        for bucket in self.buckets[self.sent : until]:
            if bucket.flat.is_cuda:
                here = torch.cuda.current_stream(bucket.flat.device)
                for stream in bucket.streams - {here}:
                    here.wait_stream(stream)
            if len(bucket.found) < len(bucket.views):
                bucket.flat.zero_()
            if bucket.found:
                with torch.no_grad():
                    torch._foreach_copy_([bucket.views[index] for index in bucket.found], list(bucket.found.values()))
            bucket.work = dist.all_reduce(bucket.flat, async_op=True)
        self.sent = max(self.sent, until)

    def _summed(self, values: Sequence[tuple[int, Tensor | None]]) -> list[Tensor]:
        if not values:
            return []
        sizes, flat = [self.parameters[index].numel() for index, _ in values], torch.empty(0)
        try:
            plain = [torch.zeros_like(self.parameters[index]) if one is None else one for index, one in values]
            flat = torch.cat([one.reshape(-1) for one in plain])
        except torch.OutOfMemoryError:
            pass
        ranks.meet(short=len(flat) != sum(sizes))
        dist.all_reduce(flat)
        parts = zip(flat.split(sizes), values, strict=True)
        return [part.view_as(self.parameters[index]) for part, (index, _) in parts]

    def _agreed_order(self, used: Sequence[int]) -> list[int]:
        """Parameters as backward came to them on the first process, then those of which it has no gradient."""
        wanted = set(used)
        came = dict.fromkeys(index for index in self.came if index in wanted)
        order = [*came, *(index for index in reversed(used) if index not in came)]
        return [int(index) for index in ranks.first_says(order)]

    def _fill_anew(self, order: Sequence[int]) -> None:
        groups: list[list[int]] = []
        room = 0
        for index in order:
            size = self.parameters[index].numel() * self.parameters[index].element_size()
            if not groups or size > room:
                groups.append([])
                room = self.bucket_bytes
            groups[-1].append(index)
            room -= size
        self.buckets = []
        for group in groups:
            sizes = [self.parameters[index].numel() for index in group]
            flat = torch.zeros(sum(sizes), device=self.parameters[group[0]].device)
            parts = zip(group, flat.split(sizes), strict=True)
            self.buckets.append(_Bucket(flat, {index: part.view_as(self.parameters[index]) for index, part in parts}))
        self.bucket_of = {index: bucket for bucket in self.buckets for index in bucket.views}


def _as_they_come(
    buckets: Sequence[_Bucket], used: Sequence[int], rest: Mapping[int, Tensor]
) -> Iterator[dict[int, Tensor]]:
    for bucket in buckets:
        bucket.wait()
        yield {index: view for index, view in bucket.views.items() if used[index]}
    yield dict(rest)
