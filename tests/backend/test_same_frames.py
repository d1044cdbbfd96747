"""A frame is a function of avatar, pose, camera and light: other processes render the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.cli import main
from backend.farm.hashes import PASSES, FrameHash, differences, read_hashes, wave
from shared.errors import BadConfig
from tests.one_of_each import one_of_each, write_library

ROOT = Path(__file__).resolve().parents[2]
SIZE = ("106", "106")  # three channels are more numbers than torch gives to one thread


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("one of each"))


def start(home: Path, folder: Path, device: str, *options: str, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "backend", "farm", "hashes", "--home", str(home), "--device", device]
    command += ["--size", *SIZE, "--frames", "2", "--output", str(folder / "hashes.json"), *options]
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two_processes(home: Path, tmp_path: Path, device: str) -> list[list[FrameHash]]:
    """The hashes of one that goes forwards with all cores, and of one that goes backwards with a single thread."""
    folders = [tmp_path / "one", tmp_path / "the öther"]
    for folder in folders:
        folder.mkdir()
    many = {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2", "PYTHONHASHSEED": "1"}
    few = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "2"}
    running = [
        start(home, folders[0], device, **many),
        start(home, folders[1], device, "--backwards", **few),
    ]
    said = [process.communicate(timeout=200) for process in running]
    for process, (_, err) in zip(running, said, strict=True):
        assert process.returncode == 0, err
    assert said[0][0].splitlines()[-1] == said[1][0].splitlines()[-1], "the hash of all"
    return [read_hashes(folder / "hashes.json")[0] for folder in folders]


def check_same(home: Path, tmp_path: Path, device: str) -> None:
    first, second = two_processes(home, tmp_path, device)
    assert differences(first, second) == []
    assert {each.avatar_id for each in first} == set(one_of_each())
    for avatar in one_of_each():
        shown = {each.sha256 for each in first if (each.avatar_id, each.name) == (avatar, "combined")}
        assert len(shown) == 4, f"{avatar} does not change with its pose and light"


def test_two_processes_render_the_same_bytes_with_any_number_of_threads(home: Path, tmp_path: Path) -> None:
    check_same(home, tmp_path, "cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_processes_render_the_same_bytes_on_cuda(home: Path, tmp_path: Path) -> None:
    check_same(home, tmp_path, "cuda")


def test_what_another_machine_rendered_otherwise_is_listed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "there.json"
    asked = ["farm", "hashes", "rgb_head", "--home", str(home), "--device", "cpu", "--size", "24", "24"]
    asked += ["--frames", "1"]
    assert main([*asked, "--output", str(file)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 * len(PASSES) + 1
    assert main([*asked, "--compare", str(file)]) == 0
    document = json.loads(file.read_text())
    document["frames"][0][-1] = "0" * 64
    document["frames"][1][1] = "0" * 64
    gone = document["frames"].pop()
    document["frames"].append(["rgb_head", gone[1], 9, *gone[3:]])
    file.write_text(json.dumps(document))
    capsys.readouterr()
    assert main([*asked, "--compare", str(file)]) == 1
    said = capsys.readouterr().err
    for sentence in ("albedo differs", "is of another avatar", "is only here", "frame 9 lit specular is only there"):
        assert sentence in said, said
    assert main([*asked, "--size", "25", "24", "--compare", str(file)]) == 2
    file.write_text("[]")
    with pytest.raises(BadConfig, match="cannot be read"):
        read_hashes(file)


def test_poses_are_made_of_exact_numbers() -> None:
    values = wave(3, (5, 3))
    assert values.min() >= -1
    assert values.max() <= 1
    assert {float(5 * value) for value in values.ravel()} <= set(range(-5, 6))
    assert (wave(3, (5, 3)) != wave(4, (5, 3))).any()
