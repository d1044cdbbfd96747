"""What a render worker leaves out of its imports is left out, and is there for whoever wants it later."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from backend.quick_imports import complete_torch, load_numba, load_torch

load_torch()
load_numba()
import numba, numpy, torch
assert "torch._meta_registrations" not in sys.modules and not hasattr(torch, "_meta_registrations")
assert not any(name.startswith("scipy.linalg") for name in sys.modules)
assert (2 * torch.linalg.solve(2 * torch.eye(3), torch.ones(3)) == 1).all()
assert torch.rand(2, generator=torch.Generator().manual_seed(1)).shape == (2,)
weight = torch.ones(3, requires_grad=True)
torch.nn.functional.conv1d(torch.ones(1, 1, 5), weight[None, None]).sum().backward()
assert weight.grad.tolist() == [3, 3, 3]
assert numba.njit(lambda values: values.sum())(numpy.ones(4)) == 4

complete_torch()
import scipy.linalg.cython_blas
import torch._decomp  # as a compiler does
assert torch.linalg.solve(torch.ones(3, 3, device="meta"), torch.ones(3, device="meta")).shape == (3,)
assert torch.compile(lambda values: values + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
"""


def test_left_out_parts_are_not_missed_and_can_be_had_later() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
