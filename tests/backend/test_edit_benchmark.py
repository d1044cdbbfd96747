"""`benchmark edit` as typed, tiny: variants are measured from the same edits, figures are told and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from avatars.text_edit import editors
from backend import cli_edit_benchmark
from backend.cli import main
from tests.tiny import tiny_avatar


def test_variants_are_measured_on_the_same_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(editors, "TABLE", {"redder": "tests.avatars.text_edit.redder:make_redder"})
    monkeypatch.setattr(editors, "check_prompt", lambda name, prompt: None)
    for table, kept in (("VARIANTS", ("ordinary", "wabe exact")), ("FLICKERING", ("adapted + adversarial",))):
        whole = getattr(cli_edit_benchmark, table)
        assert set(kept) < set(whole)
        monkeypatch.setattr(cli_edit_benchmark, table, {name: whole[name] for name in kept})
    avatar = tiny_avatar(tmp_path, gaussians=500)
    words = ["benchmark", "edit", str(avatar), "--capture", "", "--prompt", "red", "--device", "cpu"]
    words += ["--size", "40", "--views", "2", "--iterations", "12", "--disagreement", "0.6"]
    for setting in ("editor=redder", "instants=2", "orbit_cameras=2", "adversary_warm_up=1", "rates.colour=0.03"):
        words += ["--set", f"edit.{setting}"]
    assert main([*words, "--home", str(tmp_path), "--output", str(tmp_path / "told")]) == 0
    rows = json.loads((tmp_path / "told" / "edit.json").read_text(encoding="utf-8"))
    assert set(rows) == {"ordinary", "wabe exact", "adapted + adversarial"}
    assert rows["wabe exact"]["hidden_change"] < 0.8 * rows["ordinary"]["hidden_change"]
    assert len({row["edits_excess"] for row in rows.values()}) == 1
    assert rows["ordinary"]["flicker_excess"] < 0.1 * rows["ordinary"]["edits_excess"]
    assert Image.open(tmp_path / "told" / "side_by_side.png").size == (2 * 40, 4 * (40 + cli_edit_benchmark.LABEL_PX))
    told = capsys.readouterr().out
    assert "of edits" in told
    assert "x one without" in told
