"""The whole way of a relightable person on the CPU, tiny: teacher, its pictures, distillation, measurement, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.cli import main
from tests.avatars.relit_captures import write_painted_capture

STUDENT = (
    "schedule.images=24",
    "relit.surfels=800",
    "relit.novel_every=4",
    "relit.points=128",
    "size_px=48",
    "schedule.sizes_px=[48]",
)


TEACHER = ("schedule.images=6", "teacher.fields.start_steps=60")
QUIET = ("reporting.curve_points=0", "reporting.preview_s=1e9")


def test_a_tiny_person_is_taught_distilled_and_relit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.devices.usable_cores", lambda: 1)  # so little is slower on two
    for figure in ("loss_figure", "psnr_figure", "coverage_figure"):
        monkeypatch.setattr(f"avatars.training.report.{figure}", lambda *given: None)
    write_painted_capture(tmp_path / "painted")
    words = ["benchmark", "relight", "--train", "--capture", str(tmp_path / "painted"), "--device", "cpu"]
    words += ["--teacher-preset", "relit_teacher_tiny", "--preset", "relit_body_tiny", "--poses", "1", "--size", "48"]
    words += ["--seconds", "0", "--images", "2", "--output", str(tmp_path / "out")]
    for option, values in (("--teacher-set", (*TEACHER, *QUIET)), ("--set", (*STUDENT, *QUIET))):
        words += [part for value in values for part in (option, value)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "distillation: " in told
    document = json.loads((tmp_path / "out/relighting.json").read_text())
    assert set(document["training"]) == {"teacher", "pseudo_truth", "distillation"}
    relit = {row["subject"]: row for row in document["relit"] if row["group"] == "all relit"}
    assert set(relit) == {"teacher", "student", "constant"}
    assert relit["student"]["inside_psnr_db"] > relit["constant"]["inside_psnr_db"] + 1
    assert {row["subject"] for row in document["materials"]} == {"teacher", "student"}
    assert (tmp_path / "out/relit.png").stat().st_size > 5000
