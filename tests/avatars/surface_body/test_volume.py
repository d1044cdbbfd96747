"""The field and the volumetric stage: begins as the template, slopes are true, a few steps of training help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.captures.opening import open_capture
from avatars.rendering.cameras import CameraBatch
from avatars.skinning.closest_points import closest_points
from avatars.surface_body.march import posed
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.picture import picture
from avatars.surface_body.pixels import choose_pixels
from avatars.surface_body.settings import StageShares, check_surface
from avatars.surface_body.stages import stage_at
from avatars.surface_body.storage import field_description, field_tensors, open_field
from avatars.surface_body.trainer import SurfaceTrainer
from avatars.training.data import load_pictures
from avatars.training.optimiser import Optimiser
from shared.errors import BadAvatar, BadConfig, BadTemplate
from tests.avatars.relit_files import front
from tests.avatars.surface_body.tiny_surface import tiny_config, tiny_model
from tests.tiny_body import body_motion, body_reference


def shaken_model() -> SurfaceModel:
    """One whose field is not the template's any more."""
    model = SurfaceModel(tiny_config().surface, body_reference(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith("field.") and value.ndim:
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return model


def test_an_untrained_field_is_the_template() -> None:
    model = tiny_model()
    vertices, faces = model.mesh(96)
    away = closest_points(vertices, model.body.vertices, model.body.faces).distance_m
    spacing = tiny_config().surface.star.base_spacing_m
    assert np.mean(away) < 0.2 * spacing
    assert np.quantile(away, 0.99) < spacing
    back = closest_points(model.body.vertices[::20], vertices, faces).distance_m
    assert np.median(back) < 0.5 * spacing  # fingers, of which there are many vertices, are thinner than these voxels


def test_gradients_of_the_field_are_finite_differences() -> None:
    model = shaken_model().double()
    model.field.base_grid = replace_doubles(model.field.base_grid)
    generator = torch.Generator().manual_seed(1)
    places = torch.from_numpy(model.body.vertices[::400]) + 0.03 * torch.randn(
        len(model.body.vertices[::400]), 3, generator=generator, dtype=torch.float64
    )
    found = model.field.geometry(places).gradient
    step = 1e-7
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        change = (model.field.distance(places + shift) - model.field.distance(places - shift)) / (2 * step)
        assert torch.allclose(change, found[:, axis].detach(), atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pictures_on_cuda_are_those_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = SurfaceModel(tiny_config().surface, body_reference(), torch.device(device))
        with torch.no_grad():
            for name, value in shaken_model().named_parameters():
                dict(model.named_parameters())[name].copy_(value)
            rotations = torch.from_numpy(body_motion(1)["rotations"]).to(device)
            transforms = model.body.transforms(rotations, torch.zeros(1, 3, device=device))
            guides = [model.body.guide(transforms[0])]
            poses = posed(model, transforms, guides, model.weights.rows(), model.weights.lattice)
            found.append(picture(model, poses, CameraBatch.from_cameras([front(48)], device)))
    for name in ("colour", "alpha", "depth_m"):
        one, two = (getattr(part, name).cpu() for part in found)
        assert float((one - two).abs().mean()) < 2e-3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_steps_are_the_plain_ones() -> None:
    capture = open_capture("demo_body")
    config = tiny_config()
    pair = [
        SurfaceTrainer(replace(config, surface=replace(config.surface, record=record)), capture, "cuda")
        for record in (True, False)
    ]
    pictures = load_pictures(capture, capture.split("train")[:6], 64, torch.device("cuda"))
    shares = config.surface.stages.volume * config.schedule.images
    for number, share in enumerate((0.02, 0.03, 0.3, 0.31, 0.32, 0.7)):
        chosen = torch.tensor([number % 6, (number + 1) % 6])
        found = []
        for trainer in pair:
            batch = pictures.batch(chosen, torch.full((2, 3), 0.1 * number, device="cuda"))
            terms = trainer.losses(batch, share * shares)
            slopes = torch.autograd.grad(
                torch.stack(list(terms.values())).sum(), list(trainer.volume.model.parameters()), allow_unused=True
            )
            found.append((terms, [None if one is None else one.clone() for one in slopes]))
            del terms, slopes
        (mine, my_slopes), (plain, plain_slopes) = found
        assert list(mine) == list(plain)
        for name, value in plain.items():
            assert torch.allclose(mine[name], value, atol=1e-6, rtol=1e-3), name
        for one, other in zip(my_slopes, plain_slopes, strict=True):
            if other is not None and other.any():
                torch.testing.assert_close(one, other, atol=1e-7 + 2e-3 * float(other.abs().max()), rtol=1e-2)
        del found, mine, my_slopes, plain, plain_slopes
    assert not pair[0].volume.steps.refused
    assert pair[0].volume.steps.recorded
    assert not pair[1].volume.steps.recorded


def replace_doubles(grid):  # type: ignore[no-untyped-def]
    lattice = type(grid.lattice)(grid.lattice.low.double(), grid.lattice.per_m.double(), grid.lattice.shape)
    return type(grid)(grid.values.double(), lattice)


def test_the_change_is_bounded() -> None:
    model = shaken_model()
    with torch.no_grad():
        model.field.shape.b[-1][0] = 50.0
        places = torch.from_numpy(model.body.vertices[::200]).float()
        found = model.field.geometry(places)
    limit = tiny_config().surface.fields.delta_max_m
    assert torch.allclose(found.distance_m - found.base_m, torch.full_like(found.base_m, limit), atol=1e-5)


def test_a_stored_field_is_the_same() -> None:
    model = shaken_model()
    again = open_field(body_reference(), field_description(model), field_tensors(model))
    places = torch.from_numpy(model.body.vertices[::100]).float()
    assert torch.allclose(model.field.distance(places), again.field.distance(places), atol=1e-3)
    tensors = field_tensors(model)
    tensors.pop("field.v")
    with pytest.raises(BadAvatar, match="field"):
        open_field(body_reference(), field_description(model), tensors)


def test_stages_follow_the_schedule() -> None:
    shares = tiny_config().surface.stages
    assert stage_at(shares, 0.0) == (0, 0.0)
    assert stage_at(replace(shares, volume=0.5, mesh=0.3), 0.65)[0] == 1
    number, share = stage_at(replace(shares, volume=0.5, mesh=0.3), 1.0)
    assert (number, share) == (2, 1.0)
    assert stage_at(replace(shares, volume=0.6, mesh=0.4), 1.0) == (1, 1.0)
    assert stage_at(replace(shares, volume=1.0, mesh=0.0), 1.0) == (0, 1.0)


def test_pixels_lie_where_they_are_wanted() -> None:
    alpha = torch.zeros(2, 60, 40)
    alpha[0, 20:40, 10:30] = 1
    wanted = replace(tiny_config().surface.sampling, rays=2000, inside_share=0.5, edge_share=0.25, edge_px=8)
    drawn = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = choose_pixels(alpha, wanted, drawn)
    assert chosen.shape == (2, 1000, 2)
    inside = alpha[0, chosen[0, :, 0], chosen[0, :, 1]].mean()
    assert 0.55 < float(inside) < 0.95
    assert (chosen[1] >= 0).all()  # a picture without a person gives pixels all the same
    assert (chosen[1, :, 0] < 60).all()


def test_nonsense_is_refused() -> None:
    surface = tiny_config().surface
    with pytest.raises(BadConfig, match="shell_m"):
        check_surface(replace(surface, sampling=replace(surface.sampling, shell_m=-1.0)))
    with pytest.raises(BadTemplate, match="no whole body"):
        SurfaceModel(surface, replace(body_reference(), view="bust", digest=bust_digest()), torch.device("cpu"))


def bust_digest() -> str:
    from avatars.templates.opening import reference_of

    return reference_of("effigy_human", view="bust").digest


def test_a_little_training_helps_and_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    capture = open_capture("demo_body")
    config = replace(tiny_config(), schedule=replace(tiny_config().schedule, images=60))
    config = replace(config, surface=replace(config.surface, stages=StageShares(1.0, 0.0)))
    trainer = SurfaceTrainer(config, capture, "cpu")
    optimiser = Optimiser(trainer.parameters())
    pictures = load_pictures(capture, capture.split("train")[:4], 48, torch.device("cpu"))
    backgrounds = torch.zeros(2, 3)
    seen = []
    for step in range(30):
        batch = pictures.batch(torch.tensor([step % 4, (step + 1) % 4]), backgrounds)
        terms = trainer.losses(batch, 2.0 * step)
        total = torch.stack(list(terms.values())).sum()
        optimiser.step(total, 2.0 * step)
        trainer.after_step(batch, 2.0 * step)
        seen.append(float(total.detach()))
    assert np.isfinite(seen).all()
    assert np.mean(seen[-4:]) < 0.7 * np.mean(seen[:4])
    batch = pictures.batch(torch.tensor([0, 1]), backgrounds)
    found = trainer.render(batch)
    assert torch.isfinite(found.features).all()
    covered, mask = found.alpha > 0.5, batch.alpha() > 0.5
    assert float((covered & mask).sum() / (covered | mask).sum()) > 0.7
    state = {name: value.clone() for name, value in trainer.state().items()}
    one = trainer.losses(batch, 50.0)
    trainer.restore(state)
    two = trainer.losses(batch, 50.0)
    assert all(torch.equal(one[name], two[name]) for name in one)
    avatar = trainer.finish()
    assert len(avatar.gaussians) > 1000
    shown = trainer.render(batch)
    # a Gaussian is a pixel wide at least, and limbs are three here
    assert float(((shown.alpha > 0.5) & mask).sum() / ((shown.alpha > 0.5) | mask).sum()) > 0.5
