"""`train` with the original's options: its result folder, its overwrite rule, splits and the TensorBoard log."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from avatars.avatar_folder import describe_avatar
from avatars.captures.opening import open_capture
from avatars.training import tensorboard
from avatars.training.split import trained_on
from backend.cli import main
from backend.result_folder import WORK_NAME_FORMAT, result_folder, train_into
from shared.errors import BadConfig, EnvironmentFailed
from tests.tiny import tiny_capture

CONFIG = ["--config", "tiny", "--set", "schedule.images=6", "--set", "reporting.curve_points=1", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with one subject, bala."""
    folder = tmp_path_factory.mktemp("data")
    tiny_capture(folder / "bala", size=32, frames=4, cameras=1, gaussians=300)
    return folder


def train(data: Path, output: Path, *more: str) -> int:
    return main(["train", "--subject", "bala", "--data_dir", str(data), "--output_dir", str(output), *CONFIG, *more])


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def output(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output_dir with bala/first."""
    output = tmp_path_factory.mktemp("output")
    log = ["--log"] if importlib.util.find_spec("tensorboard") else []
    assert train(data, output, "--work_name", "first", "--preload", *log) == 0
    return output


def test_the_result_folder_holds_what_the_original_leaves(output: Path, data: Path) -> None:
    result = output / "bala" / "first"
    assert describe_avatar(result / "bala.avatar").problem == ""
    assert "description:" in (result / "preset.yaml").read_text()
    assert not (result / "model.ply").exists()  # the open template is not FLAME
    settings = json.loads((result / "settings.json").read_text())
    assert (settings["subject"], settings["capture"]) == ("bala", str(data / "bala"))
    assert settings["config"]["schedule"]["images"] == 6
    assert (result / "report" / "contact_sheet.png").is_file()
    assert not (result / "checkpoints").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="the package tensorboard is optional")
def test_log_writes_losses_and_pictures(output: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(output / "bala" / "first" / "tensorboard"))
    found.Reload()
    assert {"l1", "total", "held_out/psnr_db", "report/psnr_db"} <= set(found.Tags()["scalars"])
    assert found.Tags()["images"] == ["preview"]
    assert all(event.step == 6 for event in found.Scalars("report/psnr_db"))


def test_log_without_the_package_is_one_sentence_before_anything_is_deleted(
    output: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match="effigy\\[log\\]"):
        tensorboard.check_tensorboard()
    assert train(data, output, "--work_name", "first", "--log") == 2
    assert "TensorBoard's package is not installed" in failed(capsys)
    assert (output / "bala" / "first" / "bala.avatar").is_dir()


def test_the_same_work_name_replaces_the_earlier_result(output: Path, data: Path) -> None:
    result = output / "bala" / "again"
    assert train(data, output, "--work_name", "again") == 0
    (result / "left over.txt").write_text("")
    assert train(data, output, "--work_name", "again", "--set", "seed=5", "--split", "all") == 0
    assert not (result / "left over.txt").exists()
    assert json.loads((result / "settings.json").read_text())["config"]["seed"] == 5
    assert json.loads((result / "settings.json").read_text())["config"]["split"] == "all"


def test_a_mistake_in_the_command_deletes_nothing(output: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = output / "bala" / "first" / "bala.avatar"
    for more in (["--set", "schedul.images=3"], ["--config", "ofline"], ["--data_dir", str(output / "nowhere")]):
        assert train(data, output, "--work_name", "first", *more) == 2
    capsys.readouterr()
    foreign = output / "bala" / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"")
    assert train(data, output, "--work_name", "photos") == 2
    assert "no result of a training" in failed(capsys)
    assert (foreign / "holiday.jpg").exists()
    assert kept.is_dir()


def test_a_stopped_run_goes_on_when_asked_to(output: Path, data: Path) -> None:
    result = result_folder(str(data), str(output), "bala", "stopped")
    asked: list[int] = []

    def wanted() -> str:
        asked.append(1)
        return "pause" if len(asked) > 2 else ""

    overrides = {"schedule.images": "6", "reporting.curve_points": "1"}
    state, notes = train_into(result, "tiny", overrides, "cpu", lambda told: None, wanted)
    assert (state, notes) == ("paused", [])
    (checkpoint,) = (result.path / "checkpoints").iterdir()
    assert not result.avatar.exists()
    events: list[str] = []
    state, _ = train_into(
        result, "tiny", overrides, "cpu", lambda told: events.append(told.message), lambda: "", resume=True
    )
    assert state == "done"
    assert f"Resumed at {int(checkpoint.name.split('_')[1])} images" in events
    assert result.avatar.is_dir()
    assert not (result.path / "checkpoints").exists()


@pytest.mark.parametrize("name", ["..", "a/b", "."])
def test_work_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(BadConfig, match="no name of a folder"):
        result_folder("data", "output", "bala", name)


def test_without_a_work_name_it_is_the_time() -> None:
    from datetime import datetime

    found = result_folder("data", "output", "bala", None)
    assert found.path.parent == Path("output/bala")
    assert abs((datetime.strptime(found.path.name, WORK_NAME_FORMAT) - datetime.now()).total_seconds()) < 60
    assert found.data == Path("data/bala")


def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--work_name", "x"]) == 2
    assert "belongs to --subject" in failed(capsys)
    assert main(["train", "--subject", "bala", "--capture", "demo_head"]) == 2
    assert "--capture does not go with --subject" in failed(capsys)
    assert main(["train", "--subject", "bala", "--resume"]) == 2
    assert "--work_name" in failed(capsys)


def test_an_online_file_is_sent_to_its_own_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "online.yaml").write_text("train: {sampler: {local_pool_max_size: 150}}\n")
    assert main(["train", "--config", str(tmp_path / "online.yaml")]) == 2
    assert "online training" in failed(capsys)


def test_splits_say_what_is_learned(data: Path) -> None:
    capture = open_capture(data / "bala")
    train_images, test_images = capture.split("train"), capture.split("test")
    swapped = trained_on(capture, "test")
    assert (swapped.split("train"), swapped.split("test")) == (test_images, train_images)
    whole = trained_on(capture, "all")
    files = {whole.images[index].file for index in whole.split("train")}
    assert files == {image.file for image in capture.images}
    assert len(whole.split("test")) == len(test_images)
    assert trained_on(capture, "train").images == capture.images
