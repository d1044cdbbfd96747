"""Training relightable heads through the one loop: known, unknown and changing light, resuming, other beginnings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.relit_head.avatar import RelitHeadAvatar
from avatars.relit_head.light import CaptureLight
from avatars.relit_head.settings import HeadLight, HeadMaterialLosses
from avatars.relit_head.trainer import RelitHeadTrainer
from avatars.training.checkpoint import newest_checkpoint
from avatars.training.config import TrainConfig, load_config
from avatars.training.data import load_pictures
from avatars.training.loop import Run, train
from shared.errors import BadConfig
from tests.avatars.relit_head.files import lit_capture, side_light
from tests.tiny import tiny_avatar

FEW = {"schedule.images": "16", "schedule.stages_from": "[0, 8]", "schedule.deltas_from": "4"}
FEW |= {"reporting.curve_points": "1", "reporting.preview_s": "100", "model.fill_unseen": "false"}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return lit_capture(tmp_path_factory.mktemp("lit") / "one", [side_light(1)])


def config(**more: str) -> TrainConfig:
    return load_config("relit_head_tiny", FEW | more)


def test_a_run_leaves_an_avatar_and_one_that_was_stopped_ends_the_same(capture: Capture, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config(), capture, whole, name="a", device="cpu", on_event=lambda told: None).state == "done"
    avatar = load_avatar(whole / "a.avatar")
    assert isinstance(avatar, RelitHeadAvatar)
    assert avatar.relit.probes is not None
    assert (whole / "report" / "contact_sheet.png").is_file()
    torch.testing.assert_close(avatar.radiance, torch.from_numpy(np.array(side_light(1).radiance)))
    asked = iter(range(100))
    begun = Run(config(), capture, parts, "cpu", lambda told: None)
    assert begun.go(lambda: "pause" if next(asked) >= 3 else "") == "paused"
    assert Run(config(), capture, parts, "cpu", lambda told: None).go(lambda: "") == "done"
    one, two = newest_checkpoint(whole / "checkpoints"), newest_checkpoint(parts / "checkpoints")
    assert one is not None
    assert two is not None
    for name, values in one.tensors.items():
        assert torch.equal(values, two.tensors[name]), name


def test_first_albedo_is_the_colour_over_the_light_that_falls_there(capture: Capture) -> None:
    trainer = RelitHeadTrainer(config(), capture, "cpu")
    pictures = load_pictures(capture, capture.split("train"), 48, torch.device("cpu"))
    batch = pictures.batch(torch.arange(len(pictures)), torch.zeros(len(pictures), 3))
    trainer.after_step(batch, 0.0)
    head = trainer.model.head
    skin = head.seen & torch.tensor([name == "skin/face" for name in head.binding.group_names])[head.binding.group]
    encoded = (0.28209479 * head.colours[skin] + 0.5).median(0).values.detach()
    assert int(skin.sum()) > 50
    torch.testing.assert_close(encoded, torch.tensor([0.80, 0.60, 0.50]), atol=0.12, rtol=0)
    linear = trainer.losses(batch, 0.0)
    assert all(torch.isfinite(value) for value in linear.values())
    grown = [entry.parameter for entry in trainer.parameters()]
    gradients = torch.autograd.grad(sum(linear.values()), grown, allow_unused=True)
    assert all(torch.isfinite(value).all() for value in gradients if value is not None)


def test_an_unknown_light_is_learned_and_held(capture: Capture) -> None:
    unknown = dataclasses.replace(capture, environment=None)
    trainer = RelitHeadTrainer(config(), unknown, "cpu")
    names = [entry.name for entry in trainer.parameters()]
    assert "light" in names
    light, weights = trainer.light, HeadMaterialLosses()
    assert light.texels is not None
    assert all(float(value) < 1e-9 for value in light.terms(weights).values()), "an even light costs nothing"
    with torch.no_grad():
        light.texels[0, 0, 0] += 3
    assert all(float(value) > 0 for value in light.terms(weights).values())
    assert torch.isfinite(torch.autograd.grad(sum(light.terms(weights).values()), light.texels)[0]).all()
    pictures = load_pictures(unknown, unknown.split("train"), 48, torch.device("cpu"))
    batch = pictures.batch(torch.arange(2), torch.zeros(2, 3))
    gradient = torch.autograd.grad(trainer.losses(batch, 0.0)["l1"], light.texels)[0]
    assert float(gradient.abs().max()) > 0
    assert CaptureLight(HeadLight("learned"), capture, torch.device("cpu")).learned, "also where it is known"


def test_pictures_take_their_own_lights(tmp_path: Path) -> None:
    several = lit_capture(tmp_path / "lights", [side_light(1), side_light(-1)])
    light = CaptureLight(HeadLight(), several, torch.device("cpu"))
    pictures = load_pictures(several, several.split("train"), 48, torch.device("cpu"))
    batch = pictures.batch(torch.arange(len(pictures)), torch.zeros(len(pictures), 3))
    groups = light.groups(batch.images, len(batch.frames))
    assert sorted(row for rows, _ in groups for row in rows.tolist()) == list(range(len(pictures)))
    left = torch.tensor([1.0, 0, 0])
    for rows, found in groups:
        bright = float(found.diffuse_at(left).mean()) > float(found.diffuse_at(-left).mean())
        assert bool(((batch.frames[rows] % 2 == 0) == bright).all())


def test_a_trained_head_can_be_the_beginning_and_another_cannot(capture: Capture, tmp_path: Path) -> None:
    path = tiny_avatar(tmp_path, gaussians=500)
    trainer = RelitHeadTrainer(config(**{"relit_head.start_from": str(path)}), capture, "cpu")
    before = load_avatar(path)
    assert torch.equal(trainer.model.head.positions, before.model.positions)
    assert not torch.equal(trainer.model.head.colours, before.model.colours), "divided by their light"
    woman = dataclasses.replace(capture, template=dataclasses.replace(capture.template, preset="woman"))
    with pytest.raises(BadConfig, match="another person"):
        RelitHeadTrainer(config(**{"relit_head.start_from": str(path)}), woman, "cpu")


def test_settings_that_make_no_sense_are_refused() -> None:
    for key, value in (("occlusion.poses", "0"), ("light.rows", "1"), ("light.mean", "0"), ("light.kind", "none")):
        with pytest.raises(BadConfig):
            config(**{f"relit_head.{key}": value})
