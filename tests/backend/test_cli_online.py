"""`effigy online` as a user types it: replayed, interrupted, and asked for what cannot be."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avatars.avatar_folder import load_avatar
from backend.cli import main
from tests.tiny import tiny_capture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("data") / "ada", size=40, frames=8, cameras=1, gaussians=500)


def test_a_subject_is_replayed_into_its_result_folder(capture: Path, tmp_path: Path) -> None:
    options = ["online", "--subject", "ada", "--data_dir", str(capture.parent), "--output_dir", str(tmp_path)]
    options += ["--work_name", "first", "--video_fps", "20", "--config", "online_tiny", "--device", "cpu"]
    assert main([*options, "--set", "post_process_images=20"]) == 0
    result = tmp_path / "ada" / "first"
    assert load_avatar(result / "ada.avatar").method == "rgb_head"
    names = {"ada.avatar", "online.yaml", "settings.json", "sample.txt", "step2frame.txt", "speed.txt"}
    assert {path.name for path in result.iterdir()} == names
    assert json.loads((result / "settings.json").read_text())["capture"] == str(capture)
    (result / "left_over.txt").write_text("of an earlier run")
    assert main([*options, "--set", "post_process_images=2"]) == 0
    assert not (result / "left_over.txt").exists(), "a result of that name is deleted first, as in RGBAvatar"


def test_an_interrupt_ends_the_stream_and_saves(capture: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backend", "online", "--capture", str(capture), "--video_fps", "0.5"]
    command += ["--output_dir", str(tmp_path), "--work_name", "w", "--preset", "online_tiny", "--device", "cpu"]
    with (tmp_path / "told.txt").open("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told)
        steps = tmp_path / "ada" / "w" / "step2frame.txt"
        until = time.monotonic() + 150
        while not (steps.is_file() and steps.stat().st_size) and time.monotonic() < until:
            assert process.poll() is None, (tmp_path / "told.txt").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130, (tmp_path / "told.txt").read_text()
    assert load_avatar(tmp_path / "ada" / "w" / "ada.avatar").method == "rgb_head"
    assert "Traceback" not in (tmp_path / "told.txt").read_text()


def test_what_cannot_be_is_one_sentence(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["online", "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    cases = {
        "Name a source of frames": [],
        "Name one source of frames": ["--capture", str(capture), "--listen", "tcp://127.0.0.1:0"],
        "no capture": ["--capture", str(tmp_path / "nowhere")],
        "needs the track beside it": ["--video", str(tmp_path / "a.mp4")],
        "from this machine only": ["--listen", "tcp://0.0.0.0:1"],
        "no online preset": ["--capture", str(capture), "--preset", "quick"],
        "memory_mb is too small": ["--capture", str(capture), "--set", "memory_mb=1", "--video_fps", "50"],
    }
    for sentence, options in cases.items():
        assert main(base + options) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert len(told.strip().splitlines()) == 1, told
    assert not list((tmp_path / "out").glob("*/*")), "nothing half-made is left"
