"""What no picture shows is left out before training, and the wanted count comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatars.captures import open_capture
from avatars.captures.capture import Capture
from avatars.rgb_head.first_look import look_pictures, shown
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.training.config import load_config
from tests.tiny import tiny_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return open_capture(tiny_capture(tmp_path_factory.mktemp("look") / "c", size=48, frames=3, cameras=3))


def test_the_back_and_the_inside_are_not_shown(capture: Capture) -> None:
    config = load_config("tiny", {"model.first_look_px": "0", "model.target_gaussians": "4000"})
    trainer = RgbHeadTrainer(config, capture, "cpu")
    model = trainer.model
    found = shown(model, trainer.vertices, look_pictures(capture, 48, torch.device("cpu")))
    points = model.surface(model.head.vertices[None]).points[0]
    groups = [model.binding.group_names[group] for group in model.binding.group.tolist()]
    layer = torch.tensor([name.startswith("skin/hair") for name in groups])
    assert found[layer].all()
    back = (points[:, 1] > points[:, 1].max() - 0.03) & ~layer
    front = torch.tensor([name == "skin/face" for name in groups]) & (points[:, 1] < points[:, 1].min() + 0.02)
    assert found[back].float().mean() < 0.2
    assert found[front].float().mean() > 0.9
    eyes = torch.tensor([name.startswith("eye_") for name in groups])
    middle = points[eyes, 1].mean()
    assert found[eyes & (points[:, 1] > middle + 0.004)].float().mean() < 0.2


def test_the_target_count_is_what_is_trained(capture: Capture) -> None:
    config = load_config("tiny", {"model.target_gaussians": "1500", "model.first_look_px": "48"})
    assert len(RgbHeadTrainer(config, capture, "cpu").model) == pytest.approx(1500, rel=0.15)


def test_a_capture_without_light_gives_an_avatar_without(capture: Capture, tmp_path: Path) -> None:
    config = load_config("tiny")
    assert RgbHeadTrainer(config, capture, "cpu").finish().captured_irradiance.shape == (9, 3)
    dark = replace(capture, environment=None)
    assert RgbHeadTrainer(config, dark, "cpu").finish().captured_irradiance is None
