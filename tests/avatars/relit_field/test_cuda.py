"""Teachers on CUDA: the kernels against their plain twins, a step of training, and none of it without a device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from avatars.captures.opening import open_capture
from avatars.relit_field.body import CanonicalBody
from avatars.relit_field.fields import Fields
from avatars.relit_field.fused import fusing
from avatars.relit_field.hash_grid import HashGrid
from avatars.relit_field.inverse_skinning import canonical_roots, roots_plainly
from avatars.relit_field.light import LobeLight
from avatars.relit_field.settings import FieldSettings, GridSettings, LightSettings
from avatars.relit_field.shading import sent_back
from avatars.relit_field.sky import importance, sky_of
from avatars.relit_field.trainer import TeacherTrainer
from avatars.templates.opening import reference_of
from avatars.training.config import load_config
from avatars.training.loop import Run
from tests.avatars.relit_field.bodies import SMALL, lively_pose
from tests.body_layouts import write_peoplesnapshot

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CUDA = torch.device("cuda")


@pytest.mark.parametrize("slopes", [True, False])
@pytest.mark.parametrize("features", [1, 2, 4])
def test_the_grid_is_its_plain_twin(features: int, slopes: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = HashGrid(GridSettings(levels=5, features=features, table_log2=9, base=4, growth=1.6), generator)
    with torch.no_grad():
        grid.table.normal_(generator=generator)
    grid = grid.to(CUDA)
    at = (torch.rand(500, 3, generator=generator) * 1.2 - 0.1).to(CUDA)
    for levels in (5, 2):
        found, steep = grid.encode(at, levels, slopes=slopes)
        plain, plain_steep = grid.encode_by_gradients(at, levels, slopes=slopes)
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(steep, plain_steep, atol=1e-3, rtol=1e-4)
        mix, mixed = torch.randn_like(found), torch.randn_like(steep)
        loss, reference = (found * mix).sum() + (steep * mixed).sum(), (plain * mix).sum() + (plain_steep * mixed).sum()
        (first,) = torch.autograd.grad(loss, grid.table)
        (second,) = torch.autograd.grad(reference, grid.table)
        torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-4)
    assert grid.encode(at[:0], slopes=slopes)[0].shape == (0, grid.width)


def test_places_are_those_of_the_plain_method() -> None:
    body = CanonicalBody(reference_of("effigy_human", preset="woman", view="body"), SMALL, 1.2, CUDA)
    rotations, translations = lively_pose(body)
    pose = body.posed(rotations, translations.to(CUDA))
    rows = torch.randperm(len(body.surface), generator=torch.Generator().manual_seed(0))[:2000]
    canonical = torch.from_numpy(body.surface).float()[rows].to(CUDA)
    posed = pose.blend.skinned(canonical)
    starts = pose.guide.starts[pose.guide.rows(posed)[0]]
    plain, off = roots_plainly(posed, starts, pose.inverse, pose.blend, body.settings)
    found = canonical_roots(posed, pose.blend, pose.inverse, pose.guide, body.settings)
    sure = found.real & (off < 1e-4)
    assert float(sure.any(1).float().mean()) > 0.98
    assert float((found.places - plain).norm(dim=-1)[sure].max()) < 1e-3
    assert canonical_roots(posed[:0], pose.blend, pose.inverse, pose.guide, body.settings).places.shape[0] == 0


def test_compiled_functions_say_the_same() -> None:
    """Values and slopes of networks, reflection and drawn directions, with torch's compiler and without."""
    generator = torch.Generator().manual_seed(0)
    fields = Fields(FieldSettings(grid=GridSettings(levels=4, table_log2=12)), torch.zeros(3), 1.0, generator).to(CUDA)
    places = (torch.rand(700, 3, generator=generator) - 0.5).to(CUDA)
    sky = sky_of(LobeLight(LightSettings(lobes=8), generator).to(CUDA))
    normals = normalize(places, dim=-1)

    def answers(wanted: bool) -> list[torch.Tensor]:
        with fusing(wanted):
            geometry = fields.geometry(places)
            stuff = fields.materials(places, geometry.features)
            rough = 0.3 + 0.6 * stuff.roughness
            lit = sent_back(normals, normals, normals, stuff.albedo, rough, stuff.metallic)
            seen = fields.radiance(places, geometry.features, normals, normals)
            learned = [*fields.shape.parameters(), *fields.material.w, *fields.colour.w]
            slopes = torch.autograd.grad(lit.sum() + seen.sum() + geometry.gradient.sum(), learned)
            drawn = importance(normals, normals, rough[:, 0].detach(), sky, 32, torch.Generator(CUDA).manual_seed(1))
        return [geometry.gradient, lit, seen, drawn.to_light, *slopes]

    for ours, plain in zip(answers(True), answers(False), strict=True):
        assert float((ours - plain).abs().max()) < 2e-3 * float(plain.abs().max()) + 1e-5


def test_it_trains_and_goes_on(tmp_path: Path) -> None:
    write_peoplesnapshot(tmp_path / "person")
    capture = open_capture(tmp_path / "person")
    config = load_config("relit_teacher_tiny")
    run = Run(config, capture, tmp_path / "run", "cuda", lambda told: None)
    steps = 0

    def pause() -> str:
        nonlocal steps
        steps += 1
        return "pause" if steps == 8 else ""

    assert run.go(pause) == "paused"
    resumed = Run(config, capture, tmp_path / "run", "cuda", lambda told: None)
    assert resumed.images == run.images
    assert isinstance(resumed.trainer, TeacherTrainer)
    assert torch.equal(resumed.trainer.state()["generator"], run.trainer.state()["generator"])
    assert resumed.go(lambda: "") == "done"
    for name, value in resumed.optimiser.state().items():
        assert bool(torch.isfinite(value.float()).all()), name
