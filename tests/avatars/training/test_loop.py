"""The whole loop on a tiny capture: it learns, resumes to the bit after a SIGKILL, pauses, stops, and reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from avatars.avatar_folder import describe_avatar, load_avatar, load_preview
from avatars.captures.opening import open_capture
from avatars.training.checkpoint import checkpoints
from avatars.training.config import load_config
from avatars.training.loop import train
from avatars.training.progress import Progress, TrainResult
from shared.errors import BadConfig
from tests.tiny import tiny_capture

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("capture") / "tiny", size=48, frames=5, cameras=3, gaussians=500)


def run(capture_folder: Path, output: Path, wanted=lambda: "", events=None, **overrides: str) -> TrainResult:
    config = load_config("tiny", {key.replace("__", "."): value for key, value in overrides.items()})
    told = events if events is not None else []
    return train(
        config, open_capture(capture_folder), output, name="tiny", device="cpu", on_event=told.append, wanted=wanted
    )


@pytest.fixture(scope="module")
def finished(capture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[Progress]]:
    events: list[Progress] = []
    return run(capture_folder, tmp_path_factory.mktemp("run"), events=events), events


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(str(result.avatar_folder / "weights.safetensors"))


def test_it_learns_and_leaves_avatar_and_report(finished: tuple[TrainResult, list[Progress]]) -> None:
    result, events = finished
    assert result.state == "done"
    curve = [point["psnr_db"] for point in result.metrics["curve"]]
    assert curve[-1] > curve[0] + 3
    assert result.metrics["psnr_db"] > 18
    assert (result.metrics["images"], result.metrics["device"]) == (60, "cpu")
    written = json.loads((result.report_folder / "metrics.json").read_text())
    assert len(written["held_out"]) == 3
    assert {"psnr_db", "ssim", "flip"} <= set(written["held_out"][0])
    assert written["coverage"]["train"]["yaw_max_deg"] > 20 > -20 > written["coverage"]["train"]["yaw_min_deg"]
    assert written["render_frames_per_s"] > 0
    for name in ("loss.png", "psnr.png", "coverage.png", "contact_sheet.png"):
        with Image.open(result.report_folder / name) as image:
            assert min(image.size) > 40
    summary = describe_avatar(result.avatar_folder)
    assert summary.problem == ""
    assert summary.metrics["psnr_db"] == result.metrics["psnr_db"]
    preview = load_preview(result.avatar_folder)
    assert 0.05 < (preview[..., 3] > 128).mean() < 0.95
    previews = [event.preview for event in events if event.preview is not None]
    assert previews
    assert previews[0].shape == (48, 96, 3)
    assert [event.step for event in events] == sorted(event.step for event in events)
    assert events[-1].message == "Done"


def test_the_saved_avatar_looks_like_the_trained_model(
    finished: tuple[TrainResult, list[Progress]], capture_folder: Path
) -> None:
    from avatars.rendering.cameras import CameraBatch
    from avatars.rendering.rasterise import rasterise

    result, _ = finished
    capture, avatar = open_capture(capture_folder), load_avatar(result.avatar_folder)
    values = []
    for index in capture.split("test"):
        at = capture.images[index].frame
        posed = avatar.pose(
            *(
                torch.from_numpy(part[at : at + 1].copy())
                for part in (capture.motion.rotations, capture.motion.translations, capture.motion.expressions)
            )
        )
        drawn = rasterise(posed, CameraBatch.from_cameras([capture.camera_of(index)]), posed.colours)
        model = (drawn.features + 1 - drawn.alpha[..., None]).clamp(0, 1)[0].numpy()
        rgba = capture.rgba(index).astype(np.float32) / 255
        truth = rgba[..., :3] + 1 - rgba[..., 3:]
        values.append(-10 * np.log10(((model - truth) ** 2).mean()))
    assert np.mean(values) == pytest.approx(result.metrics["psnr_db"], abs=0.05)


def test_a_killed_run_resumes_to_the_same_bits(
    finished: tuple[TrainResult, list[Progress]], capture_folder: Path, tmp_path: Path
) -> None:
    """A child process is killed with SIGKILL mid-training; what a second one makes equals the undisturbed run."""
    output = tmp_path / "run"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from avatars.captures.opening import open_capture\nfrom avatars.training.config import load_config\n"
        "from avatars.training.loop import train\nimport torch\ntorch.set_num_threads(int(sys.argv[3]))\n"
        "train(load_config('tiny'), open_capture(sys.argv[1]), Path(sys.argv[2]), name='tiny', device='cpu',\n"
        "      on_event=lambda event: None, wanted=lambda: time.sleep(0.1) or '')\n"
    )
    arguments = [sys.executable, "-c", code, str(capture_folder), str(output), str(torch.get_num_threads())]
    child = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 120
        while len(checkpoints(output / "checkpoints")) < 2:
            assert child.poll() is None, "the child ended before it could be killed"
            assert time.monotonic() < deadline, "the child wrote no checkpoints"
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (output / "tiny.avatar").exists()
    events: list[Progress] = []
    result = run(capture_folder, output, events=events)
    resumed = [event.message for event in events if event.message.startswith("Resumed at")]
    assert resumed
    assert 0 < int(resumed[0].split()[2]) < 60
    expected, found = weights(finished[0]), weights(result)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_pause_keeps_the_place_and_cancel_leaves_no_avatar(
    finished: tuple[TrainResult, list[Progress]], capture_folder: Path, tmp_path: Path
) -> None:
    asked = iter([""] * 11 + ["pause"])
    paused = run(capture_folder, tmp_path, wanted=lambda: next(asked))
    assert paused.state == "paused"
    assert not paused.avatar_folder.exists()
    asked_again = iter([""] * 3 + ["cancel"])
    cancelled = run(capture_folder, tmp_path, wanted=lambda: next(asked_again))
    assert cancelled.state == "cancelled"
    assert not cancelled.avatar_folder.exists()
    done = run(capture_folder, tmp_path)
    assert done.state == "done"
    assert torch.equal(weights(done)["positions"], weights(finished[0])["positions"])
    again = run(capture_folder, tmp_path)
    assert again.metrics["images"] == 60
    assert torch.equal(weights(again)["positions"], weights(done)["positions"])


def test_checkpoints_of_another_run_are_refused(capture_folder: Path, tmp_path: Path) -> None:
    asked = iter(["", "pause"])
    run(capture_folder, tmp_path, wanted=lambda: next(asked))
    with pytest.raises(BadConfig, match="belong to another run"):
        run(capture_folder, tmp_path, seed="5")
    run(capture_folder, tmp_path, wanted=lambda: "cancel", reporting__preview_s="9")


def test_a_time_budget_ends_training_with_small_rates(capture_folder: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    events: list[Progress] = []
    result = run(
        capture_folder,
        tmp_path,
        events=events,
        schedule__images="100000",
        schedule__max_seconds="2.5",
        schedule__stages_from="[0, 66000]",
        reporting__curve_points="0",
    )
    assert result.state == "done"
    assert time.monotonic() - begun < 150
    assert 0 < result.metrics["images"] < 100000
    assert result.metrics["training_seconds"] >= 2.5
    assert max(event.step for event in events) == 100000


def test_the_seed_decides_everything(capture_folder: Path, tmp_path: Path) -> None:
    short = {"schedule__images": "8", "schedule__stages_from": "[0, 4]"}
    first = weights(run(capture_folder, tmp_path / "a", **short))
    second = weights(run(capture_folder, tmp_path / "b", **short))
    third = weights(run(capture_folder, tmp_path / "c", seed="1", **short))
    assert torch.equal(first["positions"], second["positions"])
    assert not torch.equal(first["network.0.weight"], third["network.0.weight"])
