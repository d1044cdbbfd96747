"""A whole edit on a tiny head: pictures are edited and followed, the mouth stays, it resumes, the version remembers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatars.avatar_folder import avatar_digest, load_avatar, read_description
from avatars.text_edit import editors
from avatars.text_edit.run import check_edit, edit, edit_config, regions_of, run_of
from avatars.training.config import TrainConfig
from avatars.training.progress import Progress, TrainResult
from shared.errors import BadConfig, EffigyError
from tests.tiny import tiny_avatar

TABLE = {
    "redder": "tests.avatars.text_edit.redder:make_redder",
    "all_at_once": "tests.avatars.text_edit.redder:make_all_at_once",
}
FAST = {
    "schedule.images": "40",
    "size_px": "48",
    "schedule.sizes_px": "[48]",
    "edit.max_edit_views": "6",
    "edit.instants": "3",
    "edit.orbit_cameras": "3",
    "edit.rates.colour": "0.05",
}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editors, "TABLE", TABLE)
    monkeypatch.setattr(editors, "check_prompt", lambda name, prompt: None)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("edit"), gaussians=900)


def config_of(editor: str = "redder", **values: str) -> TrainConfig:
    return edit_config({"prompt": "red", "editor": editor, "seed": "1", **FAST, **values}, "edit_cpu")


def run(config: TrainConfig, parent: Path, folder: Path, **more: object) -> TrainResult:
    return edit(config, parent, "", folder, name="red one", device="cpu", **more)  # type: ignore[arg-type]


def colours_of(folder: Path) -> torch.Tensor:
    return load_avatar(folder).model.colours.detach()  # type: ignore[attr-defined]


def test_the_avatar_follows_the_edit_and_remembers_it(parent: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    config = config_of(
        adversarial="true",
        **{"reporting.preview_s": "0", "edit.adversarial_from": "0.8", "edit.adversary_warm_up": "2"},
    )
    digest = avatar_digest(parent)
    result = run(config, parent, tmp_path, on_event=events.append)
    assert result.state == "done"
    old, new = load_avatar(parent).model, load_avatar(result.avatar_folder).model  # type: ignore[attr-defined]
    names = [old.binding.group_names[index] for index in old.binding.group.tolist()]
    skin = torch.tensor([name == "skin" for name in names])
    inside = torch.tensor([name in ("teeth", "tongue") for name in names])
    moved = (new.colours - old.colours).detach()
    assert moved[skin].mean(0)[0] > moved[skin].mean(0)[1] + 0.1  # redder, less green
    assert moved[inside].abs().mean() < 0.1 * moved[skin].abs().mean()
    assert torch.equal(new.colour_deltas, old.colour_deltas)
    note = read_description(result.avatar_folder)["edit"]
    assert note["parent"] == {"digest": digest, "avatar_id": "tiny", "name": "tiny", "iterations": 0}
    assert (note["prompt"], note["editor"], note["seed"]) == ("red", "redder", 1)
    for group in ("rates", "weights"):
        assert note["settings"][group] == dataclasses.asdict(getattr(config.edit, group)), "all that decided it"
    for name in ("adversarial", "wabe", "noise_high", "edit_interval", "adversarial_from", "max_edit_views"):
        assert note["settings"][name] == getattr(config.edit, name)
    assert avatar_digest(parent) == digest
    shown = [event.preview for event in events if event.preview is not None]
    assert shown[-1].shape == (48, 144, 3)
    assert {event.message for event in events} & {"Editing", "Training"} == {"Editing"}
    assert "adversarial" in json.dumps([dict(event.losses) for event in events])
    for name in ("contact_sheet.png", "edited_view.png", "loss.png", "metrics.json"):
        assert (result.report_folder / name).is_file()


def test_what_was_not_edited_looks_right_in_weighted_blending_from_the_start(parent: Path, tmp_path: Path) -> None:
    config = config_of(**{"edit.weights.structure": "0", "edit.weights.gradient": "0"})
    planned = run_of(config, parent, "", tmp_path, "cpu", lambda told: None)
    planned.prepare()
    trainer: Any = planned.trainer
    shown = trainer._shown([0])[0].colours
    assert (shown - trainer.picture(trainer.batch([0]))).abs().max() < 1e-3
    plain, before = trainer._between([0], trainer.unedited(trainer.batch([0])), [1])
    torch.testing.assert_close(plain, before, atol=1e-5, rtol=0)  # nothing flickers more than before


def test_a_paused_edit_goes_on_to_the_same_end(parent: Path, tmp_path: Path) -> None:
    config = config_of(**{"schedule.images": "16"})
    whole = run(config, parent, tmp_path / "whole")
    asked = iter(["", "", "", "", "", "", "pause"])
    assert run(config, parent, tmp_path / "parts", wanted=lambda: next(asked)).state == "paused"
    parts = run(config, parent, tmp_path / "parts")
    assert torch.equal(colours_of(whole.avatar_folder), colours_of(parts.avatar_folder))
    other = dataclasses.replace(config, seed=9)
    assert run(config, parent, tmp_path / "cancelled", wanted=lambda: "cancel").state == "cancelled"
    with pytest.raises(BadConfig, match="another run"):
        run(other, parent, tmp_path / "cancelled")


def test_painted_weights_and_regions_hold_the_rest_still(parent: Path, tmp_path: Path) -> None:
    proxy = load_avatar(parent).proxy()
    weights = (proxy.vertices[:, 0] > 0).astype(np.float32)
    result = run(config_of(wabe="off"), parent, tmp_path / "painted", weights=weights)
    old, new = colours_of(parent), colours_of(result.avatar_folder)
    posed = load_avatar(parent).pose(
        torch.zeros(1, *load_avatar(parent).rest_pose.shape), torch.zeros(1, 3), _none(parent)
    )
    x = posed.means[0, :, 0]
    moved = (new - old).abs().amax(1) > 1e-6
    assert moved[x < -0.02].float().mean() < 0.03  # a few hang on triangles that reach across
    assert moved[x > 0.02].float().mean() > 0.3
    assert read_description(result.avatar_folder)["edit"]["settings"]["painted"] is True


def _none(parent: Path) -> torch.Tensor:
    return torch.zeros(1, len(load_avatar(parent).rig().expression_names))


def test_rounds_edit_every_view_in_each(parent: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    config = config_of("all_at_once", wabe="mask", **{"edit.rounds": "2", "schedule.images": "20"})
    result = run(config, parent, tmp_path, on_event=events.append)
    assert result.metrics["edited_views"] == 6


def test_what_cannot_be_is_said_before_anything_is_loaded(parent: Path) -> None:
    with pytest.raises(BadConfig, match="no prompt"):
        check_edit(edit_config({"prompt": " "}, "edit_cpu"), parent, "")
    with pytest.raises(BadConfig, match="strength"):
        edit_config({"prompt": "x", "strenght": "1"}, "edit_cpu")
    with pytest.raises(BadConfig, match="edits no avatar"):
        edit_config({"prompt": "x"}, "tiny")
    with pytest.raises(EffigyError, match="no region"):
        check_edit(config_of(region="noose"), parent, "")
    with pytest.raises(BadConfig, match="painted"):
        check_edit(config_of(), parent, "", np.zeros(5, np.float32))
    assert "hair" in regions_of(parent)
    assert edit_config({"prompt": "x", "edit.wabe": "off"}, "edit_cpu").edit.wabe == "off"
    assert edit_config({"prompt": "it's: 'gold'"}, "edit_cpu").edit.prompt == "it's: 'gold'"
