"""`effigy editors`: what it lists, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avatars.text_edit.editors import TABLE
from avatars.text_edit.editors.vocabulary import looks
from backend.cli import main


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("EFFIGY_EDITOR_MODEL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def test_all_editors_are_listed_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["editors"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in TABLE)
    assert "hf download timbrooks/instruct-pix2pix" in text
    assert main(["editors", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["editors"]}
    assert set(listed) == set(TABLE)
    assert listed["built_in"]["installed"] is True
    assert listed["ip2p"]["installed"] is False
    assert len(listed["built_in"]["looks"]) == len(looks())


def test_the_vocabulary_is_listed_and_prompts_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["editors", "--looks"]) == 0
    text = capsys.readouterr().out
    assert all(look.name in text for look in looks())
    assert main(["editors", "--check", "blonde hair"]) == 0
    assert main(["editors", "--check", "turn him into batman"]) == 2
    assert "'batman'" in capsys.readouterr().err
