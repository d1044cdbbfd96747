"""The command line as a user meets it: tables, progress, Ctrl-C, and one sentence where it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend import cli_lists
from backend.cli import main
from backend.cli_serve import parent_watch, read_key
from backend.launcher import RunningServer, running_server
from shared import messages as m
from shared.client import BackendClient
from shared.errors import EnvironmentFailed
from tests.tiny import tiny_capture

ROOT = Path(__file__).resolve().parents[2]

TIMEOUT_S = 150.0
TRAIN = ["train", "--preset", "tiny", "--name", "Person"]
LONGER = ["--set", "reporting.checkpoint_images=64", "--set", "schedule.images=300"]


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli captures") / "tiny_capture"
    return tiny_capture(folder, size=48, frames=4, cameras=2, gaussians=600)


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_without_a_backend_every_command_says_what_to_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_lists, "CONNECT_S", 0.3)
    for command in (["jobs"], ["jobs", "pause", "j1"], TRAIN):
        assert main([*command, "--address", "tcp://127.0.0.1:9"]) == 2
        line = failed(capsys)
        assert line.startswith("effigy: No backend answers at tcp://127.0.0.1:9. Start it with")


def test_an_empty_library_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["avatars", "--home", str(tmp_path)]) == 0
    assert "train an avatar first" in capsys.readouterr().out
    assert main(["avatars", "--home", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["avatars", "--home", str(tmp_path / "file")]) == 2
    assert "data folder cannot be written" in failed(capsys)


@pytest.mark.parametrize("text", ["seed", "=1"])
def test_overrides_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--local", "--set", text]) == 2
    assert "KEY=VALUE" in failed(capsys)


def test_the_doctor_names_what_is_there_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flame = tmp_path / "body_models" / "flame"
    flame.mkdir(parents=True)
    (flame / "generic_model.npz").write_bytes(b"")
    assert main(["doctor", "--json", "--home", str(tmp_path), "--address", "tcp://127.0.0.1:0"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"Python", "torch", "numba", "pyzmq", "CUDA", "gsplat", "nvdiffrast", "data folder", "disk", "port"} <= set(
        rows
    )
    assert rows["FLAME files"]["state"] == "ok"
    assert rows["SMPL files"]["state"] == "optional"
    assert all(row["do"] for row in rows.values() if row["state"] != "ok")
    assert main(["doctor", "--home", str(tmp_path), "--address", "tcp://8.8.8.8:1"]) == 1
    assert "SSH" in capsys.readouterr().out


def test_the_doctor_tells_a_backend_from_a_stranger_on_the_port(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EFFIGY_KEY", server.key)
    assert main(["doctor", "--json", "--home", str(tmp_path), "--address", server.address]) == 0
    assert "a backend" in capsys.readouterr().out


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFIGY_KEY", " from environment ")
    assert read_key(None) == "from environment"
    (tmp_path / "key").write_text("from file\nsecond line\n")
    assert read_key(tmp_path / "key") == "from file"
    (tmp_path / "empty").write_text("\n")
    for bad in (tmp_path / "empty", tmp_path / "absent", tmp_path):
        with pytest.raises(EnvironmentFailed, match="key file"):
            read_key(bad)


def test_a_parent_that_ended_is_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert parent_watch(child.pid)()
    assert not parent_watch(os.getppid())()
    assert not parent_watch(os.getpid())()
    assert not parent_watch(0)()


def test_a_server_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'backend', 'serve', '--address', 'tcp://127.0.0.1:0',"
        f" '--home', {str(tmp_path)!r}, '--parent-pid', str(__import__('os').getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    gone = parent_watch(int(done.stdout))
    until = time.monotonic() + 60
    while not gone() and time.monotonic() < until:
        time.sleep(0.05)
    assert gone()


def test_training_on_a_server_interrupted_and_taken_up_again(
    tmp_path: Path, capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_server(home=tmp_path, device="cpu", key="") as server, BackendClient(server.address) as client:
        command = [
            *TRAIN,
            "--capture",
            str(capture),
            "--address",
            server.address,
            "--set",
            "reporting.checkpoint_images=64",
            "--set",
            "schedule.images=300",
        ]
        child = subprocess.Popen(
            [sys.executable, "-m", "backend", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + TIMEOUT_S
        jobs: tuple[m.JobInfo, ...] = ()
        while not (jobs and jobs[0].step > 0) and time.monotonic() < until:
            jobs = client.request(m.ListJobs()).jobs
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=TIMEOUT_S)
        assert child.returncode == 130, err
        assert f"effigy jobs resume {jobs[0].job_id}" in re.sub(r"\s+", " ", out)
        assert "Traceback" not in err
        assert client.request(m.ListJobs()).jobs[0].state == "paused"
        assert main(["jobs", "--address", server.address]) == 0
        assert "paused" in capsys.readouterr().out
        assert main(command) == 0
        assert "Avatar: Person" in capsys.readouterr().out
        assert len(client.request(m.ListJobs()).jobs) == 1
        assert main(["jobs", "cancel", "nobody", "--address", server.address]) == 2
        assert "no job 'nobody'" in failed(capsys)
        assert main([*command[:-1], "schedul.images=2"]) == 2
        assert "did you mean 'schedule" in failed(capsys)


def test_training_here_interrupted_and_taken_up_again(
    tmp_path: Path, capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, "--local", "--capture", str(capture), "--home", str(tmp_path), "--device", "cpu"]
    command += LONGER
    child = subprocess.Popen(
        [sys.executable, "-m", "backend", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + TIMEOUT_S
    while not list(tmp_path.glob("jobs/*/checkpoints/*")) and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 130, err
    assert "same command goes on" in re.sub(r"\s+", " ", out)
    assert main(command) == 0
    assert "Avatar: Person" in capsys.readouterr().out
    assert main(command) == 0  # done already: nothing is trained, the same avatar is told
    assert "Avatar: Person" in capsys.readouterr().out
    assert main(["avatars", "--home", str(tmp_path), "--json"]) == 0
    (avatar,) = json.loads(capsys.readouterr().out)
    assert avatar["avatar_id"] == "Person"
    assert avatar["metrics"]["psnr_db"] > 5


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_ctrl_c_in_a_terminal_ends_server_and_workers_quietly(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "backend", "serve", "--address", "tcp://127.0.0.1:0", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    ready = json.loads(child.stdout.readline())
    assert ready["ready"] is True
    family = psutil.Process(child.pid).children(recursive=True)
    with BackendClient(ready["address"]) as client:
        assert client.connect().epoch == ready["epoch"]
        client.request(m.ListPresets(), timeout_s=TIMEOUT_S)  # the worker is up
        family += psutil.Process(child.pid).children(recursive=True)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to every process of the group at once
    out, err = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "Traceback" not in (tmp_path / "logs" / "render.log").read_text()
    assert family
    _, alive = psutil.wait_procs(family, 60)
    assert not alive


def test_a_python_without_what_effigy_needs_is_one_sentence() -> None:
    """As `python -m backend` in a terminal where .venv is not active."""
    child = subprocess.run(
        [sys.executable, "-S", "-m", "backend", "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 1
    assert child.stderr.startswith("effigy: ")
    assert "Use the Python in .venv" in child.stderr
    assert child.stderr.count("\n") == 1
