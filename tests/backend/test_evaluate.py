"""`evaluate` as a user meets it, and as RGBAvatar's calculate_metrics.py was called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backend.cli import main
from tests.tiny import tiny_avatar, tiny_capture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with tiny.avatar, its capture, and a result folder of RGBAvatar's layout around a copy."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_avatar(folder / "home" / "library", gaussians=400)
    tiny_capture(folder / "data" / "bala", size=40, frames=4, cameras=1, gaussians=400)
    result = folder / "output" / "bala" / "run1"
    result.mkdir(parents=True)
    shutil.copytree(folder / "home" / "library" / "tiny.avatar", result / "bala.avatar")
    (result / "config.yaml").write_text(f"data_dir: {folder / 'data'}\ntemplate_type: Flame\n")
    return folder


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_an_avatar_of_the_library(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "tiny", "--home", str(place / "home"), "--capture", str(place / "data" / "bala")]
    assert main([*command, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "40x40 over white" in told
    assert [line.split()[0] for line in told.splitlines()[2:5]] == ["train", "test", "all"]
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (document["background"], document["clamped"]) == ("white", True)
    assert document["means"]["all"]["images"] == 4


def test_as_the_original_is_called(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--subject", "bala", "--work_name", "run1", "--output_dir", str(place / "output")]
    assert main([*command, "--config", "config/offline.yaml", "--split", "-1", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "40x40 over black" in told
    assert "before -1" in told
    result = place / "output" / "bala" / "run1"
    document = json.loads((result / "metrics.json").read_text())
    assert document["clamped"] is False
    assert document["means"]["from -1"]["images"] == 1
    for name in ("metrics.npz", "metrics.txt", "contact_sheet.png"):
        assert (result / name).is_file()
    assert main([*command, "--device", "cpu"]) == 0  # -350 by default, of four frames
    assert "no frames before -350" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "Name one avatar"),
        (["tiny", "--subject", "bala"], "Name one avatar"),
        (["--subject", "bala"], "needs the --work_name"),
        (["tiny", "--work_name", "run1"], "belongs to --subject"),
        (["--subject", "bala", "--work_name", "run2"], "There is no result 'run2' of 'bala'"),
        (["tinny"], "did you mean 'tiny'"),
        (["tiny"], "does not say where its capture is"),
        (["tiny", "--split", "half"], "--split is neither"),
        (["tiny", "--only", "val", "--capture", "CAPTURE"], "has no val images"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    place: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(place / "data" / "bala") if option == "CAPTURE" else option for option in options]
    common = ["--home", str(place / "home"), "--output_dir", str(place / "output"), "--device", "cpu"]
    assert main(["evaluate", *options, *common]) == 2
    assert told in failed(capsys)


def test_a_capture_of_another_rig_is_refused_before_a_folder_is_made(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "tiny", "--home", str(place / "home"), "--capture", "demo_body", "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "new")]) == 2
    assert "are not the avatar's" in failed(capsys)
    assert not (tmp_path / "new").exists()
