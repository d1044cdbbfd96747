"""A full disk pauses a training and a full device shrinks its batches; neither costs what was learned."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import avatar_folder, files
from avatars.captures.opening import open_capture
from avatars.training import loop, report, room
from avatars.training.config import load_config
from avatars.training.loop import train
from avatars.training.progress import Progress, TrainResult
from shared.errors import EnvironmentFailed
from shared.messages import NO_ROOM
from tests.tiny import tiny_capture

QUICK = {"schedule.images": "16", "schedule.stages_from": "[0, 8]", "reporting.curve_points": "0"}


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("scarce") / "tiny", size=32, frames=3, cameras=2, gaussians=300)


@pytest.fixture(scope="module")
def undisturbed(capture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(capture_folder, tmp_path_factory.mktemp("undisturbed"), [])


def run(capture_folder: Path, output: Path, events: list[Progress], wanted=lambda: "", **more: str) -> TrainResult:
    config = load_config("tiny", QUICK | more)
    capture = open_capture(capture_folder)
    return train(config, capture, output, name="tiny", device="cpu", on_event=events.append, wanted=wanted)


def weights(result: TrainResult) -> bytes:
    return (result.avatar_folder / "weights.safetensors").read_bytes()


def test_a_full_disk_pauses_and_goes_on_to_the_same_bits(
    capture_folder: Path, tmp_path: Path, undisturbed: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    refusals = iter([True, True, True])
    real = loop.save_checkpoint

    def save(folder, checkpoint, images):
        if images == 8 and next(refusals, False):
            raise EnvironmentFailed("it cannot be written", found="No space left on device")
        return real(folder, checkpoint, images)

    monkeypatch.setattr(loop, "save_checkpoint", save)
    events: list[Progress] = []
    disturbed = run(capture_folder, tmp_path / "b", events)
    told = [event.message for event in events if event.message.startswith("Paused for want of room")]
    assert len(told) == 3
    assert str(tmp_path / "b" / "checkpoints") in told[0]
    assert "bytes for a checkpoint (No space left on device)" in told[0]
    assert weights(disturbed) == weights(undisturbed)


def test_a_training_that_waits_for_room_can_be_cancelled(
    capture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise EnvironmentFailed("it cannot be written", found="No space left on device")

    monkeypatch.setattr(loop, "save_checkpoint", full)
    events: list[Progress] = []

    def wanted() -> str:
        return "cancel" if any("want of room" in event.message for event in events) else ""

    assert run(capture_folder, tmp_path, events, wanted).state == "cancelled"


def test_a_disk_that_is_full_at_the_very_end_costs_nothing(
    capture_folder: Path, tmp_path: Path, undisturbed: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report and avatar wait as a checkpoint does; told to pause meanwhile, the run ends with them at its resume."""
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    real, tried = files.write_folder_atomically, [""][:0]
    refusals = {"report": 3, "tiny.avatar": 2}

    def write(folder, fill):
        tried.append(folder.name)
        if refusals.get(folder.name):
            refusals[folder.name] -= 1
            raise files.disk_failure(folder, OSError(28, "No space left on device"))
        return real(folder, fill)

    for module in (report, avatar_folder):
        monkeypatch.setattr(module, "write_folder_atomically", write)
    events: list[Progress] = []
    disturbed = run(capture_folder, tmp_path / "b", events)
    told = [event.message for event in events if event.message.startswith(NO_ROOM)]
    assert len(told) == 5
    for line, name in ((told[0], "report"), (told[-1], "tiny.avatar")):
        assert str(tmp_path / "b" / name) in line
        assert "(No space left on device)" in line
    assert (disturbed.state, weights(disturbed)) == ("done", weights(undisturbed))
    assert tried == ["report"] * 4 + ["tiny.avatar"] * 3, "what was written is not written again"
    refusals["tiny.avatar"] = 9
    events.clear()
    assert (
        run(capture_folder, tmp_path / "c", events, lambda: "pause" if told_of_room(events) else "").state == "paused"
    )
    refusals.clear()
    resumed = run(capture_folder, tmp_path / "c", [])
    assert (resumed.state, weights(resumed)) == ("done", weights(undisturbed))
    assert (resumed.report_folder / "contact_sheet.png").is_file()


def told_of_room(events: list[Progress]) -> bool:
    return any(event.message.startswith(NO_ROOM) for event in events)


def test_an_avatar_on_a_full_disk_is_one_sentence(undisturbed: TrainResult, tmp_path: Path) -> None:
    """Its library for tensors tells of it by an error of its own."""
    resource = pytest.importorskip("resource")

    avatar = avatar_folder.load_avatar(undisturbed.avatar_folder)
    about = avatar_folder.About("full")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
        with pytest.raises(EnvironmentFailed, match=r"full\.avatar cannot be written"):
            avatar_folder.save_avatar(tmp_path / "full.avatar", avatar, about, np.zeros((4, 4, 4), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_could_not_be_kept_is_not_begun(
    capture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda folder: 1_000)
    with pytest.raises(EnvironmentFailed, match=r"too little room .*checkpoints .found 1,000 bytes free; expected "):
        run(capture_folder, tmp_path, [])


def test_memory_that_is_short_makes_batches_smaller(
    capture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avatars.rgb_head.trainer import RgbHeadTrainer

    real, seen, most = RgbHeadTrainer.losses, [], 2

    def losses(self, batch, at):
        seen.append(len(batch.frames))
        if len(batch.frames) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch, at)

    drawn, after, refused = RgbHeadTrainer.render, RgbHeadTrainer.after_step, []

    def render(self, batch):
        if len(batch.frames) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return drawn(self, batch)

    def after_step(self, batch, at):
        if len(batch.frames) > 1 and len(seen) == 5:  # the step before it stands
            refused.append(at)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return after(self, batch, at)

    monkeypatch.setattr(RgbHeadTrainer, "losses", losses)
    monkeypatch.setattr(RgbHeadTrainer, "render", render)
    monkeypatch.setattr(RgbHeadTrainer, "after_step", after_step)
    events: list[Progress] = []
    done = run(capture_folder, tmp_path / "a", events, **{"schedule.batch": "4"})
    assert done.state == "done"
    assert np.isfinite([picture["psnr_db"] for picture in done.metrics["held_out"]]).all(), "measured one by one"
    assert refused == [6]
    assert done.metrics["images"] == 16
    assert seen == [4] + [2] * 4 + [1] * 8
    assert any("batches of 2 from here on" in event.message for event in events)
    most = 0
    with pytest.raises(EnvironmentFailed, match=r"no memory left for a batch of 1"):
        run(capture_folder, tmp_path / "b", [])
