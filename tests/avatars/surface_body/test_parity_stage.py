"""The published course as a whole: its field, its way back to canonical places, and a tiny run of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.captures.opening import open_capture
from avatars.surface_body.network_weights import NetworkWeights, _nearest_by_cells, nearest_weights, way_back
from avatars.surface_body.parity_march import in_parts
from avatars.surface_body.parity_stage import ParityStage
from avatars.surface_body.picture import picture
from avatars.surface_body.plane_field import PlaneField
from avatars.surface_body.refined_poses import RefinedPoses
from avatars.surface_body.trainer import SurfaceTrainer
from avatars.training.config import load_config
from avatars.training.data import Batch, load_pictures
from avatars.training.optimiser import Optimiser

SMALL = {
    "schedule.images": "40",
    "surface.star.base_spacing_m": "0.04",
    "surface.deformation.cells": "20",
    "surface.deformation.guide": "16",
    "surface.deformation.guide_vertices": "300",
    "surface.planes.sides": "[16]",
    "surface.parity.networks.skin_fit": "60",
    "surface.parity.sampling.patches": "1",
    "surface.parity.sampling.patch_px": "8",
    "surface.parity.sampling.samples": "12",
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(9)


@pytest.fixture(scope="module")
def trainer() -> SurfaceTrainer:
    return SurfaceTrainer(load_config("surface_parity_tiny", SMALL), open_capture("demo_body"), "cpu")


@pytest.fixture(scope="module")
def batch(trainer: SurfaceTrainer) -> Batch:
    images = trainer.capture.split("train")
    pictures = load_pictures(trainer.capture, images[:2], 40, torch.device("cpu"))
    return pictures.batch(torch.arange(2), torch.zeros(2, 3))


def field_of(trainer: SurfaceTrainer) -> PlaneField:
    assert isinstance(trainer.model.field, PlaneField)
    return trainer.model.field


def near_surface(trainer: SurfaceTrainer, count: int) -> Tensor:
    vertices = torch.from_numpy(trainer.model.body.vertices).float()
    chosen = vertices[torch.randint(len(vertices), (count,), generator=generator())]
    return chosen + 0.02 * torch.randn(count, 3, generator=generator())


def test_the_first_surface_is_the_template(trainer: SurfaceTrainer) -> None:
    field = field_of(trainer)
    field.begin()
    places = near_surface(trainer, 50)
    found = field.geometry(places, 3.0)
    torch.testing.assert_close(found.distance_m, field.base(places), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.distance_m, field.distance(places, 3.0), atol=1e-6, rtol=1e-5)
    assert float(found.features.detach().abs().max()) <= 0.1
    assert float(field.sharpness().detach()) == pytest.approx(np.exp(3.0), rel=1e-5)


def test_gradients_of_the_field_are_those_of_its_distance_exactly(trainer: SurfaceTrainer) -> None:
    field = field_of(trainer)
    kept = [value.detach().clone() for value in field.parameters()]
    with torch.no_grad():
        for value in field.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator()))
    field.begin()
    places = near_surface(trainer, 8).requires_grad_()
    found = field.geometry(places, 2.5)
    (wanted,) = torch.autograd.grad(found.distance_m.sum(), places, create_graph=True)
    torch.testing.assert_close(found.gradient, wanted, atol=1e-4, rtol=1e-3)
    learned = [value for name, value in field.named_parameters() if name.startswith(("planes", "shape"))]

    def eikonal(gradient: Tensor) -> tuple[Tensor, ...]:
        term = (gradient.norm(dim=-1) - 1).square().mean()
        return torch.autograd.grad(term, [places, *learned], retain_graph=True, allow_unused=True)

    for mine, other in zip(eikonal(found.gradient), eikonal(wanted), strict=True):
        theirs = torch.zeros_like(mine) if other is None else other
        assert float((mine - theirs).norm()) <= 1e-3 * float(theirs.norm()) + 1e-5
    with torch.no_grad():
        for value, before in zip(field.parameters(), kept, strict=True):
            value.copy_(before)


def test_nearest_vertices_count_by_the_inverse_of_their_distance() -> None:
    vertices = torch.rand(300, 3, generator=generator())
    weights = torch.softmax(torch.randn(300, 5, generator=generator()), -1)
    places = torch.rand(40, 3, generator=generator())
    found = nearest_weights(places, vertices, weights, 10)
    for place, row in zip(places, found, strict=True):
        distance = (vertices - place).norm(dim=-1)
        index = distance.argsort()[:10]
        share = distance[index].sum() / (distance[index] + 1e-8)
        torch.testing.assert_close(row, (share / share.sum()) @ weights[index])
    assert nearest_weights(places[:0], vertices, weights, 10).shape == (0, 5)  # rays that meet nobody
    index, distance = _nearest_by_cells(places, vertices, 4)  # what CUDA devices do
    wanted = torch.cdist(places, vertices).topk(4, largest=False)
    assert float((distance - wanted.values).abs().max()) < 0.02
    assert float((index == wanted.indices).float().mean()) > 0.9


def test_the_way_back_finds_where_places_came_from(trainer: SurfaceTrainer) -> None:
    body, weights = trainer.model.body, trainer.model.weights
    assert isinstance(weights, NetworkWeights)
    turned = 0.15 * torch.randn(1, len(body.person.arrays.joint_names), 3, generator=generator())
    transforms = body.transforms(turned, torch.zeros(1, 3))[0].requires_grad_()
    canonical = near_surface(trainer, 200)
    blended = (weights.at(canonical) @ transforms.flatten(1)).view(-1, 3, 4)
    posed = ((blended[..., :3] @ canonical[..., None])[..., 0] + blended[..., 3]).detach()
    found = way_back(posed, weights.at(canonical).detach(), weights.at, transforms, 3)
    torch.testing.assert_close(found.canonical, canonical, atol=1e-4, rtol=1e-3)
    from_nearest = nearest_weights(canonical, torch.from_numpy(body.vertices).float(), body.skin, 10)
    guessed = way_back(posed, from_nearest, weights.at, transforms, 6).canonical
    assert float((guessed - canonical).detach().norm(dim=-1).median()) < 2e-3
    slopes = torch.autograd.grad(found.canonical.sum(), [transforms, *weights.parameters()])
    assert all(torch.isfinite(slope).all() and slope.abs().sum() > 0 for slope in slopes)


def test_parts_give_what_the_whole_gives_with_its_gradients() -> None:
    factor = torch.tensor(2.0, requires_grad=True)
    rows = torch.randn(10, 3, generator=generator(), requires_grad=True)

    def both(some: Tensor) -> tuple[Tensor, ...]:
        return (some * factor).sin(), some.square().sum(-1) * factor

    whole, parts = (in_parts(both, most, rows) for most in (10, 3))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
        ours, theirs = (torch.autograd.grad(value.sum(), (factor, rows), retain_graph=True) for value in (one, other))
        torch.testing.assert_close(ours, theirs)


def test_a_tiny_run_lowers_the_loss_and_goes_on_where_it_stopped(trainer: SurfaceTrainer, batch: Batch) -> None:
    stage = trainer.stages[0]
    assert isinstance(stage, ParityStage)
    assert isinstance(trainer.poses, RefinedPoses)
    optimiser = Optimiser(trainer.parameters())
    assert {entry.start_rate for entry in trainer.parameters()} == {3e-3, 1e-3, 5e-5}
    totals = []
    for _ in range(8):
        stage.generator.manual_seed(1)  # the same patches, so that steps can be compared
        terms = trainer.losses(batch, 20.0)
        assert set(terms) == {"rgb", "mse", "nssim", "perceptual", "eikonal", "mask"}
        total = torch.stack(list(terms.values())).sum()
        optimiser.step(total, 20.0)
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]
    assert any(float(value.detach().abs().max()) > 2e-5 for value in (trainer.poses.network.b[-1],))
    early = trainer.losses(batch, 0.0)
    assert "skinning" in early
    kept = {name: value.clone() for name, value in stage.state().items()}
    first = trainer.losses(batch, 1.0)["rgb"].detach()
    stage.restore(kept)
    torch.testing.assert_close(trainer.losses(batch, 1.0)["rgb"].detach(), first)


def test_pictures_have_no_jitter_and_show_the_person(trainer: SurfaceTrainer, batch: Batch) -> None:
    stage = trainer.stages[0]
    first, second = (stage.render(batch) for _ in range(2))
    torch.testing.assert_close(first.features, second.features)
    covered = batch.alpha() > 0.9
    assert float(first.alpha[covered].mean()) > 0.45
    assert float(first.alpha[batch.alpha() == 0].mean()) < 0.1
    depth = first.depth[covered & (first.alpha > 0.5)]
    assert 1.0 < float(depth.min()) < float(depth.max()) < 6.0
    with torch.no_grad():  # what pictures of a stored field are made by: skinning from nodes, samples where they count
        trainer.model.field.begin()
        posed = trainer.volume.posed(batch.frames, corrected=False)
        other = picture(trainer.model, posed, batch.cameras, trainer.volume.levels())
    assert float((other.alpha - first.alpha)[covered].abs().mean()) < 0.25


def test_pictures_without_the_person_teach_nothing(trainer: SurfaceTrainer, batch: Batch) -> None:
    kept = trainer.poses.translations.clone()
    trainer.poses.translations += torch.tensor((0.0, -90.0, 0.0))  # behind the cameras
    total = torch.stack(list(trainer.losses(batch, 0.0).values())).sum()
    slopes = torch.autograd.grad(total, [entry.parameter for entry in trainer.parameters()], allow_unused=True)
    nobody = trainer.stages[0].render(batch)
    trainer.poses.translations.copy_(kept)
    trainer.volume.guides.clear()
    assert float(nobody.alpha.abs().max()) == 0
    assert torch.isfinite(total)
    assert all(slope is None or float(slope.abs().max()) == 0 for slope in slopes)


def test_planes_and_the_network_serve_the_default_stage_as_well() -> None:
    changes = {
        "surface.fields.encoder": "planes",
        "surface.planes.sides": "[8, 16]",
        "surface.deformation.weights": "network",
        "surface.parity.networks.skin_width": "16",
        "surface.parity.networks.skin_layers": "1",
        "surface.parity.networks.skin_fit": "5",
        "surface.deformation.cells": "16",
        "surface.star.base_spacing_m": "0.04",
        "surface.sampling.rays": "64",
        "surface.deformation.guide": "16",
        "surface.deformation.guide_vertices": "300",
    }
    config = load_config("surface_tiny", changes)
    trainer = SurfaceTrainer(config, open_capture("demo_body"), "cpu")
    images = trainer.capture.split("train")[:1]
    pictures = load_pictures(trainer.capture, images, 24, torch.device("cpu"))
    one = pictures.batch(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3))
    total = torch.stack(list(trainer.losses(one, 10.0).values())).sum()
    names = {name for name, _ in trainer.model.named_parameters()}
    assert any("planes" in name for name in names)
    learned = [value for name, value in trainer.model.named_parameters() if "planes.0" in name or "weights" in name]
    assert all(slope is not None for slope in torch.autograd.grad(total, learned, allow_unused=True))
    assert dataclasses.is_dataclass(config.surface.planes)
