"""Functions of tensors on CUDA recorded as graphs: many small launches for the price of one. For one thread.

A graph reads and writes the memory it was recorded with: what it reads beside its inputs may change in place, but not
move. What cannot be recorded (whatever waits for the device, as a rasteriser that reads a count back) stays outside.
Where a device refuses to record, which is said once, calls are plain ones.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

WARM_UP_CALLS = 3
Found = TypeVar("Found")


class Recorded(Generic[Found]):
    """`act` without gradients, recorded at the first call. What it returns is the graph's own memory: the next call
    writes over it. what: is being recorded, for the log."""

    def __init__(self, act: Callable[..., Found], what: str, log: logging.Logger) -> None:
        self.act, self.what, self.log = act, what, log
        self.graph: torch.cuda.CUDAGraph | None = None
        self.refused = False
        self.inputs: tuple[Tensor, ...] = ()
        self.found: Found | None = None

    def __call__(self, *given: Tensor) -> Found:
        """What `act` gives for tensors of the shapes of the first call."""
        if self.graph is None and not self.refused:
            self._record(given)
        if self.graph is None or self.found is None:
            return self.act(*(_plain(value) for value in given))
        torch._foreach_copy_(list(self.inputs), list(given))
        self.graph.replay()
        return self.found

    def _record(self, given: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(_plain(value).clone() for value in given)
        here, aside = torch.cuda.current_stream(given[0].device), torch.cuda.Stream(given[0].device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):  # compiles kernels and fills caches, which cannot be recorded
            for _ in range(WARM_UP_CALLS):
                self.act(*self.inputs)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with _nothing_collected(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.found = self.act(*self.inputs)
        except RuntimeError as error:
            self.refused, self.found = True, None
            _say(self.log, self.what, error)
            return
        self.graph = graph


class RecordedSteps:
    """Forward and backward passes of modules, recorded as one pair of graphs for each kind of step.

    Parameters must keep their memory. Gradients land in tensors that the next step of the kind writes over. most: kinds
    kept at once, where those gone by do not come back (each holds all memory of its step); None for all.
    """

    def __init__(self, what: str, log: logging.Logger, most: int | None = None) -> None:
        self.what, self.log, self.most = what, log, most
        self.recorded: dict[Hashable, nn.Module] = {}
        self.refused = False

    def __call__(self, kind: Hashable, make: Callable[[], nn.Module], given: tuple[Tensor, ...]) -> Any:
        """What the module that `make` makes returns for `given`, differentiable by its parameters and by those of
        `given` that are. Shapes and what else decides the course of the module belong into its kind."""
        if kind not in self.recorded:
            if self.most is not None and len(self.recorded) >= self.most:
                self.recorded.clear()
            self.recorded[kind] = self._record(make, given)
        return self.recorded[kind](*given)

    def _record(self, make: Callable[[], nn.Module], given: tuple[Tensor, ...]) -> nn.Module:
        """A recorded module, or a plain one.

        Recording fails while an earlier step's loss is still alive: its autograd nodes belong to the ordinary stream.
        """
        if self.refused:
            return make()
        sample = tuple(value.detach().clone().requires_grad_(value.requires_grad) for value in given)
        quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if quiet is not None:  # recorded nodes live on in another stream; here nothing is accumulated in them
            quiet(False)
        try:
            # Which parameters take part depends on the kind of step, hence unused inputs.
            with _nothing_collected():
                found = torch.cuda.make_graphed_callables(make(), sample, allow_unused_input=True)
        except RuntimeError as error:
            self.refused = True
            _say(self.log, self.what, error)
            return make()  # the other one may be half changed
        assert isinstance(found, nn.Module)
        return found


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """While it lasts no garbage is collected: a graph that is destroyed while another is recorded ends the recording,
    and Python may find the old one (in a cycle with its module) at any moment."""
    gc.collect()
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _plain(value: Tensor) -> Tensor:
    value = value.detach()
    return (value.float() if value.is_floating_point() else value).contiguous()


def _say(log: logging.Logger, what: str, error: RuntimeError) -> None:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    log.warning("%s cannot be recorded as a graph here, so calls are plain ones: %s", what, first)
