"""FID: the distance against its closed form, and the network on random weights of the published layout."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.training import inception
from avatars.training.inception import BLOCKS, FEATURES, NAMES, STEM, find_inception, frechet_distance
from shared.errors import BadConfig


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    find_inception.cache_clear()


def weights() -> dict[str, Tensor]:
    """Random ones, normalisations that do something, and a tensor of the classifier beside them."""
    numbers = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {"fc.weight": torch.zeros(2, 2)}
    layers = dict(STEM) | {f"{b}.{name}": one for b, inner in BLOCKS.items() for name, one in inner.items()}
    for name, (inputs, outputs, kernel, _) in layers.items():
        scale = (2 / (inputs * kernel[0] * kernel[1])) ** 0.5
        found[f"{name}.conv.weight"] = scale * torch.randn(outputs, inputs, *kernel, generator=numbers)
        found[f"{name}.bn.weight"] = 0.5 + torch.rand(outputs, generator=numbers)
        found[f"{name}.bn.bias"] = 0.1 * torch.randn(outputs, generator=numbers)
        found[f"{name}.bn.running_mean"] = 0.1 * torch.randn(outputs, generator=numbers)
        found[f"{name}.bn.running_var"] = 0.5 + torch.rand(outputs, generator=numbers)
    return found


def test_the_distance_is_that_of_gaussians() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 6))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(rows, rows + 2) == pytest.approx(24, rel=1e-6)
    # Equal axes: the covariances commute and the term is the squared difference of their roots.
    spread = np.trace(np.cov(rows, rowvar=False))
    moved = frechet_distance(rows - rows.mean(0), 3 * (rows - rows.mean(0)))
    assert moved == pytest.approx((3 - 1) ** 2 * spread, rel=1e-6)
    few = draw.normal(size=(3, 6))  # covariances without full rank
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_features_come_from_a_users_file(tmp_path: Path) -> None:
    values = weights()
    torch.save(values, tmp_path / NAMES[0])
    network = find_inception(str(tmp_path), "cpu")
    assert network is not None
    pictures = torch.rand(2, 80, 60, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network(pictures)
    assert found.shape == (2, FEATURES)
    assert torch.isfinite(found).all()
    assert (found[0] - found[1]).abs().max() > 1e-3
    # The first layer by itself, with its normalisation as torch has it.
    x = torch.rand(1, 3, 9, 9)
    plain = torch.nn.functional.conv2d(x, values["Conv2d_1a_3x3.conv.weight"], stride=2)
    parts = [values[f"Conv2d_1a_3x3.bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    plain = torch.nn.functional.batch_norm(plain, *parts, eps=1e-3).clamp_min(0)
    torch.testing.assert_close(network._convolved("Conv2d_1a_3x3", x), plain, atol=1e-5, rtol=1e-5)


def test_a_file_that_does_not_fit_is_refused_and_none_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger=inception.log.name):
        assert find_inception("", "cpu") is None
    assert NAMES[0] in caplog.text
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(3)}, tmp_path / NAMES[0])
    with pytest.raises(BadConfig, match="lack Conv2d_1a_3x3"):
        find_inception(str(tmp_path), "cpu")
