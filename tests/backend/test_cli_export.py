"""`effigy import` and `effigy export`, from the command line to files and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avatars.formats.splat_ply import read_splat_ply
from avatars.formats.spz import read_spz
from backend.cli import main
from backend.cli_export import frame_range
from backend.importing import default_name
from backend.library import Library
from shared.errors import BadConfig
from tests.avatars.formats.gaussian_avatars_files import write_model_folder
from tests.avatars.formats.rgbavatar_files import config_text, network_numbers, random_fields, write_fields


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that must fail says."""
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_rgbavatar_in_and_out_of_the_library(
    tmp_path: Path, flame_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = network_numbers(129, 5)
    model = write_fields(tmp_path / "model.ply", random_fields(len(packed), 5, 10032, packed))
    (tmp_path / "config.yaml").write_text(config_text(129, 5))
    assert "whose head it is" in fails(["import", str(tmp_path), "--name", "bala"], capsys)
    assert main(["import", str(model), "--name", "bala", "--mean-shape", "--consent", "given"]) == 0
    said = capsys.readouterr()
    assert said.out == "bala\n"
    assert "mean head" in said.err
    (summary,) = Library(flame_home / "library").summaries()
    assert (summary.avatar_id, summary.method, summary.problem) == ("bala", "rgb_head", "")
    described = json.loads((flame_home / "library" / "bala.avatar" / "avatar.json").read_text())
    assert described["provenance"]["imported_from"] == "RGBAvatar"
    assert described["consent"] == "given"
    assert "FLAME" in described["licence"]
    out = tmp_path / "out"
    assert main(["export", "bala", "--format", "rgbavatar", "--output", str(out)]) == 0
    assert (out / "model.ply").read_bytes() == model.read_bytes()
    assert "exists already" in fails(["export", "bala", "--format", "rgbavatar", "--output", str(out)], capsys)
    assert not [path for path in flame_home.iterdir() if path.name.startswith(".import")]


def test_gaussian_avatars_posed_by_its_own_motion(
    tmp_path: Path, flame_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_model_folder(tmp_path / "306", frames=3)
    assert main(["import", str(tmp_path / "306")]) == 0
    assert capsys.readouterr().out == "306\n"
    motion = str(made["ply"].with_name("flame_param.npz"))
    spz = tmp_path / "deep" / "one.spz"
    assert main(["export", "306", "--format", "spz", "--motion", motion, "--frame", "2", "--output", str(spz)]) == 0
    frames = tmp_path / "frames"
    command = ["export", "306", "--format", "ply", "--axes", "y-up", "--motion", motion]
    assert main([*command, "--frames", "1:", "--output", str(frames)]) == 0
    assert sorted(path.name for path in frames.iterdir()) == ["frame_0001.ply", "frame_0002.ply"]
    whole, packed = read_splat_ply(frames / "frame_0002.ply"), read_spz(spz)
    np.testing.assert_allclose(packed.positions, whole.positions, atol=1e-5)
    assert packed.degree == 3
    again = tmp_path / "again"
    assert main(["export", "306", "--format", "gaussian-avatars", "--motion", motion, "--output", str(again)]) == 0
    assert next(again.rglob("point_cloud.ply")).read_bytes() == made["ply"].read_bytes()
    pictures = tmp_path / "pictures"
    render = ["render", "--avatar", "306", "--motion", motion, "--size", "48", "48", "--output", str(pictures)]
    assert main([*render, "--frames", "1", "--device", "cpu"]) == 0
    assert (pictures / "frame_0001.png").is_file()
    assert "cannot be written as RGBAvatar" in fails(
        ["export", "306", "--format", "rgbavatar", "--output", str(tmp_path / "x")], capsys
    )
    for options, sentence in (
        (["--format", "ply", "--frame", "3", "--motion", motion, "--output", str(tmp_path / "x.ply")], "no such frame"),
        (["--format", "ply", "--output", str(tmp_path / "x.spz")], "another ending"),
        (["--format", "ply", "--output", str(tmp_path)], "is a folder"),
        (["--format", "spz", "--axes", "y-up", "--output", str(tmp_path / "x.spz")], "--axes belongs to ply"),
        (["--format", "rgbavatar", "--frames", "0:1", "--output", str(tmp_path / "x")], "--frames belongs to"),
        (["--format", "ply", "--frames", "0:2", "--output", str(tmp_path / "x")], "--frames takes frames of a motion"),
        (["--format", "ply", "--template", "a", "--output", str(tmp_path / "x.ply")], "--template belongs to"),
    ):
        assert sentence in fails(["export", "306", *options], capsys)
    assert not (tmp_path / "x").exists()


def test_ranges_and_names(tmp_path: Path) -> None:
    assert frame_range("2:5", 9) == [2, 3, 4]
    assert frame_range(":", 2) == [0, 1]
    for wrong in ("5", "3:3", "0:10", "-1:3", "a:b", "1:2:3"):
        with pytest.raises(BadConfig):
            frame_range(wrong, 9)
    cloud = tmp_path / "306" / "point_cloud" / "iteration_600000" / "point_cloud.ply"
    cloud.parent.mkdir(parents=True)
    assert default_name(cloud) == "306"
    assert default_name(tmp_path / "306") == "306"
    assert default_name(tmp_path / "model.ply") == tmp_path.name
