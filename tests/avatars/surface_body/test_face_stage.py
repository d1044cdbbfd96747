"""Stage C learns a person's colours on a mesh that is given, goes on from a checkpoint, and leaves an avatar."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.face_settings import FaceSettings, check_faces
from avatars.surface_body.face_stage import FaceStage, Pose
from avatars.surface_body.mesh_state import MeshState
from avatars.training.data import Batch
from avatars.training.optimiser import Optimiser
from shared.errors import BadConfig
from tests.avatars.surface_body.people import bright_texture, poses, small_avatar
from tests.tiny_body import body_camera

SIZE = 48
SETTINGS = FaceSettings(count=4000, colour_rate=0.02, opacity_rate=0.05)


@dataclass(frozen=True)
class Recorded:
    """Two frames."""

    pose: Pose

    def of(self, frames: Tensor) -> Pose:
        turned, shifts, expressions = self.pose
        return turned[frames], shifts[frames], expressions[frames]


@dataclass(frozen=True)
class Given:
    """A mesh of other colours than the person's."""

    mesh: MeshState

    def mesh_state(self) -> MeshState:
        return self.mesh


@pytest.fixture(scope="module")
def truth() -> SurfaceAvatar:
    found = copy(small_avatar())
    found.sharp = SETTINGS.sharp
    return found


@pytest.fixture(scope="module")
def batch(truth: SurfaceAvatar) -> Batch:
    lens = CameraBatch.from_cameras([body_camera(SIZE, 0.4), body_camera(SIZE, 3.0)])
    with torch.no_grad():
        posed = truth.pose(*poses(2)).seen_from(lens.positions())
        drawn = rasterise(posed, lens, posed.colours)
    pixels = torch.cat((drawn.features, drawn.alpha[..., None]), -1)
    return Batch(pixels, lens, torch.arange(2), torch.tensor([[1.0, 1, 1], [0, 0.5, 0]]))


def begun(truth: SurfaceAvatar) -> FaceStage:
    solid = bright_texture()
    with torch.no_grad():
        solid.grid.table.zero_()
    given = Given(replace(truth.mesh, solid=solid))
    return FaceStage(SETTINGS, truth.person, Recorded(poses(2)), given, begins=0.8, images=100)


def steps(stage: FaceStage, optimiser: Optimiser, batch: Batch, count: int) -> float:
    for step in range(count):
        terms = stage.losses(batch, step / count)
        optimiser.step(torch.stack(list(terms.values())).sum(), 80 + step)
    return float(stage.losses(batch, 1.0)["picture"].detach())


def test_it_learns_goes_on_and_ends_as_an_avatar(truth: SurfaceAvatar, batch: Batch) -> None:
    stage = begun(truth)
    optimiser = Optimiser(stage.parameters())
    assert not stage.begun
    stage.begin()
    assert 3000 <= stage.gaussians() <= 4000
    first = float(stage.losses(batch, 0.0)["picture"].detach())
    steps(stage, optimiser, batch, 6)
    kept = {name: value.clone() for name, value in (optimiser.state() | dict(stage.state())).items()}
    end = steps(stage, optimiser, batch, 12)
    assert end < 0.3 * first
    again = begun(truth)
    there = Optimiser(again.parameters())
    there.restore(kept)
    again.restore(kept)
    assert steps(again, there, batch, 12) == end, "the same, to the last bit"
    avatar = again.avatar(truth.rest_pose)
    shown = stage.render(batch)
    with torch.no_grad():
        posed = avatar.pose(*poses(2)).seen_from(batch.cameras.positions())
        drawn = rasterise(posed, batch.cameras, posed.colours)
    torch.testing.assert_close(drawn.features, shown.features, atol=0.01, rtol=0)
    assert len(avatar.gaussians) <= stage.gaussians()


def test_pixels_that_count_for_nothing_do_not(truth: SurfaceAvatar, batch: Batch) -> None:
    stage = begun(truth)
    stage.begin()
    blind = replace(batch, ignored=torch.ones(2, SIZE, SIZE, dtype=torch.bool))
    terms = stage.losses(blind, 0.0)
    assert float(terms["picture"].detach()) == float(terms["mask"].detach()) == 0
    assert abs(float(terms["dssim"].detach())) < 1e-6


def test_a_run_without_the_stage_has_gaussians_in_the_meshs_colours(truth: SurfaceAvatar) -> None:
    stage = begun(truth)
    avatar = stage.avatar(truth.rest_pose)
    assert len(avatar.gaussians) == stage.gaussians() >= 3000
    assert float(avatar.gaussians.colours.std(0).max()) < 0.2


def test_rates_begin_where_the_stage_does(truth: SurfaceAvatar) -> None:
    rated = {entry.name: entry for entry in begun(truth).parameters()}["faces.colours"]
    assert rated.rate(80) == pytest.approx(SETTINGS.colour_rate)
    assert rated.rate(100) == pytest.approx(SETTINGS.colour_rate * SETTINGS.final)


def test_settings_are_checked() -> None:
    check_faces(FaceSettings())
    for wrong in (FaceSettings(count=1), FaceSettings(opacity=0.0), FaceSettings(colour_rate=-1.0)):
        with pytest.raises(BadConfig):
            check_faces(wrong)
