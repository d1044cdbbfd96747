"""`benchmark relight` of a finished avatar: figures, report; what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avatars.avatar_folder import About, save_avatar
from backend.cli import main
from tests.avatars.relit_captures import write_painted_capture
from tests.avatars.relit_files import painted_avatar


def test_a_finished_avatar_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_painted_capture(tmp_path / "painted")
    save_avatar(tmp_path / "p.avatar", painted_avatar(), About("p"), np.zeros((8, 8, 4), np.uint8))
    words = ["benchmark", "relight", "--capture", str(tmp_path / "painted"), "--avatar", str(tmp_path / "p.avatar")]
    words += ["--size", "48", "--seconds", "0", "--device", "cpu", "--output", str(tmp_path / "out")]
    assert main([*words, "--images", "2"]) == 0
    told = capsys.readouterr().out
    assert "| student | all relit |" in told
    document = json.loads((tmp_path / "out/relighting.json").read_text())
    relit = {row["subject"]: row for row in document["relit"] if row["group"] == "all relit"}
    assert relit["student"]["inside_psnr_db"] > relit["constant"]["inside_psnr_db"] + 3
    assert (tmp_path / "out/relit.png").stat().st_size > 5000
    assert main([*words, "--images", "-1"]) == 2
    assert "too small" in capsys.readouterr().err
