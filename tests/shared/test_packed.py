"""Packed viewport pictures: exact integers, what they keep, and where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from shared.packed import DEPTH_STEPS, pack, unpack

NEAR_M, FAR_M = 0.5, 8.0


def picture(seed: int = 0, shape: tuple[int, int] = (12, 17)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    alpha = random.integers(0, 256, (*shape, 1)) / 255
    colour = random.random((*shape, 3)) * alpha
    depth = np.where(alpha > 0, random.uniform(NEAR_M, FAR_M, (*shape, 1)), 0)
    return np.concatenate([colour, alpha], -1).astype(np.float32), depth.astype(np.float32)


def test_values_are_whole_and_below_two_to_the_24() -> None:
    packed = pack(*picture(), NEAR_M, FAR_M)
    assert packed.dtype == np.float32
    np.testing.assert_array_equal(packed, np.rint(packed))
    assert packed.min() >= 0
    assert packed.max() < 2**24


def test_what_comes_out_is_within_half_a_step_of_what_went_in() -> None:
    combined, depth = picture()
    colour, far = unpack(pack(combined, depth, NEAR_M, FAR_M), NEAR_M, FAR_M)
    np.testing.assert_allclose(colour[..., 3], combined[..., 3], atol=1e-6)
    # half a step of 1/255 in sRGB is at most 2.4/1.055 times as much in linear light
    np.testing.assert_allclose(colour[..., :3], combined[..., :3], atol=0.5 / 255 * 2.4)
    step = np.log(FAR_M / NEAR_M) / DEPTH_STEPS
    there = depth > 0
    np.testing.assert_allclose(np.log(far[there]), np.log(depth[there]), atol=0.51 * step)
    assert (far[~there] == 0).all()


def test_packing_again_changes_nothing() -> None:
    packed = pack(*picture(1), NEAR_M, FAR_M)
    np.testing.assert_array_equal(pack(*unpack(packed, NEAR_M, FAR_M), NEAR_M, FAR_M), packed)


@pytest.mark.parametrize(
    ("rgba", "depth_m"),
    [((0, 0, 0, 0), 0.0), ((0, 0, 0, 0.001), 1.0), ((0.5, 0.5, 0.5, 1), 0.0)],
    ids=["nothing", "too faint", "no depth"],
)
def test_what_is_not_there_is_zero(rgba: tuple[float, ...], depth_m: float) -> None:
    packed = pack(np.full((1, 1, 4), rgba, np.float32), np.full((1, 1, 1), depth_m, np.float32), NEAR_M, FAR_M)
    assert (packed == 0).all()


def test_what_does_not_fit_is_cut() -> None:
    bright = np.array([[[4.0, -1.0, 0.5, 1.0]]], np.float32)
    colour, depth = unpack(pack(bright, np.full((1, 1, 1), 99.0), NEAR_M, FAR_M), NEAR_M, FAR_M)
    np.testing.assert_allclose(colour[0, 0], (1, 0, 0.5, 1), atol=5e-3)
    assert depth[0, 0, 0] == pytest.approx(FAR_M, rel=1e-6)
