"""Metrics and losses against independent numpy/scipy versions and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.training.flip import PIXELS_PER_DEGREE, flip, flip_map
from avatars.training.losses import dssim_loss, l1_loss
from avatars.training.metrics import SCALE_WEIGHTS, ms_ssim, psnr
from avatars.training.ssim import ssim
from shared.errors import EffigyError

ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is used by tests only")


def pair(frames: int, height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    first = torch.rand(frames, height, width, channels, generator=rng)
    return first, (0.6 * first + 0.4 * torch.rand(first.shape, generator=rng)).clamp(0, 1)


def window_2d() -> NDArray:
    offset = np.arange(11) - 5
    line = np.exp(-(offset**2) / (2 * 1.5**2))
    return np.outer(line, line) / line.sum() ** 2


def ssim_maps(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Luminance and structure of one channel, borders padded with zeros."""

    def mean(values: NDArray) -> NDArray:
        return ndimage.correlate(values, window_2d(), mode="constant")

    mx, my = mean(x), mean(y)
    sx, sy, sxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * sxy + c2) / (sx + sy + c2)


@pytest.mark.parametrize("shape", [(1, 13, 21, 3), (2, 40, 33, 1), (1, 5, 3, 2), (1, 1, 1, 1)])
def test_ssim_value_and_gradient(shape: tuple[int, int, int, int]) -> None:
    x, y = pair(*shape)
    expected = [
        np.mean([np.prod(ssim_maps(a[..., c], b[..., c]), axis=0) for c in range(shape[3])])
        for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    torch.testing.assert_close(ssim(x, y).double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ssim(x.double(), y.double()), torch.tensor(expected, dtype=torch.float64))
    weights = torch.arange(1.0, shape[0] + 1)
    compiled = x.clone().requires_grad_()
    (got,) = torch.autograd.grad((ssim(compiled, y) * weights).sum(), compiled)
    plain = x.double().requires_grad_()
    (want,) = torch.autograd.grad((ssim(plain, y.double()) * weights).sum(), plain)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-5 * float(want.abs().max()))


def test_compiled_ssim_does_not_depend_on_threads() -> None:
    x, y = pair(2, 31, 50)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            loss = dssim_loss(leaf, y)
            results.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


def test_losses() -> None:
    x, y = pair(2, 20, 20)
    assert float(dssim_loss(x, x)) == pytest.approx(0, abs=1e-6)
    assert float(dssim_loss(x, y)) == pytest.approx(1 - float(ssim(x, y).mean()), abs=1e-6)
    assert float(l1_loss(x, y)) == pytest.approx(float((x - y).abs().mean()))
    with pytest.raises(EffigyError, match="do not fit"):
        l1_loss(x, y[:1])
    with pytest.raises(EffigyError, match="do not fit"):
        ssim(x[0], y[0])


def test_psnr() -> None:
    zero = torch.zeros(2, 4, 4, 3)
    shifted = torch.stack([torch.full((4, 4, 3), 0.1), torch.zeros(4, 4, 3)])
    found = psnr(zero, shifted)
    assert float(found[0]) == pytest.approx(20.0, abs=1e-4)
    assert math.isinf(float(found[1]))


