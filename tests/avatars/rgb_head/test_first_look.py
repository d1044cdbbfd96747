"""What no picture shows is left out before training, and the wanted count comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.rgb_head.fill import GUESSED, filled
from avatars.rgb_head.first_look import look, look_pictures, shown
from avatars.rgb_head.model import SH0, RgbHead
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.training.config import load_config
from tests.tiny import front_camera, render_head, still_motion, tiny_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("look") / "c"
    return open_capture(tiny_capture(folder, size=96, frames=3, cameras=3, gaussians=5000))


def test_the_back_and_the_inside_are_not_shown(capture: Capture) -> None:
    config = load_config("tiny", {"model.first_look_px": "0", "model.target_gaussians": "4000"})
    trainer = RgbHeadTrainer(config, capture, "cpu")
    model = trainer.model
    found = shown(model, look(model, trainer.vertices, look_pictures(capture, 48, torch.device("cpu"))))
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


def test_the_unseen_back_is_guessed_from_what_was_seen(capture: Capture) -> None:
    """Hair, neck and shirt close behind in the colours they have in front; what was seen stays as it is."""
    config = load_config("tiny", {"model.first_look_px": "96", "model.target_gaussians": "6000"})
    trainer = RgbHeadTrainer(config, capture, "cpu")
    model = trainer.model
    table = torch.tensor([colour_of(name) for name in model.binding.group_names])
    with torch.no_grad():
        model.seen.fill_(True)
        model.opacities.fill_(3.0)
        model.colours.copy_((table[model.binding.group] - 0.5) / SH0)
    assert trainer.beginning is not None
    assert trainer.pictures is not None
    guessed = filled(model, trainer.theta, trainer.vertices, trainer.pictures, trainer.beginning)
    assert len(guessed) > len(model)
    behind, before = (red_from_behind(head) for head in (guessed, model))
    assert before > 0.05  # the inside of the face, through the open back
    assert behind < 0.6 * before
    for yaw in (-0.4, 0.0, 0.4):  # and no view like those of the capture changes
        pictures = [render_head(head, [front_camera(96, yaw)], still_motion(1, head)) for head in (guessed, model)]
        assert np.abs(pictures[0] - pictures[1]).mean() < 2e-3
    colours = SH0 * guessed.colours + 0.5
    for index, name in enumerate(guessed.binding.group_names):
        rows = guessed.binding.group == index
        torch.testing.assert_close(colours[rows], torch.tensor(colour_of(name)).expand(int(rows.sum()), 3))
    untouched = {name: (guessed.binding.group == index).sum() for index, name in enumerate(guessed.binding.group_names)}
    same = {name: (model.binding.group == index).sum() for index, name in enumerate(model.binding.group_names)}
    for name in ("skin/face", "skin/lids", "skin/lips", "eye_l", "teeth"):
        assert untouched[name] == same[name], name


def colour_of(name: str) -> tuple[float, float, float]:
    return (0.1, 0.2, 0.9) if name in GUESSED else (0.9, 0.1, 0.1)


def red_from_behind(model: RgbHead) -> float:
    picture = render_head(model, [front_camera(64, torch.pi)], still_motion(1, model))[0]
    return float((picture[..., 0] > 0.4).sum() / (picture[..., 3] > 0.5).sum())


def test_nothing_is_guessed_where_nothing_like_it_was_seen(capture: Capture) -> None:
    trainer = RgbHeadTrainer(load_config("tiny", {"model.first_look_px": "48"}), capture, "cpu")
    with torch.no_grad():
        trainer.model.opacities.fill_(-9.0)
        trainer.model.seen.fill_(True)
    assert trainer.beginning is not None
    assert trainer.pictures is not None
    guessed = filled(trainer.model, trainer.theta, trainer.vertices, trainer.pictures, trainer.beginning)
    assert len(guessed) == len(trainer.model)
    assert len(trainer.finish().model) == 0
