"""The panels' connection: a thread that follows a real backend, loses it and finds it again; training from Blender."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from blender_addon.logic.link import Link, wait_s
from blender_addon.logic.settings import Settings
from blender_addon.services.backend import BACKEND, new_client
from shared import errors, messages

from .conftest import ROOT, RealBackend, start_backend


def until(condition, timeout_s: float = 20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def link_to(address: str) -> Link:
    return Link(lambda: new_client(Settings(address=address), "test"), address)


def test_the_link_follows_loses_and_finds_the_backend(addon, home) -> None:
    first = start_backend(home)
    link = link_to(first.address)
    try:
        until(lambda: link.state.avatars and link.state.presets is not None)
        assert link.state.status == "connected"
        assert [avatar.avatar_id for avatar in link.state.avatars] == ["tiny"]
        assert link.state.latency_ms > 0
        ticket = link.ask(messages.GetAvatar("tiny"))
        assert ticket.wait(90)
        assert ticket.result().rig.joint_names[0] == "spine3"
        wrong = link.ask(messages.GetAvatar("nobody"))
        assert wrong.wait(20)
        with pytest.raises(errors.NotFound, match="nobody"):
            wrong.result()

        first.process.kill()
        first.process.wait()
        until(lambda: link.state.status == "lost")
        assert first.address in link.state.problem
        refused = link.ask(messages.ListJobs())
        assert refused.wait(10)
        with pytest.raises(errors.EffigyError):
            refused.result()
        second = start_backend(home, first.address)
        try:
            until(lambda: link.state.status == "connected")
        finally:
            second.stop()
    finally:
        link.close()
    assert not any(thread.name == "effigy-link" for thread in threading.enumerate())
    assert link.ask(messages.Ping()).done is False, "nobody answers a closed link"


def test_a_wrong_key_is_not_tried_so_often_that_the_backend_locks_us_out() -> None:
    panels, views = wait_s(errors.NotAllowed("wrong key")), wait_s(errors.NotAllowed("wrong key"), 0.2)
    assert 60 / panels + 60 / views + 2 < 10
    assert wait_s(errors.Unreachable("gone"), 0.2) == 0.2


def test_a_given_up_question_is_not_sent(addon, backend: RealBackend) -> None:
    link = link_to(backend.address)
    try:
        ticket = link.ask(messages.GetAvatar("tiny"))
        ticket.cancel()
        assert ticket.wait(90)
        with pytest.raises(errors.Cancelled):
            ticket.result()
    finally:
        link.close()


def test_training_is_started_and_followed_from_blender(addon, backend: RealBackend, tmp_path, monkeypatch) -> None:
    code = "import sys; from pathlib import Path; from tests.tiny import tiny_capture; "
    code += "tiny_capture(Path(sys.argv[1]), 32, 2, 2, 400)"
    capture = tmp_path / "capture"
    capture.mkdir()
    subprocess.run([backend.python, "-c", code, str(capture / "head")], cwd=ROOT, check=True)
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    training = addon.context.scene.effigy.training
    training.source, training.folder = "FOLDER", str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="capture folder does not exist"):
        addon.ops.effigy.start_training()
    training.folder, training.preset, training.name = str(capture / "head"), "tiny", "From Blender"
    training.gpus = 2  # two processes, where the backend has no GPU
    link = link_to(backend.address)
    try:
        until(lambda: link.state.status == "connected")
        addon.ops.effigy.start_training()
        until(lambda: any(job.name == "From Blender" for job in link.state.jobs))
        until(lambda: link.state.jobs[0].state in {"done", "failed"}, 120)
        job = link.state.jobs[0]
        assert job.state == "done", job.message
        assert Path(job.report_folder).is_dir()
        assert (Path(job.report_folder).parent / "gpus.log").is_file()
        until(lambda: any(avatar.avatar_id == job.avatar_id for avatar in link.state.avatars))
    finally:
        link.close()
    addon.ops.effigy.add_avatar(avatar_id=job.avatar_id)
    assert addon.context.object.data.effigy.avatar_id == job.avatar_id


def test_a_render_starts_the_backend_where_the_settings_say_so(addon, home) -> None:
    from .conftest import backend_python

    free = start_backend(home)  # takes a free port and gives it back
    address = free.address
    free.stop()
    wanted = Settings(address, start_automatically=True, python=backend_python(), data_folder=str(home), retry_s=0.2)
    try:
        client = BACKEND.client(wanted, lambda: False)
        assert client.request(messages.ListAvatars()).avatars
        assert BACKEND.process.running
        process = BACKEND.process
        process.stop()  # as if it had crashed after a while: the next picture starts another
        assert BACKEND.client(wanted, lambda: False).request(messages.ListAvatars()).avatars
        process = BACKEND.process
    finally:
        BACKEND.drop_client()
        BACKEND.stop()
    assert not process.running
    with pytest.raises(errors.Unreachable, match="No backend answers"):
        BACKEND.client(Settings(address, retry_s=0.2), lambda: False)
    broken = Settings(address, start_automatically=True, python="/nowhere/python", retry_s=0.2)
    with pytest.raises(errors.EnvironmentFailed, match="could not be started"):
        BACKEND.client(broken, lambda: False)
    with pytest.raises(errors.Cancelled):
        BACKEND.client(Settings(address, retry_s=30), lambda: True)
