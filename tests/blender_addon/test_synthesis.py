"""Synthesise capture from the add-on: a second Blender makes the pictures; a stop keeps them; failures are told."""

from __future__ import annotations

import json
import time

import pytest

from blender_addon.services.synthesis import SYNTHESIS

SMALL = {"frames": 2, "cameras": 1, "size_px": 32, "samples": 1, "strands": 200}


def test_a_capture_is_made_and_offered_for_training(addon, tmp_path) -> None:
    addon.ops.effigy.synthesise_capture(folder=str(tmp_path / "head"), **SMALL)
    about = json.loads((tmp_path / "head" / "capture.json").read_text())
    assert len(about["images"]) == 2
    training = addon.context.scene.effigy.training
    assert (training.source, training.folder) == ("FOLDER", str(tmp_path / "head"))


def test_a_stopped_capture_keeps_its_pictures(addon, tmp_path) -> None:
    options = ["--frames=30", "--cameras=1", "--views-per-frame=1", "--size-px=32", "--samples=1", "--strands=200"]
    child = SYNTHESIS.start(tmp_path / "long", options)
    while child.state.done < 2 and child.running:
        time.sleep(0.02)
    addon.ops.effigy.stop_synthesis()
    assert child.state.status == "cancelled"
    assert 2 <= len(list((tmp_path / "long" / "images").glob("*.webp"))) < 30
    assert not (tmp_path / "long" / "capture.json").exists()


def test_failures_are_one_sentence(addon, tmp_path) -> None:
    with pytest.raises(RuntimeError, match="No folder was chosen"):
        addon.ops.effigy.synthesise_capture(folder=" ")
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RuntimeError, match="holds other files"):
        addon.ops.effigy.synthesise_capture(folder=str(tmp_path), **SMALL)
    assert (tmp_path / "mine.txt").exists()
