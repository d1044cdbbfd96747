"""Presets in a contest: marks on the training clock only, the end, changes to a preset, the sheet."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.captures.opening import open_capture
from avatars.training import quality
from avatars.training.evaluation import measure
from backend.cli import main
from shared.errors import BadConfig
from tests.tiny import tiny_capture

SHORT = "tiny+schedule.images=12+schedule.stages_from=[0, 6]+model.first_look_px=0+model.fill_unseen=false"


def test_variants_are_presets_with_changes() -> None:
    config = quality.variant("tiny+losses.ssim=0.25+schedule.sizes_px=[24, 32]")
    assert (config.losses.ssim, config.schedule.sizes_px) == (0.25, (24, 32))
    assert quality.variant("tiny").losses.ssim == 0.1
    with pytest.raises(BadConfig, match=r"NAME\+key=value"):
        quality.variant("tiny+losses.ssim")
    with pytest.raises(BadConfig, match="no preset"):
        quality.variant("tinny")


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("quality") / "capture")


def test_marks_are_measured_off_the_clock(capture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, measured = [1000.0], []

    def measure(run: quality.Run) -> dict[str, float]:
        measured.append(run.images)
        now[0] += 100.0
        return {"psnr_db": float(len(measured))}

    def step(run: quality.Run, at: float) -> None:
        run.images += 2
        now[0] += 1.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(quality, "held_out_means", measure)
    monkeypatch.setattr(quality.Run, "step", step)
    capture = open_capture(capture_folder)
    one = quality.contend("a", quality.variant(SHORT), capture, "cpu", (4, 2, 50))
    assert [(s.wanted_s, s.seconds, s.images) for s in one.standings] == [(2, 2, 4), (4, 4, 8), (50, 6, 12), (0, 6, 12)]
    assert measured == [4, 8, 12]
    assert one.standings[2].means == one.standings[3].means, "a mark after the end repeats the finished avatar"
    assert one.facts["training_seconds"] == 6
    stopped = quality.contend("a", quality.variant(SHORT), capture, "cpu", (), stop_s=3)
    assert (stopped.facts["images"], stopped.facts["training_seconds"]) == (6, 3)


def test_command_measures_each_preset(capture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["benchmark", "quality", "--presets", SHORT, SHORT + "+losses.l1=0.5", "--seconds", "1000"]
    assert main([*words, "--capture", str(capture_folder), "--device", "cpu", "--output", str(out)]) == 0
    document = json.loads((out / "quality.json").read_text())
    assert [one["preset"] for one in document["contenders"]] == [SHORT, SHORT + "+losses.l1=0.5"]
    first = document["contenders"][0]
    assert first["images"] == 12
    mark, end = first["standings"]
    assert (mark["mark_s"], end["mark_s"]) == (1000, "end")
    assert {"psnr_db", "ssim", "flip"} <= set(end)
    assert mark["flip"] == end["flip"]
    printed = capsys.readouterr().out
    assert "after 1000 s" in printed
    assert f"2: tiny+: {SHORT}+losses.l1=0.5" in printed
    assert f"{end['psnr_db']:.2f}" in printed
    sheet = np.asarray(Image.open(out / "contact_sheet.png"))
    rows = len(quality.sheet_rows(document["held_out"]))
    assert sheet.shape == (3 * (48 + quality.LABEL_PX), rows * 48, 3)


def test_means_are_those_of_the_report(capture_folder: Path, tmp_path: Path) -> None:
    capture = open_capture(capture_folder)
    run = quality.Run(quality.variant(SHORT), capture, tmp_path, "cpu", lambda event: None)
    means = quality.held_out_means(run)
    each = measure(run.trainer, run.held_out, range(len(run.held_out)), ("psnr_db", "flip"))
    assert means["psnr_db"] == pytest.approx(each["psnr_db"].mean(), abs=1e-4)
    assert means["flip"] == pytest.approx(each["flip"].mean(), abs=1e-4)
    truth = quality.truth_pictures(run.config, capture)
    _, wanted = quality.over_white(run.trainer, run.held_out, quality.sheet_rows(len(run.held_out)))
    assert np.abs(truth.astype(int) - quality.as_uint8(wanted).astype(int)).max() <= 1
