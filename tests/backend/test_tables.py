"""Tables of the command line as a person reads them on a narrow terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.cli import main
from backend.cli_library import status_words
from backend.library import Library
from shared.desk_messages import Status
from shared.messages import AvatarSummary


def listed(problem: str) -> AvatarSummary:
    metrics = {"psnr_db": 31.25, "ssim": 0.957, "training_seconds": 110.9, "peak_rss_mib": 2681.0}
    return AvatarSummary("ada", "Ada", "rgb_head", "0" * 64, "t", "2026-11-28T15:17:24+00:00", metrics, "CC0", problem)


def test_the_library_tells_quality_and_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for problem in ("", "weights.safetensors is cut off"):
        monkeypatch.setattr(Library, "summaries", lambda self, told=problem: [listed(told)])
        assert main(["avatars", "--home", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        assert "PSNR" in text
        assert "training_seconds" not in text
        assert "…" not in text
        assert ("problem" in text) == bool(problem)


def test_a_long_path_stays_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FLAME_PATH", str(tmp_path / ("long" * 20)))
    main(["doctor", "--home", str(tmp_path), "--address", "tcp://127.0.0.1:0"])
    assert "…" not in capsys.readouterr().out


def test_the_status_has_units_and_no_python() -> None:
    starting = Status("starting", "starting", 0, 0, 0, 0, 0, 6.715, "/data")
    words = status_words(starting)
    assert "memory" not in words
    assert (words["up for"], words["messages refused"], words["face tracker"]) == ("0:00:07", "none", "ready")
    running = Status("cpu", "numba", 3 << 30, 12 << 30, 1, 2, 3, 90000.0, "/data", {"BadConfig": 2}, "Not here", 4)
    words = status_words(running)
    assert words["memory"] == "3.0 of 12.0 GiB in use"
    assert (words["up for"], words["messages refused"]) == ("1 day, 1:00:00", "2 as BadConfig")
    assert words["face tracker"] == "Not here"
