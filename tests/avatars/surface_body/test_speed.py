"""Timing a surface body gives a row of numbers; on CUDA its recorded pose is the plain one."""

from __future__ import annotations

import pytest
import torch

from avatars.surface_body.avatar import load_surface_body
from avatars.surface_body.speed import measure
from tests.avatars.surface_body.people import poses, small_avatar


def test_a_row() -> None:
    row = measure(small_avatar(), device="cpu", size_px=64, seconds=0.01)
    assert row.gaussians >= row.faces > 2000
    assert row.render_ms > 0
    assert row.frames_per_s == pytest.approx(1000 / row.render_ms)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_pose_is_the_plain_one() -> None:
    here = small_avatar()
    there = load_surface_body(here.template(), here.description(), here.tensors(), "cuda")
    eye = torch.tensor([[1.0, -3, 0.2]])
    for seed in (0, 1):  # the second is a replay
        given = poses(1, seed)
        wanted, found = here.pose(*given).seen_from(eye), there.pose(*(part.cuda() for part in given))
        kept = found.means
        found = found.seen_from(eye.cuda())
        torch.testing.assert_close(found.means.cpu(), wanted.means, atol=2e-5, rtol=0)
        for name, most in (("scales", 2e-5), ("colours", 5e-3), ("opacities", 1e-5), ("normals", 3e-3)):
            torch.testing.assert_close(getattr(found, name).cpu(), getattr(wanted, name), atol=most, rtol=1e-2)
    assert kept is not None
    assert measure(there, device="cuda", size_px=64, seconds=0.02).frames_per_s > 0
