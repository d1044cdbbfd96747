"""Gradients summed over all processes, in a few large buckets that are on their way while backward still goes on."""

from __future__ import annotations

from collections.abc import Sequence
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


class SharedGradients:
    """What `torch.autograd.grad` gives, summed over all processes.

    Buckets hold the parameters that had a gradient in the last step, the last first, as backward comes to them. All
    processes send them in one order: each when it is full and those before it are sent. A parameter that has gone
    without (its stage has not begun) and has one now is summed afterwards. One counts as having a gradient where any
    process has one.
    """

    def __init__(self, parameters: Sequence[Tensor], bucket_bytes: int = BUCKET_BYTES) -> None:
        self.parameters, self.bucket_bytes = tuple(parameters), bucket_bytes
        self.buckets: list[_Bucket] = []
        self.bucket_of: dict[int, _Bucket] = {}
        self.active, self.sent = False, 0
        for index, parameter in enumerate(self.parameters):
            parameter.register_hook(partial(self._arrived, index))  # type: ignore[no-untyped-call]

    def of(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients by the parameters; None for those of which no process has one. They last until the next step.

        Raises ranks.Short, on all processes, where one has no memory for them.
        """
        ranks.meet()  # from here to the last sum all send the same, whatever happens
        self.active, self.sent, short = True, 0, False
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
        told = torch.tensor([*(value is not None for value in own), short], dtype=torch.int32)
        dist.all_reduce(told)
        *used, lacking = told.tolist()
        for bucket in self.buckets:
            assert bucket.work is not None
            bucket.work.wait()
        if lacking:
            raise ranks.Short(f"{lacking} of {ranks.count()} processes of the training out of memory")
        gradients: list[Tensor | None] = [None] * len(own)
        for index, bucket in self.bucket_of.items():
            if used[index]:
                gradients[index] = bucket.views[index]
        late = [index for index, wanted in enumerate(used) if wanted and index not in self.bucket_of]
        for index, value in zip(late, self._summed([(index, own[index]) for index in late]), strict=True):
            gradients[index] = value
        now = [index for index, wanted in enumerate(used) if wanted]
        if now != sorted(self.bucket_of):
            self._fill_anew(now)
        return gradients

    def _arrived(self, index: int, gradient: Tensor) -> None:
        bucket = self.bucket_of.get(index)
        if not self.active or bucket is None:
            return
        bucket.found[index] = gradient
        if gradient.is_cuda:
            bucket.streams.add(torch.cuda.current_stream(gradient.device))
        ready = self.sent
        while ready < len(self.buckets) and len(self.buckets[ready].found) == len(self.buckets[ready].views):
            ready += 1
        self._send(ready)

    def _send(self, until: int) -> None:
        """Begin to sum the buckets up to `until`; what of them has no gradient here counts as zero."""
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

    def _fill_anew(self, used: Sequence[int]) -> None:
        groups: list[list[int]] = []
        room = 0
        for index in reversed(used):
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
