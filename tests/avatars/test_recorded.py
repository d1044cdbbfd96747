"""Recording as CUDA graphs: what is recorded gives what plain calls give, and a device that refuses is said once."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import torch
from torch import Tensor, nn

from avatars.recorded import Recorded, RecordedSteps

log = logging.getLogger("effigy.tests")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight


def test_a_device_that_refuses_is_said_once_and_steps_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*given: object, **named: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuses)
    module, steps = Twice(), RecordedSteps("steps", log)
    with caplog.at_level(logging.WARNING, "effigy.tests"):
        for kind in ("a", "b", "a"):
            found = steps(kind, lambda: module, (torch.tensor([1.0, 10.0]),))
            assert found.tolist() == [2.0, 30.0]
    assert steps.refused
    assert [record.getMessage().count("not permitted") for record in caplog.records] == [1]
    assert torch.autograd.grad(found.sum(), module.weight)[0].tolist() == [1.0, 10.0]


def test_nothing_is_collected_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old graph destroyed in the middle of a recording would end it; Python frees those in cycles when it likes."""
    seen = []

    def record(module: nn.Module, sample: object, **named: object) -> nn.Module:
        seen.append((gc.isenabled(), old() is None))
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    module = Twice()
    module.itself = [module]  # type: ignore[assignment]
    old = weakref.ref(module)
    del module
    RecordedSteps("steps", log)("a", Twice, (torch.ones(2),))
    assert seen == [(False, True)]
    assert gc.isenabled()


def test_kinds_gone_by_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda module, sample, **named: module)
    steps = RecordedSteps("steps", log, most=1)
    for kind in (1, 2, 2, 3):
        steps(kind, Twice, (torch.ones(2),))
        assert list(steps.recorded) == [kind]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_is_recorded_follows_its_inputs() -> None:
    recorded = Recorded(lambda one, two: one * 2 + two, "sums", log)
    for value in (1.0, 5.0):
        one, two = torch.full((4,), value, device="cuda"), torch.arange(4, device="cuda")
        assert recorded(one, two).tolist() == (one * 2 + two).tolist()
    assert not recorded.refused
    module, steps = Twice().cuda(), RecordedSteps("steps", log)
    for value in (1.0, 4.0):
        found = steps("a", lambda: module, (torch.full((2,), value, device="cuda"),))
        assert found.tolist() == [2 * value, 3 * value]
        assert torch.autograd.grad(found.sum(), module.weight)[0].tolist() == [value, value]
        del found
    assert not steps.refused
