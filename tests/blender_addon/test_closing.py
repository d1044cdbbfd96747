"""What a training does when Blender is killed or loads another file: kept or put off, as asked, never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import blender_addon
from blender_addon.logic.settings import Settings, free_address
from blender_addon.services.backend import BACKEND, new_client
from blender_addon.services.connection import CONNECTION
from blender_addon.ui import panels_train
from shared import errors, messages

from .conftest import ROOT, RealBackend, backend_python, start_backend
from .drawn import draw

# A training that lasts until it is told otherwise, for all that a test waits.
LONG = {"schedule.images": "100000", "reporting.curve_points": "0"}
BLENDER = """
import sys, time
from pathlib import Path
from blender_addon.logic.child import BackendProcess
from blender_addon.logic.settings import Settings
address, python, home, keep = sys.argv[1:]
BackendProcess(Settings(address, python=python, data_folder=home, keep_training=keep == "keep"), Path(home) / "log.txt")
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small pictures of a head."""
    folder = tmp_path_factory.mktemp("capture") / "head"
    code = "import sys; from pathlib import Path; from tests.tiny import tiny_capture; "
    code += "tiny_capture(Path(sys.argv[1]), 32, 2, 2, 400)"
    subprocess.run([backend_python(), "-c", code, str(folder)], cwd=ROOT, check=True)
    return folder


def until(condition: Any, timeout_s: float = 200.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def job_of(address: str, job_id: str) -> messages.JobInfo | None:
    """The job, None where nobody answers."""
    client = new_client(Settings(address=address), "test")
    try:
        jobs = client.request(messages.ListJobs(), timeout_s=5.0).jobs
        return next(job for job in jobs if job.job_id == job_id)
    except errors.EffigyError:
        return None
    finally:
        client.close()


@pytest.mark.parametrize("keep", ["keep", "put off"])
def test_a_killed_blender_leaves_its_trainings_as_asked(home: Path, capture: Path, keep: str) -> None:
    address = free_address()
    words = [sys.executable, "-c", BLENDER, address, backend_python(), str(home), keep]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    blender = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        assert blender.stdout.readline() == b"started\n"
        client = new_client(Settings(address=address), "test")
        client.connect(60.0)
        asked = messages.StartTraining("key", "Kept", str(capture), "tiny", LONG)
        job_id = client.request(asked, timeout_s=60.0).job_id
        client.close()
        until(lambda: (job := job_of(address, job_id)) and job.state == "running" and job.step > 0)
    finally:
        blender.send_signal(signal.SIGKILL)
        blender.wait()
        blender.stdout.close()
    if keep == "keep":
        before = until(lambda: job_of(address, job_id)).step
        until(lambda: job_of(address, job_id).step > before)  # it goes on without Blender
        client = new_client(Settings(address=address), "another Blender")
        until(lambda: client.request(messages.ChangeJob(job_id, "take")))
        client.request(messages.ChangeJob(job_id, "cancel"))
        client.close()
        until(lambda: job_of(address, job_id) is None)  # and the backend ends after it
    else:
        until(lambda: job_of(address, job_id) is None)
        again = start_backend(home)
        try:  # it kept its place, and goes on with the next backend
            resumed = until(lambda: (job := job_of(again.address, job_id)) and job.step > 0 and job)
            assert resumed.state == "running"
        finally:
            again.stop()


def test_a_training_is_followed_across_files(
    addon, backend: RealBackend, capture: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    training = addon.context.scene.effigy.training
    training.source, training.folder, training.preset, training.name = "FOLDER", str(capture), "tiny", "Followed"
    addon.ops.effigy.connect()

    def job() -> messages.JobInfo | None:
        return next((one for one in CONNECTION.state.jobs if one.name == "Followed"), None)

    until(lambda: CONNECTION.state.status == "connected")
    addon.ops.effigy.start_training()
    first = until(job)
    addon.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    addon.ops.wm.read_homefile(use_empty=True)
    addon.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert addon.context.scene.effigy.training.name == "Followed"
    until(lambda: CONNECTION.state.status == "connected")
    ended = until(lambda: (now := job()) is not None and now.state in ("done", "failed") and now, 120)
    assert (ended.job_id, ended.state) == (first.job_id, "done"), ended.message
    assert [one.name for one in CONNECTION.state.jobs].count("Followed") == 1, "nothing was asked for twice"


@pytest.mark.parametrize("keep", ["keep", "put off"])
def test_undo_a_new_file_and_switching_the_addon_off_leave_a_training_as_asked(
    addon, home: Path, capture: Path, monkeypatch, keep: str
) -> None:
    address = free_address()
    monkeypatch.setenv("EFFIGY_ADDRESS", address)
    BACKEND.start(Settings(address, python=backend_python(), data_folder=str(home), keep_training=keep == "keep"))
    process = BACKEND.process
    assert process is not None
    try:
        client = new_client(Settings(address=address), "test")
        client.connect(60.0)
        asked = messages.StartTraining("key", "Kept", str(capture), "tiny", LONG)
        job_id = client.request(asked, timeout_s=60.0).job_id

        def moves() -> bool:
            """Whether it has got on since the last question, and is what the panels show."""
            job = job_of(address, job_id)
            before, moves.step = moves.step, job.step if job is not None else 0
            return moves.step > before and job.state == "running"

        moves.step = 0
        addon.ops.effigy.connect()
        until(moves)
        addon.ops.ed.undo_push(message="before")
        addon.context.scene.effigy.training.name = "Another"
        addon.context.scene.frame_end = 77
        addon.ops.ed.undo_push(message="after")
        addon.ops.ed.undo()
        assert addon.context.scene.frame_end != 77, "it was undone"
        until(moves)
        addon.ops.wm.read_homefile(use_empty=True)  # File > New
        until(moves)
        until(lambda: any(job.job_id == job_id for job in CONNECTION.state.jobs))
        assert any("Kept: running" in text for text in draw(panels_train.EFFIGY_PT_train))
        CONNECTION.redraw_if_changed()  # as the timer does with a window
        client.close()
        blender_addon.unregister()
        if keep == "keep":
            until(moves)
            blender_addon.register()
            addon.ops.effigy.connect()  # and is this Blender's still
            until(lambda: CONNECTION.state.status == "connected" and CONNECTION.state.jobs)
            addon.ops.effigy.change_job(job_id=job_id, action="cancel")
            until(lambda: job_of(address, job_id).state == "cancelled")
        else:
            assert not process.running
            blender_addon.register()
            kept = json.loads((home / "jobs" / "journal.jsonl").read_text().splitlines()[-1])
            assert (kept["job_id"], kept["state"]) == (job_id, "running"), "the next backend goes on with it"
            assert list((home / "jobs" / job_id / "checkpoints").glob("images_*"))
    finally:
        BACKEND.stop()
        process.stop()