def test_ms_ssim_against_scipy() -> None:
    x, y = pair(1, 180, 197, 1)
    a, b, expected = x[0, ..., 0].double().numpy(), y[0, ..., 0].double().numpy(), 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, structure = (part[5:-5, 5:-5] for part in ssim_maps(a, b))
        expected *= np.mean(luminance * structure if scale == 4 else structure) ** weight
        height, width = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a, b = (v[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for v in (a, b))
    assert float(ms_ssim(x, y)) == pytest.approx(expected, rel=1e-4)
    assert float(ms_ssim(x, x)) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(EffigyError, match="too small"):
        ms_ssim(x[:, :100], y[:, :100])


def flip_by_scipy(first: NDArray, second: NDArray, ppd: float) -> NDArray:
    """One pair of images, from the paper's formulas, straight 2-D convolutions."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    white = matrix.sum(axis=1)

    def linear(v: NDArray) -> NDArray:
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    def opponent(v: NDArray) -> NDArray:
        x, y, z = np.moveaxis(v @ matrix.T / white, -1, 0)
        return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)

    def back(v: NDArray) -> NDArray:
        y = (v[..., 0] + 16) / 116
        return (np.stack([y + v[..., 1] / 500, y, y - v[..., 2] / 200], axis=-1) * white) @ np.linalg.inv(matrix).T

    def lab(v: NDArray) -> NDArray:
        t = v @ matrix.T / white
        f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
        light = 116 * f[..., 1] - 16
        return np.stack(
            [light, 0.01 * light * 500 * (f[..., 0] - f[..., 1]), 0.01 * light * 200 * (f[..., 1] - f[..., 2])], axis=-1
        )

    def hyab(a: NDArray, b: NDArray) -> NDArray:
        return abs(a[..., 0] - b[..., 0]) + np.hypot(a[..., 1] - b[..., 1], a[..., 2] - b[..., 2])

    def spread(v: NDArray) -> NDArray:
        radius = math.ceil(3 * math.sqrt(0.04 / (2 * math.pi**2)) * ppd)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] / ppd
        channels = []
        for c, terms in enumerate([[(1, 0.0047)], [(1, 0.0053)], [(34.1, 0.04), (13.5, 0.025)]]):
            kernel = sum(a * math.sqrt(math.pi / b) * np.exp(-(math.pi**2) * (x * x + y * y) / b) for a, b in terms)
            channels.append(ndimage.convolve(v[..., c], kernel / kernel.sum(), mode="nearest"))
        return np.stack(channels, axis=-1)

    def strengths(light: NDArray) -> list[NDArray]:
        deviation = 0.5 * 0.082 * ppd
        radius = math.ceil(3 * deviation)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(float)
        bell, found = np.exp(-(x * x + y * y) / (2 * deviation**2)), []
        for kernel in (-x * bell, (x * x / deviation**2 - 1) * bell):
            even = np.where(kernel > 0, kernel / kernel[kernel > 0].sum(), kernel / -kernel[kernel < 0].sum())
            found.append(np.hypot(*(ndimage.correlate(light, k, mode="nearest") for k in (even, even.T))))
        return found

    a, b = opponent(linear(first)), opponent(linear(second))
    error = hyab(*(lab(np.clip(back(spread(v)), 0, 1)) for v in (a, b))) ** 0.7
    largest = hyab(lab(np.array([0.0, 1, 0])), lab(np.array([0.0, 0, 1]))) ** 0.7
    cut = 0.4 * largest
    colour = np.where(error < cut, 0.95 / cut * error, 0.95 + (error - cut) / (largest - cut) * 0.05)
    features = [strengths((v[..., 0] + 16) / 116) for v in (a, b)]
    change = np.maximum(*(abs(p - q) for p, q in zip(*features, strict=True)))
    return colour ** (1 - np.sqrt(change / math.sqrt(2)))


def test_flip_against_scipy() -> None:
    x, y = pair(1, 40, 36)
    expected = flip_by_scipy(x[0].double().numpy(), y[0].double().numpy(), PIXELS_PER_DEGREE)
    np.testing.assert_allclose(flip_map(x.double(), y.double())[0].numpy(), expected, atol=2e-3)  # sRGB digits differ
    assert float(flip(x, y)) == pytest.approx(float(expected.mean()), abs=1e-3)


def test_flip_of_flat_colours() -> None:
    def flat(*colour: float) -> Tensor:
        return torch.tensor(colour, dtype=torch.float32).expand(1, 24, 24, 3)

    assert float(flip(flat(0.2, 0.5, 0.9), flat(0.2, 0.5, 0.9))) == 0
    # The largest distance is by definition green against blue; black against white is nearly as visible.
    assert float(flip(flat(0, 1, 0), flat(0, 0, 1))) == pytest.approx(1, abs=1e-3)
    assert 0.95 < float(flip(flat(0, 0, 0), flat(1, 1, 1))) < 1


@pytest.mark.parametrize(("height", "width"), [(96, 128), (31, 17), (1, 1)])
def test_flip_agrees_with_the_authors_own(height: int, width: int) -> None:
    """Every pixel against the published program: smooth pictures, noise, sameness, and the strongest contrasts."""
    theirs = pytest.importorskip("flip_evaluator", reason="an extra for tests")
    x, y = pair(4, height, width, seed=5)
    rows = torch.linspace(0, 1, height)[:, None, None].expand(height, width, 3)
    x[1], y[1] = rows, rows.flip(0)
    x[2], y[2] = 0.0, torch.tensor([0.0, 1.0, 0.0])
    x[3] = y[3]
    ours = flip_map(x, y)
    for k in range(len(x)):
        want, mean, _ = theirs.evaluate(y[k].numpy(), x[k].numpy(), "LDR", applyMagma=False)
        np.testing.assert_allclose(ours[k].numpy(), want[..., 0], atol=2e-5)
        assert float(ours[k].mean()) == pytest.approx(mean, abs=1e-4), "theirs adds up in single precision"
