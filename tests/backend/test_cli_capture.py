"""`capture check`, `list` and `info` as a user types them: tables, JSON, exit status, and nothing left on failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatars.templates.opening import reference_of
from backend.cli import main
from backend.errand_worker import _Teller, run_errand
from backend.home import Home
from shared.desk_messages import StartCheck
from tests.body_layouts import write_raw_peoplesnapshot
from tests.flame_installed import flame_home
from tests.insta_files import write_insta_folder
from tests.tiny import tiny_capture


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one INSTA and one Effigy capture, and the template of the first installed."""
    with flame_home(tmp_path_factory, tmp_path_factory.mktemp("home"), ("2020",)):
        folder = tmp_path_factory.mktemp("data")
        write_insta_folder(folder / "bala", reference_of("flame2020_rgbavatar"), frames=4, size=(40, 48))
        tiny_capture(folder / "tiny", size=32, frames=4, cameras=2, gaussians=300)
        (folder / "other").mkdir()
        yield folder


def test_check_writes_sheet_and_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "check", str(data / "bala"), "--frames", "3", "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for words in ("camera axes", "pairing", "coverage", "mask", "yaw", "capture_check.png"):
        assert words in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["capture_check.json", "capture_check.png"]
    sheet = np.asarray(Image.open(tmp_path / "out" / "capture_check.png"))
    assert sheet.shape[2] == 3
    assert (np.abs(sheet.astype(int) - (255, 60, 60)).sum(-1) < 60).any()  # the template's edge is drawn


def test_check_as_json_and_its_status(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = data / "bala" / "effigy.json"
    try:
        assert main(["capture", "check", str(data / "bala"), "--json", "--frames", "3"]) == 0
        good = json.loads(capsys.readouterr().out)
        assert (good["layout"], good["state"]) == ("insta", "doubtful")
        assert (tmp_path / "capture_check.json").is_file()
        options.write_text('{"reading": {"axes": "opengl"}}')
        assert main(["capture", "check", str(data / "bala"), "--json", "--frames", "3"]) == 1
        bad = json.loads(capsys.readouterr().out)
        assert bad["state"] == "bad"
        axes = next(finding for finding in bad["findings"] if finding["name"] == "camera axes")
        assert '{"reading": {"matrix": "camera_from_world", "axes": "opencv", "up": "y"}}' in axes["do"]
    finally:
        options.unlink(missing_ok=True)


def test_fix_writes_what_fits_and_keeps_the_rest(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two mistakes at once: names off by one, and cameras read with wrong axes."""
    folder = Path(shutil.copytree(data / "bala", tmp_path / "bala"))
    for path in sorted((folder / "images").iterdir(), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    (folder / "effigy.json").write_text('{"fps": 30, "reading": {"axes": "opengl"}}')
    command = ["capture", "check", str(folder), "--frames", "3", "--output", str(tmp_path / "out")]
    assert main(command) == 1
    assert main([*command, "--fix"]) == 0
    assert "Written to" in capsys.readouterr().out
    written = json.loads((folder / "effigy.json").read_text())
    assert (written["fps"], written["pairing"], written["reading"]["axes"]) == (30, "order", "opencv")
    assert sorted(path.name for path in folder.glob("*effigy*")) == ["effigy.json"]
    assert main(command) == 0


class _Said:
    """Stands for the link of an errand worker: keeps what is sent, and is asked nothing."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def receive(self, timeout_s: float) -> None:
        return None


def test_an_errand_tells_that_a_reading_can_be_written_and_writes_it(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data / "bala", tmp_path / "bala"))
    (folder / "effigy.json").write_text('{"reading": {"axes": "opengl"}}')
    found = []
    for fix in (False, True):
        said = _Said()
        run_errand(Home(tmp_path), StartCheck("k", str(folder), 3, fix), _Teller(said, "k", "check"), "cpu")
        found.append({finding.name for finding in said.sent[-1].findings})
    assert "mendable" in found[0]
    assert "mended" not in found[0]
    assert "mended" in found[1]
    assert "mendable" not in found[1]


def test_what_cannot_be_read_is_one_sentence_and_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["capture", "check", str(data / "other"), "--output", str(output)]) == 2
    found = capsys.readouterr()
    assert found.err.startswith("effigy: there is no capture in ")
    assert found.err.count("\n") == 1
    assert main(["capture", "check", str(data / "bala"), "--frames", "0", "--output", str(output)]) == 2
    assert "--frames is too small" in capsys.readouterr().err
    assert not output.exists()
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["capture", "check", str(data / "tiny"), "--frames", "2", "--output", str(blocked)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert blocked.read_text() == ""


def test_list_and_info(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "list", str(data), "--json"]) == 0
    rows = {Path(row["name"]).name: row["layout"] for row in json.loads(capsys.readouterr().out)}
    assert (rows["bala"], rows["tiny"]) == ("insta", "effigy")
    assert "other" not in rows
    assert main(["capture", "list", str(data.parent), "--json"]) == 0
    assert str(data / "bala") in {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert main(["capture", "list"]) == 0
    assert main(["capture", "list", str(data / "none")]) == 2
    capsys.readouterr()
    assert main(["capture", "info", str(data / "bala"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layout"], facts["template"], facts["size_px"]) == ("insta", "flame2020_rgbavatar", [40, 48])
    assert facts["pictures"] == {"train": 3, "test": 1}
    assert main(["capture", "info", str(data / "tiny")]) == 0
    assert "camera to world, OpenCV axes, z up" in capsys.readouterr().out


def test_raw_peoplesnapshot_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw_peoplesnapshot(tmp_path / "raw")
    assert main(["capture", "convert", str(tmp_path / "raw"), "--output", str(tmp_path / "done")]) == 0
    assert "4 frames" in capsys.readouterr().out
    assert main(["capture", "info", str(tmp_path / "done")]) == 0
    assert main(["capture", "convert", str(tmp_path / "done"), "--output", str(tmp_path / "again")]) != 0
    assert "no PeopleSnapshot subject" in capsys.readouterr().err
