"""Packing on the device gives what the numpy reference gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.rendering.packed import pack
from shared import packed as reference

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
NEAR_M, FAR_M = 0.3, 20.0


@pytest.mark.parametrize("device", DEVICES)
def test_equal_to_the_reference(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    random = torch.Generator().manual_seed(0)
    cover = torch.rand(40, 31, generator=random) * 1.2 - 0.1
    cover[0], cover[1] = 0, 1
    colour = torch.rand(40, 31, 3, generator=random) * cover.clamp(min=0)[..., None] * 1.5
    depth = torch.rand(40, 31, generator=random) * 25
    depth[2] = 0
    packed = pack(*(image.to(device) for image in (colour, cover, depth)), NEAR_M, FAR_M).cpu().numpy()
    whole = torch.cat([colour, cover[..., None]], -1).numpy()
    expected = reference.pack(whole, depth[..., None].numpy(), NEAR_M, FAR_M)
    wrong = (packed != expected).any(-1)
    # float32 and float64 may round a value between two steps to either
    assert wrong.mean() < 0.01
    for ours, theirs in zip(
        reference.unpack(packed, NEAR_M, FAR_M), reference.unpack(expected, NEAR_M, FAR_M), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1.1 / 255 * 2.4, rtol=1e-3)
    assert (packed[:1] == 0).all()
    assert (packed[2] == 0).all()


def test_an_empty_picture_is_zero() -> None:
    zero = torch.zeros(3, 4)
    assert not pack(torch.zeros(3, 4, 3), zero, zero, NEAR_M, FAR_M).any()
