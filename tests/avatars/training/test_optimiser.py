"""Adam over parameters, whatever their layout in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatars.training.optimiser import Optimiser
from avatars.training.trainer import RatedParameter

NO_DEVICE = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_DEVICE])]


@pytest.mark.parametrize("device", DEVICES)
def test_a_parameter_in_another_order_of_memory_learns_as_one_in_the_usual_order(device: str) -> None:
    torch.manual_seed(0)
    start, aim = torch.rand(2, 4, 6, 3, device=device)
    turned = start.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not turned.is_contiguous()

    def learned(first: Tensor) -> Tensor:
        parameter = torch.nn.Parameter(first.clone())
        optimiser = Optimiser([RatedParameter("light", parameter, 0.05, 0.05, 100)])
        for step in range(20):
            optimiser.step(((parameter - aim) ** 2).sum(), step)
        return parameter.detach()

    torch.testing.assert_close(learned(turned), learned(start), rtol=0, atol=0)
    assert (learned(turned) - aim).abs().mean() < 0.3 * (start - aim).abs().mean()
