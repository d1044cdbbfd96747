"""Numbers of an evaluation: right values, the training report's own, groups, and the files it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar_folder import load_avatar, read_description
from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.evaluation.frames import Shot, capture_shots, over, render_shots
from avatars.evaluation.measure import Viewing, l1, l2, measure_avatar
from avatars.evaluation.results import capture_groups, index_groups, notable_rows, summary, text_table, write_evaluation
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.training.config import load_config
from avatars.training.loop import train
from avatars.training.progress import TrainResult
from shared.errors import BadCapture, BadConfig, EffigyError
from tests.tiny import tiny_capture, tiny_head


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return open_capture(tiny_capture(tmp_path_factory.mktemp("capture") / "tiny", size=48, frames=5, cameras=2))


@pytest.fixture(scope="module")
def trained(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    config = load_config("tiny", {"schedule.images": "20", "reporting.curve_points": "1"})
    output = tmp_path_factory.mktemp("run")
    return train(config, capture, output, name="tiny", device="cpu", on_event=lambda told: None)


def test_differences_of_known_pictures() -> None:
    dark, bright = torch.zeros(2, 4, 4, 3), torch.full((2, 4, 4, 3), 0.5)
    bright[1] = 0.25
    assert l1(dark, bright).tolist() == [0.5, 0.25]
    assert l2(dark, bright).tolist() == [0.25, 0.0625]
    for metric in (l1, l2):
        with pytest.raises(EffigyError, match="do not fit"):
            metric(dark, bright[:1])


def test_held_out_numbers_are_those_of_the_training_report(capture: Capture, trained: TrainResult) -> None:
    avatar = load_avatar(trained.avatar_folder)
    size_px = read_description(trained.avatar_folder)["training"]["evaluation"]["size_px"]
    found = measure_avatar(avatar, capture, capture.split("test"), Viewing(size_px), device="cpu")
    means = found.means()
    for name in ("psnr_db", "ssim", "flip"):
        assert round(means[name], 4) == trained.metrics[name], name
    for row, told in enumerate(trained.metrics["held_out"]):
        assert found.values["psnr_db"][row] == pytest.approx(told["psnr_db"], abs=2e-4)


def test_the_avatar_a_capture_was_made_of_matches_it(capture: Capture) -> None:
    """tiny_capture draws tiny_head(1500): only the rounding to bytes remains."""
    avatar = RgbHeadAvatar(tiny_head(1500))
    for background in ("black", "white"):
        viewing = Viewing(48, background, batch=3)
        found = measure_avatar(avatar, capture, range(4), viewing, device="cpu")
        assert found.values["psnr_db"].min() > 45
        assert found.values["l1"].max() < 0.004
        assert np.allclose(found.values["l2"], 10 ** (-found.values["psnr_db"] / 10), rtol=1e-4)
    assert "ms_ssim" not in found.values  # too small for it


def test_values_above_one_are_cut_only_when_wanted(capture: Capture) -> None:
    model = tiny_head(1500)
    with torch.no_grad():
        model.colours += 10
    avatar = RgbHeadAvatar(model)
    cut = measure_avatar(avatar, capture, [0], Viewing(48, clamp=True), device="cpu")
    raw = measure_avatar(avatar, capture, [0], Viewing(48, clamp=False), device="cpu")
    assert raw.values["l1"][0] > 2 * cut.values["l1"][0]


def test_batches_change_nothing(capture: Capture) -> None:
    avatar = RgbHeadAvatar(tiny_head(300))
    shots = capture_shots(capture, range(5), 32)
    one = torch.cat(list(render_shots(avatar, capture.motion, shots, "cpu", 1)))
    many = torch.cat(list(render_shots(avatar, capture.motion, shots, "cpu", 4)))
    assert one.shape == (5, 32, 32, 4)
    assert torch.equal(one, many)
    assert not list(render_shots(avatar, capture.motion, [], "cpu", 4))
    assert torch.allclose(over(one, 1.0) - over(one, 0.0), (1 - one[..., 3:]).expand(-1, -1, -1, 3), atol=1e-6)
    assert Shot(0, shots[0].camera).frame == 0


def test_an_avatar_of_another_rig_is_refused(capture: Capture) -> None:
    import dataclasses

    other = dataclasses.replace(capture, expression_names=tuple(f"exp{i:03d}" for i in range(100)))
    with pytest.raises(BadCapture, match="are not the avatar's"):
        measure_avatar(RgbHeadAvatar(tiny_head(50)), other, [0], Viewing(48), device="cpu")


@pytest.mark.parametrize("viewing", [Viewing(4), Viewing(48, "grey"), Viewing(48, batch=0)])
def test_viewings_that_make_no_picture(capture: Capture, viewing: Viewing) -> None:
    with pytest.raises(BadConfig):
        measure_avatar(RgbHeadAvatar(tiny_head(50)), capture, [0], viewing, device="cpu")


def test_groups_by_mark_and_by_index(capture: Capture) -> None:
    groups = capture_groups(capture, range(len(capture.images)))
    assert set(groups) == {"train", "test"}
    assert sorted(np.concatenate(list(groups.values()))) == list(range(len(capture.images)))
    before, after = index_groups(10, -3).values()
    assert (before.tolist(), after.tolist()) == (list(range(7)), [7, 8, 9])
    before, after = index_groups(10, -350).values()
    assert (len(before), len(after)) == (0, 10)


def test_files_of_an_evaluation(capture: Capture, tmp_path: Path) -> None:
    avatar = RgbHeadAvatar(tiny_head(300))
    measured = measure_avatar(avatar, capture, range(len(capture.images)), Viewing(48, "black"), device="cpu")
    means = write_evaluation(tmp_path, avatar, capture, measured, index_groups(10, -350), "cpu")
    with np.load(tmp_path / "metrics.npz") as arrays:
        assert {"l1", "l2", "psnr", "ssim", "flip", "image", "frame", "camera", "split"} == set(arrays)
        assert arrays["psnr"].mean() == pytest.approx(means["all"]["psnr_db"])
        assert arrays["image"][0] == capture.images[0].file.name
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["means"]["before -350"]["psnr_db"] is None
    assert len(document["frames"]) == 10
    text = (tmp_path / "metrics.txt").read_text()
    assert "psnr" in text.splitlines()[0]
    assert f"{means['all']['psnr_db']:.4f}" in text
    assert " -" in text.splitlines()[1]
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size[0] >= 4 * 48
    assert text_table(summary(measured, {})).count("\n") == 2


def test_best_median_and_worst_are_different_frames() -> None:
    values = np.arange(30.0)
    rows = notable_rows(values)
    assert [rank for _, rank in rows] == ["best"] * 4 + ["median"] * 4 + ["worst"] * 4
    assert {row for row, rank in rows if rank == "worst"} == {0, 1, 2, 3}
    assert {row for row, rank in rows if rank == "best"} == {26, 27, 28, 29}
    assert len(notable_rows(np.array([20.0]))) == 1
    assert len({row for row, _ in notable_rows(np.arange(5.0))}) == len(notable_rows(np.arange(5.0)))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_cuda_device_measures_the_same(capture: Capture, trained: TrainResult) -> None:
    from avatars.rgb_head.reenact import pinned, reenacted
    from avatars.rgb_head.sources import capture_source

    found = {}
    for device in ("cpu", "cuda"):
        avatar = load_avatar(trained.avatar_folder, device)
        motion = reenacted(capture_source(capture), pinned(avatar), camera=capture.cameras[0]).motion
        measured = measure_avatar(avatar, capture, range(4), Viewing(48), device=device)
        found[device] = (measured.means(), motion)
    (here, still), (there, moved) = found["cpu"], found["cuda"]
    assert there["psnr_db"] == pytest.approx(here["psnr_db"], abs=0.05)
    assert there["ssim"] == pytest.approx(here["ssim"], abs=1e-3)
    assert np.allclose(still.expressions, moved.expressions, atol=1e-4)
    assert np.allclose(still.rotations, moved.rotations, atol=1e-3)
