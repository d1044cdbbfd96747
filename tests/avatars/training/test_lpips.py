"""LPIPS on random weight files of the published layout, against a direct evaluation of its definition."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatars.training import lpips
from avatars.training.config import LossWeights
from avatars.training.image_loss import image_terms
from avatars.training.lpips import STAGES, find_lpips, weight_files
from shared.errors import BadConfig, EffigyError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine, nothing kept from another test."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(lpips.importlib.util, "find_spec", lambda name: None)
    find_lpips.cache_clear()


def write(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights in both files, with tensors of other layers beside them as in the published ones."""
    numbers = torch.Generator().manual_seed(0)
    vgg: dict[str, Tensor] = {"classifier.0.weight": torch.zeros(2, 2)}
    for stage in STAGES:
        for index, inputs, outputs in stage:
            scale = (2 / (9 * inputs)) ** 0.5
            vgg[f"features.{index}.weight"] = scale * torch.randn(outputs, inputs, 3, 3, generator=numbers)
            vgg[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=numbers)
    linear = {
        f"lin{k}.model.1.weight": torch.rand(1, stage[-1][2], 1, 1, generator=numbers) for k, stage in enumerate(STAGES)
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(vgg, folder / "vgg16-397923af.pth")
    torch.save(linear, folder / "vgg.pth")
    return vgg, linear


def pair(side: int = 33) -> tuple[Tensor, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 2, side, side, 3, generator=numbers)
    return first, second


def direct(x: Tensor, y: Tensor, vgg: dict[str, Tensor], linear: dict[str, Tensor]) -> Tensor:
    """The definition, image by image: normalised input, unit features after each stage, weighted squares, means."""
    found = []
    for images in zip(x, y, strict=True):
        towers = []
        for image in images:
            z = image.permute(2, 0, 1)[None] * 2 - 1
            z = (z - torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
                None, :, None, None
            ]
            features = []
            for k in range(31):  # torchvision's `features`: convolutions, ReLUs, poolings by index
                if k in (4, 9, 16, 23, 30):
                    features.append(z)
                    z = torch.nn.functional.max_pool2d(z, 2, 2)
                elif f"features.{k}.weight" in vgg:
                    z = torch.nn.functional.conv2d(z, vgg[f"features.{k}.weight"], vgg[f"features.{k}.bias"], padding=1)
                else:
                    z = z.clamp_min(0)
            towers.append(features)
        total = torch.zeros(())
        for k, (a, b) in enumerate(zip(*towers, strict=True)):
            unit_a, unit_b = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (a, b))
            squares = (unit_a - unit_b) ** 2
            total = total + torch.nn.functional.conv2d(squares, linear[f"lin{k}.model.1.weight"]).mean()
        found.append(total)
    return torch.stack(found)


def test_value_gradient_and_sameness(tmp_path: Path) -> None:
    vgg, linear = write(tmp_path / "weights")
    network = find_lpips(str(tmp_path / "weights"), "cpu")
    x, y = pair()
    torch.testing.assert_close(network(x, y), direct(x, y, vgg, linear), rtol=1e-4, atol=1e-6)
    assert float(network(x, x).abs().max()) == 0
    leaf = x.clone().requires_grad_()
    network(leaf, y).sum().backward()
    want = x.clone().requires_grad_()
    direct(want, y, vgg, linear).sum().backward()
    torch.testing.assert_close(leaf.grad, want.grad, rtol=1e-3, atol=1e-6)
    black = torch.zeros_like(x).requires_grad_()
    network(black, y).sum().backward()
    assert torch.isfinite(black.grad).all()
    with pytest.raises(EffigyError, match="do not fit"):
        network(x, y[:1])


def test_as_a_training_term(tmp_path: Path) -> None:
    write(tmp_path / "weights")
    x, y = pair(20)
    alpha = torch.zeros(2, 20, 20)
    weights = LossWeights(lpips=0.5, lpips_from=10, lpips_folder=str(tmp_path / "weights"))
    assert list(image_terms(x, alpha, y, alpha, weights, 9)) == ["l1"]
    network = find_lpips(weights.lpips_folder, x.device)
    got = image_terms(x, alpha, y, alpha, weights, 10)["lpips"]
    assert float(got) == pytest.approx(0.5 * float(network(x, y).mean()), rel=1e-5)


def test_absent_weights_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    x, y = pair(20)
    alpha = torch.zeros(2, 20, 20)
    weights = LossWeights(lpips=0.5, lpips_from=0)
    with caplog.at_level(logging.WARNING, "effigy.training"):
        for at in range(3):
            assert list(image_terms(x, alpha, y, alpha, weights, at)) == ["l1"]
    (record,) = caplog.records
    assert "no vgg16-397923af.pth and no lpips_vgg.pth" in record.getMessage()


def test_files_are_found_in_the_hub_cache(tmp_path: Path) -> None:
    assert weight_files() == (None, None)
    write(tmp_path / "hub" / "checkpoints")
    assert [path.name for path in weight_files()] == ["vgg16-397923af.pth", "vgg.pth"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    vgg, _ = write(tmp_path)
    (tmp_path / "vgg.pth").write_bytes(b"no weights")
    with pytest.raises(BadConfig, match=r"vgg\.pth cannot be read as weights"):
        find_lpips(str(tmp_path), "cpu")
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "vgg.pth")
    with pytest.raises(BadConfig, match=r"lack lin0\.model\.1\.weight"):
        find_lpips(str(tmp_path), "cpu")
    torch.save([1], tmp_path / "vgg.pth")
    with pytest.raises(BadConfig, match="holds no named weights"):
        find_lpips(str(tmp_path), "cpu")
    torch.save({name: value for name, value in vgg.items() if name != "features.28.bias"}, tmp_path / "vgg16.pth")
    (tmp_path / "vgg16-397923af.pth").unlink()
    with pytest.raises(BadConfig):
        find_lpips(str(tmp_path), "cpu")
