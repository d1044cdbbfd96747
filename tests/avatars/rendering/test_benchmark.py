"""The benchmark measures something and prints it (no timing is judged here)."""

from __future__ import annotations

import pytest
import torch

from avatars.rendering.benchmark import format_table, front_camera, head_like_shell, run_raster_benchmark
from avatars.rendering.rasterise import rasterise
from avatars.rendering.reference import rotation_from_quaternion


def test_rows_and_table() -> None:
    rows = run_raster_benchmark(sizes=[(200, 32), (5000, 128)], repeats=1)
    assert [row["gaussians"] for row in rows] == [200, 5000]
    assert all(row["total_ms"] > 0 and row["forward_ms"] > 0 and row["backward_ms"] >= 0 for row in rows)
    assert rows[0]["ratio"] is None
    assert rows[1]["ratio"] == pytest.approx(rows[1]["total_ms"] / 15)
    lines = format_table(rows).splitlines()
    assert len(lines) == 3
    assert "128^2" in lines[2]


def test_the_shell_is_closed_and_fills_the_picture() -> None:
    shell = head_like_shell(3000)
    image = rasterise(shell, front_camera(64), shell.colours)
    assert 0.4 < float((image.alpha[0] > 0.5).float().mean()) < 0.8
    assert float(image.alpha[0, 24:40, 24:40].min()) > 0.9
    # the thin axis of every Gaussian is the direction it lies in
    thin = rotation_from_quaternion(shell.quats)[0, :, :, 2]
    direction = torch.nn.functional.normalize(shell.means[0] / torch.tensor([0.09, 0.11, 0.13]), dim=-1)
    torch.testing.assert_close(thin, direction, rtol=0, atol=1e-3)
