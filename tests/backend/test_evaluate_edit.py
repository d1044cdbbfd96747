"""`evaluate-edit`: an edited version beside its parent, with a CLIP of the user's and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backend.cli import main
from tests.edited import green_version
from tests.tiny import tiny_avatar
from tests.tiny_editors import tiny_clip


def test_figures_of_an_edit_against_the_parent_it_remembers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason='CLIP is tried where "effigy[edit]" is installed')
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    library = tmp_path / "library"
    parent = tiny_avatar(library, gaussians=400)
    green_version(parent)
    words = ["evaluate-edit", "tiny_green", "--device", "cpu", "--frames", "3", "--size", "48"]
    assert main([*words, "--clip", str(tiny_clip(tmp_path / "clip")), "--output", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out/edit.json").read_text())
    assert (tmp_path / "out/pairs.png").is_file()
    assert found["changed"] > 0.01
    assert found["shown_change"] > 0.1
    assert {name for name in found if name.startswith("clip_")} == {
        "clip_similarity",
        "clip_direction",
        "clip_consistency",
        "clip_directional_consistency",
    }
    assert all(-1 <= found[name] <= 1 for name in found if name.startswith("clip_"))
    assert {"outside_psnr_db", "flicker"} <= set(found), "its region is remembered, too"
    assert main([*words, "--before", "tiny_green", "--frames", "2", "--size", "16"]) == 0
    told = capsys.readouterr().out
    assert "No CLIP" in told
    assert "clip_direction" not in told
    assert main(["evaluate-edit", "tiny", "--device", "cpu"]) == 2
    assert "remembers no parent" in capsys.readouterr().err
    shutil.rmtree(parent)
    assert main(words) == 2
    assert "not in the library any more" in capsys.readouterr().err
