"""Trainings of two processes that are stopped: by Ctrl-C, by a killed server, by one that hears nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from avatars.training.checkpoint import newest_checkpoint
from backend import on_gpus
from backend.jobs import Journal
from backend.launcher import running_server, start_server
from backend.library import Library
from backend.training_run import run_training
from shared import messages as m
from shared.client import BackendClient
from tests.jobs import WITHIN_S, job_when
from tests.tiny import tiny_capture

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends what was started, as on Linux")
ENDLESS = {
    "schedule.images": "100000",
    "reporting.checkpoint_images": "8",
    "reporting.curve_points": "0",
    "reporting.preview_s": "1000",
    "model.first_look_px": "0",
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("ended") / "capture", size=32, frames=3, cameras=2, gaussians=300)


def family_of(process: int) -> list[psutil.Process]:
    """It and all that it started, with what they started."""
    whole = psutil.Process(process)
    return [whole, *whole.children(recursive=True)]


def ranks_among(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that train."""
    lines = [(process, process.cmdline()) for process in processes]
    return [process for process, line in lines if "backend.rank_worker" in line and "backend.torchrun" not in line]


def still_there(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended within a good while."""
    left, until = list(processes), time.monotonic() + 60
    while left and time.monotonic() < until:
        left = [process for process in left if runs(process)]
        time.sleep(0.05)
    return left


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended, waited for by its parent or not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@LINUX
def test_ctrl_c_at_the_terminal_leaves_a_checkpoint_and_nobody(capture: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backend", "train", "--local", "--gpus", "2", "--preset", "tiny", "--name", "Anna"]
    command += ["--capture", str(capture), "--home", str(tmp_path), "--device", "cpu"]
    command += [word for name, value in ENDLESS.items() for word in ("--set", f"{name}={value}")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + WITHIN_S
    while not list(tmp_path.glob("jobs/*/checkpoints/images_*")) and time.monotonic() < until:
        time.sleep(0.05)
    family = family_of(child.pid)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    out, err = child.communicate(timeout=WITHIN_S)
    assert child.returncode == 130, err
    assert "Paused. The same command goes on from here." in re.sub(r"\s+", " ", out)
    assert "Pausing" in err
    assert "Traceback" not in err
    assert not still_there(family)
    (folder,) = tmp_path.glob("jobs/*")
    assert "Traceback" not in (folder / on_gpus.LOG).read_text()
    saved = newest_checkpoint(folder / "checkpoints")
    assert saved is not None
    assert (saved.notes["gpus"], saved.passed_over) == (2, ())


@LINUX
def test_a_second_ctrl_c_ends_processes_that_hear_nothing(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for torchrun takes neither the end of its input nor a signal that can be ignored."""
    deaf = tmp_path / "deaf.py"
    deaf.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'there')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(on_gpus, "torchrun", lambda count: (sys.executable, str(deaf)))
    monkeypatch.setattr(on_gpus, "END_S", 0.2)

    def wanted() -> str:
        if (tmp_path / "there").exists() and (tmp_path / "there").read_text():
            raise KeyboardInterrupt
        return ""

    asked = m.StartTraining("k", "Anna", str(capture), "tiny", ENDLESS, 2)
    with pytest.raises(KeyboardInterrupt):
        run_training(asked, tmp_path / "job", Library(tmp_path), "cpu", lambda told: None, wanted)
    assert not psutil.pid_exists(int((tmp_path / "there").read_text()))


@LINUX
def test_a_killed_server_leaves_no_process_and_the_next_goes_on(capture: Path, tmp_path: Path) -> None:
    first = start_server(home=tmp_path, device="cpu", key="")
    try:
        with BackendClient(first.address) as client:
            asked = m.StartTraining("k", "Anna", str(capture), "tiny", ENDLESS, 2)
            job = client.request(asked, timeout_s=WITHIN_S)
            job_when(client, job.job_id, lambda job: job.step >= 16)
            family = family_of(first.process.pid)
        assert len(ranks_among(family)) == 2
        os.kill(first.process.pid, signal.SIGKILL)
        assert not still_there(family)
    finally:
        first.stop()
    checkpoints = tmp_path / "jobs" / job.job_id / "checkpoints"
    saved = newest_checkpoint(checkpoints)
    assert saved is not None
    with running_server(home=tmp_path, device="cpu", key="") as second, BackendClient(second.address) as client:
        resumed = job_when(client, job.job_id, lambda job: job.state == "running" and job.step > 0)
        assert resumed.step >= saved.notes["images"] >= 8
        training = ranks_among(family_of(second.process.pid))
        client.request(m.ChangeJob(job.job_id, "cancel"))
        job_when(client, job.job_id, lambda job: job.state == "cancelled")
        assert len(training) == 2
        assert not still_there(training)
    assert Journal(tmp_path / "jobs" / "journal.jsonl").records[job.job_id].state == "cancelled"
    assert newest_checkpoint(checkpoints) is not None
