"""A shot rendered by a real Slurm: two task slots, one task killed, one requeued, and the film at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import slurm_cluster

from .conftest import ROOT, RealBackend, backend_python
from .fake_blender import blender_at
from .test_batch import contents, names, render, shot, shot_file  # noqa: F401 - fixtures

HELD = (2, 5)  # in the middle of their chunks of three
WAIT_S = 200.0


@pytest.fixture(scope="module")
def slurm() -> Iterator[slurm_cluster.Cluster]:
    reason = slurm_cluster.missing()
    if reason:
        assert not os.environ.get("CI"), f"{reason}; install.py test installs them"
        pytest.skip(reason)
    with slurm_cluster.cluster() as running:
        yield running


def effigy(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [backend_python(), "-m", "backend", "farm", *words]
    environ = {**environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=240)


def until(true: Callable[[], bool], said: Callable[[], str]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.1)


def test_an_array_with_a_killed_and_a_requeued_task_renders_each_frame_once(
    slurm: slurm_cluster.Cluster,
    backend: RealBackend,
    home: Path,
    shot: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    job, film, notes = tmp_path / "a job", tmp_path / "film.mp4", tmp_path / "notes"
    made = effigy(
        slurm.environ,
        *("slurm", str(shot), "--job", str(job), "--chunk-size", "3", "--film", str(film), "--submit"),
        *("--blender", str(blender_at(tmp_path, HELD)), "--home", str(home), "--device", "cpu"),
        *("--sbatch=--cpus-per-task=1", "--sbatch=--chdir=/"),
    )
    assert made.returncode == 0, made.stderr
    assert "6 frames in 2 tasks" in made.stdout

    def said() -> str:
        logs = "\n".join(f"{log.name}:\n{log.read_text()}" for log in sorted((job / "logs").iterdir()))
        return f"{slurm.run('squeue')}\n{logs}\n{slurm.logs()}"

    until(lambda: all((notes / str(frame)).exists() for frame in HELD), said)
    folder = shot.parent / "frames"
    done = {"0001.png", "0004.png"}
    assert done == {name for name in names(shot) if name.endswith(".png")}, "half-written ones have no name of a frame"
    times = {name: (folder / name).stat().st_mtime_ns for name in done}
    killed, _ = (notes / "2").read_text().split()
    os.kill(int(killed), signal.SIGKILL)  # as the kernel does where memory ends
    _, requeued = (notes / "5").read_text().split()
    slurm.run("scontrol", "requeue", requeued)  # as an operator, a preemption or a lost node does
    until(lambda: not slurm.run("squeue", "-h").strip(), said)

    assert [name for name in names(shot) if name.endswith(".png")] == [f"{frame:04d}.png" for frame in range(1, 7)]
    assert times == {name: (folder / name).stat().st_mtime_ns for name in done}, "they are not rendered again"
    logs = {log.name.rpartition("_")[2]: log.read_text() for log in (job / "logs").iterdir()}
    assert "status 137; queued again (restart 1 of 3)" in logs["1.log"], said()
    assert "DUE TO JOB REQUEUE" in logs["2.log"], said()
    rendered = [int(frame) for log in logs.values() for frame in re.findall(r"Frame (\d+) done", log)]
    assert sorted(rendered) == [1, 2, 3, 4, 5, 6], f"each once: {said()}"
    assert film.stat().st_size > 1000
    disturbed = contents(shot)
    status, _, err = render(backend.address, "--file", str(shot))
    assert status == 0, err
    assert contents(shot) == disturbed, "to the bit as one undisturbed process renders them"


def test_avatars_that_changed_are_refused_before_anything_waits(
    home: Path,
    shot: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    weights = home / "library" / "tiny.avatar" / "avatar.json"
    asked = ["slurm", str(shot), "--job", str(tmp_path / "job"), "--blender", str(blender_at(tmp_path))]
    made = effigy(dict(os.environ), *asked, "--home", str(home))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "job" / "library" / "tiny.avatar").is_dir()
    again = effigy(dict(os.environ), *asked, "--home", str(home))
    assert again.returncode == 2
    assert "There is a job in this folder already" in again.stderr
    copy = tmp_path / "job" / "library" / "tiny.avatar" / "avatar.json"
    copy.write_text(weights.read_text().replace("nobody's", "somebody's"))
    task = effigy(dict(os.environ), "task", str(tmp_path / "job"), "1")
    assert task.returncode == 2
    assert "Avatar tiny is not the one that the shot was made with" in task.stderr
