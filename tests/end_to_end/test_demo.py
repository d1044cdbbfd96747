"""The main job in small: real server, real training, real Blender; what `python install.py demo` does in minutes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.tiny import tiny_capture
from tests.tiny_body import tiny_body_capture

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES = 5


def blender_command() -> list[str]:
    """The command install.py found; outside `install.py test` the tests that need it skip with this reason."""
    command = os.environ.get("EFFIGY_BLENDER_COMMAND", "")
    if not command:
        pytest.skip("no Blender: `python install.py test` sets EFFIGY_BLENDER_COMMAND")
    return command.split("\n")


def demo_command(output: Path, capture: Path, blender: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "backend", "demo", "--output", str(output), "--capture", str(capture)),
        *("--preset", "tiny", "--frames", str(FRAMES), "--size", "96"),
        *(f"--blender={part}" for part in blender),
    ]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture") / "person"
    tiny_capture(folder, size=64, frames=4, cameras=2)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, capture: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("demo") / "out"
    command = demo_command(output, capture, blender_command())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return output, done


def test_last_line_is_the_output_folder(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = finished
    assert Path(done.stdout.strip().splitlines()[-1]) == output


def test_everything_promised_is_there(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, _ = finished
    assert sorted(path.suffix for path in (output / "film").glob("*.mp4")) == [".mp4"]
    assert list((output / "film").glob("*.blend"))
    assert len(list((output / "film" / "stills").glob("*.png"))) == 3
    assert (output / "demo_head.avatar" / "weights.safetensors").is_file()
    for name in ("metrics.json", "contact_sheet.png", "loss.png", "psnr.png"):
        assert (output / "training_report" / name).stat().st_size > 0, name
    report = json.loads((output / "demo.json").read_text(encoding="utf-8"))
    assert report["avatar"]["metrics"]["psnr_db"] > 5
    assert 0 < report["peak_memory_gib"] < 4


def test_the_film_shows_someone_who_moves(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, _ = finished
    frames = sorted((output / "film" / "frames").glob("*.png"))
    assert len(frames) == FRAMES
    images = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in frames]
    assert all(image.shape == (96, 96, 3) for image in images)
    assert all(image.std() > 0.02 for image in images), "a frame is empty"
    assert max(float(np.abs(image - images[0]).mean()) for image in images[1:]) > 0.002, "nothing moves"


def test_a_second_run_reuses_what_is_done(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capture: Path
) -> None:
    output, _ = finished
    film = next((output / "film").glob("*.mp4"))
    report = json.loads((output / "demo.json").read_text(encoding="utf-8"))
    weights = output / "backend" / "library"
    before = film.stat().st_mtime_ns, sorted(path.stat().st_mtime_ns for path in weights.glob("*/weights.safetensors"))
    command = demo_command(output, capture, blender_command())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    after = film.stat().st_mtime_ns, sorted(path.stat().st_mtime_ns for path in weights.glob("*/weights.safetensors"))
    assert after == before
    assert json.loads((output / "demo.json").read_text(encoding="utf-8")) == report


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX interrupt")
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, capture: Path) -> None:
    """Interrupted in the middle of training, the server, its workers and the demo itself are gone within seconds."""
    command = demo_command(tmp_path / "out", capture, ["unused-blender"])
    command += ["--set", "schedule.images=1000000"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    seen: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and not any("train_worker" in " ".join(p.cmdline()) for p in alive(seen)):
        for child in psutil.Process(process.pid).children(recursive=True):
            seen.setdefault(child.pid, child)
        time.sleep(0.2)
    assert any("train_worker" in " ".join(p.cmdline()) for p in alive(seen)), "training never began"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=240) == 130
    gone_by = time.monotonic() + 60
    while alive(seen) and time.monotonic() < gone_by:
        time.sleep(0.1)
    assert not alive(seen), [p.cmdline() for p in alive(seen)]


def alive(processes: dict[int, psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_body_walks_through_the_film(tmp_path: Path) -> None:
    """The demo of a full body in small: trained, linked as an armature, walked, filmed all of it."""
    blender = blender_command()
    capture = tiny_body_capture(tmp_path / "body", frames=3, cameras=3)
    command = [
        *(sys.executable, "-m", "backend", "demo", "--avatar", "body", "--output", str(tmp_path / "out")),
        *("--capture", str(capture), "--preset", "mlp_body_tiny", "--set", "schedule.images=30"),
        *("--set", "schedule.stages_from=[0,20]", "--frames", "4", "--size", "96"),
        *(f"--blender={part}" for part in blender),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "out" / "demo_body.avatar" / "avatar.json").is_file()
    assert (tmp_path / "out" / "film" / "animation.mp4").stat().st_size > 1000
    pictures = [np.asarray(Image.open(path), int) for path in sorted((tmp_path / "out" / "film" / "frames").iterdir())]
    backdrop = pictures[0][0, 0]
    shown = [np.abs(picture - backdrop).sum(-1) > 60 for picture in pictures]
    for seen in shown:
        rows = seen.any(1).nonzero()[0]
        assert 1 <= rows[0] < rows[-1] <= 94  # head and feet are in the picture
        assert np.ptp(rows) > 55
    assert (shown[0] != shown[-1]).any()
