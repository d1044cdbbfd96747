"""`effigy template`: add, list, remove, and what the user is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.cli import main
from tests.flame_files import FlameFiles


@pytest.fixture(scope="module")
def files(flame_2020: FlameFiles) -> FlameFiles:
    return flame_2020


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_add_with_named_files_then_list_and_remove(
    files: FlameFiles, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lids = [str(path) for path in files.eyelids]
    assert main(["template", "add", str(files.model), "--uv", str(files.uv), "--eyelids", *lids]) == 0
    said = capsys.readouterr().out
    assert "flame2020_rgbavatar" in said
    assert "with eyelids" in said
    assert "non-commercial" in said
    assert (home / "templates" / "flame2020_rgbavatar.npz").is_file()
    assert main(["template", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "102 expressions" in listed["flame2020_rgbavatar"]
    assert main(["template", "list"]) == 0
    assert "effigy_human" in capsys.readouterr().out
    assert main(["template", "remove", "flame2020_rgbavatar"]) == 0
    assert not list((home / "templates").iterdir())


def test_side_files_beside_the_model_are_found(files: FlameFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["template", "add", str(files.model)]) == 0
    assert f"{files.uv}, with eyelids" in capsys.readouterr().out
    assert main(["template", "add", str(files.model), "--no-eyelids"]) == 2, "another template of the same id"
    assert "--replace" in capsys.readouterr().err
    assert main(["template", "add", str(files.model), "--no-eyelids", "--replace"]) == 0
    assert "no eyelids" in capsys.readouterr().out
    assert main(["template", "add", str(files.model), "--version", "2023"]) == 0
    assert "Added flame2023_gaussian_avatars" in capsys.readouterr().out


def test_wrong_files_are_one_sentence_and_status_two(
    files: FlameFiles, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "generic_model.pkl"
    cut.write_bytes(files.model.read_bytes()[:10_000])
    for arguments, message in (
        ([str(cut), "--uv", str(files.uv)], "generic_model.pkl is no intact pickle"),
        ([str(tmp_path / "none.pkl")], "there is no file"),
        ([str(files.uv), "--version", "2020", "--uv", str(files.uv)], "flame_uv.npz"),
    ):
        assert main(["template", "add", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("effigy: ")
        assert message in told
        assert told.count("\n") == 1
    assert not (home / "templates").exists()


def test_a_bodys_weights_as_a_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lbs_weights_grid.npz"
    words = ["template", "weights", "effigy_human", "--preset", "man"]
    assert main([*words, "--output", str(path), "--resolution", "32"]) == 0
    assert "32 x 32 x 32 voxels of" in capsys.readouterr().out
    assert main([*words, "--check", str(path)]) == 0
    assert "55 joints" in capsys.readouterr().out
    path.write_bytes(b"cut short")
    assert main([*words, "--check", str(path)]) == 2
    assert "damaged" in capsys.readouterr().err
