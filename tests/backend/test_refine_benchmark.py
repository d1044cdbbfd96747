"""`benchmark refine` on a tiny head, and the exact twin of a tracked capture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from avatars.captures.opening import open_capture
from avatars.training.changed_data import with_parameters
from backend.cli import main
from backend.cli_refine_benchmark import show_runs
from backend.cli_track_benchmark import write_exact_twin
from tests.tiny import tiny_avatar, tiny_capture


def test_it_trains_on_noise_and_says_both_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_capture(tmp_path / "tiny", size=32, frames=4, cameras=1, gaussians=200)
    changes = ("schedule.images=6", "schedule.sizes_px=[32, 32]", "refine.test_steps=1", "size_px=32")
    sets = [part for change in (*changes, "model.target_gaussians=150") for part in ("--set", change)]
    arguments = ["benchmark", "refine", "--exact", str(folder), "--preset", "tiny", "--device", "cpu", *sets]
    assert main([*arguments, "--runs", "noise+refined", "--output", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "refine.json").read_text(encoding="utf-8"))["runs"]["noise+refined"]
    assert {"psnr_db", "psnr_db_fitted", "refined"} <= set(found)
    assert (tmp_path / "out" / "noise+refined.png").is_file()
    assert "rotations" in np.load(tmp_path / "out" / "noise+refined.npz")
    assert f"{found['psnr_db_fitted']:.2f}" in capsys.readouterr().out
    assert main([*arguments, "--runs", "tracked"]) != 0
    assert "--tracked" in capsys.readouterr().err


def test_the_table_compares_with_exact_as_it_is_and_fitted() -> None:
    figures = {"ssim": 0.9, "flip": 0.1, "ssim_fitted": 0.9, "flip_fitted": 0.1}
    exact = figures | {"psnr_db": 30.0, "psnr_db_fitted": 31.25}
    other = figures | {"psnr_db": 20.0, "psnr_db_fitted": 29.5}
    console = Console(width=200, record=True, file=io.StringIO())
    show_runs(console, {"exact": exact, "tracked": other})
    row = next(line for line in console.export_text().splitlines() if "tracked" in line)
    assert "-0.50" in row
    assert "-1.75" in row
    show_runs(console, {"tracked": other})  # nothing to compare with
    assert "-1.75" not in console.export_text()


def test_the_twin_has_the_tracks_pictures_and_the_true_parameters(tmp_path: Path) -> None:
    truth = open_capture(tiny_capture(tmp_path / "truth", size=64, frames=4, cameras=1, gaussians=200))
    tracked = tiny_capture(tmp_path / "tracked", size=32, frames=2, cameras=1, gaussians=100)
    write_exact_twin(tracked, tmp_path / "exact", truth, [3, 1])
    twin = open_capture(tmp_path / "exact")
    np.testing.assert_array_equal(twin.motion.rotations, truth.motion.rotations[[3, 1]])
    np.testing.assert_allclose(twin.cameras[0].K[:2], truth.cameras[0].K[:2] / 2)
    np.testing.assert_array_equal(twin.rgba(1), open_capture(tracked).rgba(1))
    assert not twin.tracked


def test_a_trained_head_mends_a_track(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_capture(tmp_path / "tiny", size=32, frames=2, cameras=1, gaussians=200)
    avatar, written = tiny_avatar(tmp_path, gaussians=200), tmp_path / "mended.npz"
    arguments = ["capture", "refine", str(avatar), str(folder), "--size", "32", "--device", "cpu", "--steps", "2"]
    assert main([*arguments, "--output", str(written)]) == 0
    capture = open_capture(folder)
    assert (with_parameters(capture, written).motion.rotations != capture.motion.rotations).any()
    assert main([*arguments, "--output", "mended.txt"]) != 0
    assert "another kind" in capsys.readouterr().err
