"""The compiled CPU rasteriser against the plain-torch reference in float64, and its habits at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering import CameraBatch, Rasterised, rasterise
from avatars.rendering.sharpness import made_ordinary
from shared.errors import EffigyError
from tests.avatars.rendering.scenes import (
    assert_same_gradients,
    assert_same_image,
    gaussians_of,
    gradients,
    make_cameras,
    make_scene,
)


def renderer(
    implementation: str, cameras: CameraBatch, sharp: bool = False
) -> Callable[[dict[str, Tensor]], Rasterised]:
    def render(scene: dict[str, Tensor]) -> Rasterised:
        return rasterise(
            gaussians_of(scene, sharp=sharp),
            cameras,
            scene["features"],
            background=scene["background"],
            implementation=implementation,
        )

    return render


def compare(scene: dict[str, Tensor], cameras: CameraBatch, sharp: bool = False) -> Rasterised:
    got, got_gradients = gradients(renderer("cpu", cameras, sharp), scene)
    want, want_gradients = gradients(
        renderer("reference", cameras, sharp), {name: tensor.double() for name, tensor in scene.items()}
    )
    assert_same_image(got, want)
    assert_same_gradients(got_gradients, want_gradients)
    return got


@pytest.mark.parametrize(
    ("frames", "count", "channels", "width_px", "height_px"),
    [(1, 60, 3, 48, 32), (3, 120, 1, 37, 21), (2, 400, 16, 24, 50), (1, 1, 2, 1, 1), (1, 700, 3, 64, 64)],
)
def test_same_as_reference(frames: int, count: int, channels: int, width_px: int, height_px: int) -> None:
    compare(make_scene(frames, count, channels), make_cameras(frames, width_px, height_px))


@pytest.mark.parametrize("orthographic", [False, True])
def test_sharp_ones_same_as_reference(orthographic: bool) -> None:
    scene = make_scene(2, 150, 3, seed=5, scale_m=0.02)
    scene["scales"][:, :30, 2] = 1e-5  # flat ones, of which some are seen edge-on
    scene["scales"][:, 30:40] = 1e-6  # points: nothing is left of them
    cameras = make_cameras(2, 37, 21, focal=0.5 if orthographic else 1.2, orthographic=orthographic)
    got = compare(scene, cameras, sharp=True)
    blurred = renderer("cpu", cameras)(scene)
    assert float(got.alpha.detach().mean()) < 0.8 * float(blurred.alpha.mean())
    ordinary = made_ordinary(gaussians_of(scene, sharp=True), cameras)
    again = rasterise(ordinary, cameras, scene["features"], background=scene["background"], implementation="cpu")
    assert_same_image(again, got)


def test_a_sharp_gaussian_covers_what_it_would_without_blur() -> None:
    """A disc of a tenth of a pixel covers 2 pi of its variance, not that of the blur."""
    K = torch.tensor([[[100.0, 0, 10.0], [0, 100.0, 10.0], [0, 0, 1]]])
    cameras = CameraBatch(K, torch.eye(4)[None], 20, 20)
    disc = {
        "means": torch.tensor([[[0.0, 0.0, 1.0]]]),
        "quats": torch.tensor([[[1.0, 0, 0, 0]]]),
        "scales": torch.tensor([[[0.004, 0.004, 1e-6]]]),
        "opacities": torch.full((1, 1), 0.5),
    }
    covers = {}
    for sharp in (True, False):
        image = rasterise(gaussians_of(disc, sharp=sharp), cameras, torch.ones(1, 1, 1), implementation="cpu")
        covers[sharp] = float(image.alpha.sum())
    assert covers[True] == pytest.approx(0.5 * 2 * math.pi * 0.16, rel=0.05)
    assert covers[False] > 2.5 * covers[True]


@pytest.mark.parametrize(("frames", "count", "width_px", "height_px"), [(2, 120, 37, 21), (1, 500, 48, 64)])
def test_orthographic_same_as_reference(frames: int, count: int, width_px: int, height_px: int) -> None:
    scene = make_scene(frames, count, 3, seed=11)
    scene["means"][..., 2] -= 1.2  # some behind the near plane
    compare(scene, make_cameras(frames, width_px, height_px, focal=0.5, orthographic=True))


def test_orthographic_pictures_do_not_shrink_with_distance() -> None:
    """A ball of 0.1 m at 100 px per m has a standard deviation of 10 px (and the blur's), wherever it stands."""
    K = torch.tensor([[[100.0, 0, 40.0], [0, 50.0, 20.0], [0, 0, 1]]])
    cameras = CameraBatch(K, torch.eye(4)[None], 80, 40, orthographic=True)
    pictures = []
    for depth in (1.0, 40.0):
        ball = {
            "means": torch.tensor([[[0.1, -0.04, depth]]]),
            "quats": torch.tensor([[[1.0, 0, 0, 0]]]),
            "scales": torch.full((1, 1, 3), 0.1),
            "opacities": torch.full((1, 1), 0.9),
        }
        image = rasterise(gaussians_of(ball), cameras, torch.ones(1, 1, 1), implementation="cpu")
        rows, columns = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(80) + 0.5, indexing="ij")
        expected = 0.9 * torch.exp(-0.5 * ((columns - 50) ** 2 / 100.3 + (rows - 18) ** 2 / 25.3))
        near = expected > 0.02
        torch.testing.assert_close(image.alpha[0][near], expected[near], atol=1e-4, rtol=1e-4)
        assert float(image.depth[0, 18, 50]) == pytest.approx(depth)
        pictures.append(image.alpha)
    torch.testing.assert_close(*pictures)


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: scene["opacities"].fill_(1.0),
        lambda scene: scene["opacities"].fill_(0.0),
        lambda scene: scene["scales"].zero_(),
        lambda scene: scene["scales"].mul_(torch.tensor([8.0, 0.01, 0.01])),
        lambda scene: scene["scales"][:, :1].fill_(50.0),
        lambda scene: scene["means"].mul_(torch.tensor([4.0, 4.0, 1.0])),
        lambda scene: scene["means"][:, :40].mul_(torch.tensor([1e25, -1e22, 1.0])),
        lambda scene: scene["means"].select(-1, 2).sub_(1.9),  # around the near plane
        lambda scene: scene["means"].select(-1, 2).sub_(9.0),  # all behind
        lambda scene: scene["means"][:, 1:].copy_(
            scene["means"][:, :1].expand_as(scene["means"][:, 1:])
        ),  # equal depths
    ],
    ids=["opaque", "clear", "points", "needles", "covering", "outside", "far off", "near", "behind", "coincident"],
)
def test_degenerate_scenes_match_reference(change: Callable[[dict[str, Tensor]], object]) -> None:
    scene = make_scene(2, 80, 3, seed=3)
    change(scene)
    compare(scene, make_cameras(2, 40, 24))


def test_many_layers_reach_the_stop() -> None:
    scene = make_scene(1, 500, 2, seed=5, scale_m=0.5)
    image = compare(scene, make_cameras(1, 20, 20))
    assert float(image.alpha.detach().min()) > 0.99


def test_broken_gaussians_are_dropped_and_get_no_gradient() -> None:
    scene = make_scene(1, 12, 3, scale_m=0.2)
    whole = {name: tensor[:, 6:] if name != "background" else tensor for name, tensor in scene.items()}
    scene["means"][0, 0, 1] = float("nan")
    scene["scales"][0, 1, 2] = float("inf")
    scene["quats"][0, 2] = 0.0
    scene["opacities"][0, 3] = float("nan")
    scene["features"][0, 4, 0] = float("-inf")
    scene["quats"][0, 5, 3] = float("nan")
    cameras = make_cameras(1, 30, 20)
    image, found = gradients(renderer("cpu", cameras), scene)
    expected, wanted = gradients(renderer("cpu", cameras), whole)
    assert torch.equal(image.features, expected.features)
    for name in ("means", "quats", "scales", "opacities", "features"):
        assert torch.equal(found[name][:, 6:], wanted[name])
        assert not found[name][:, :6].any()
    plain = renderer("reference", cameras)(scene)
    assert_same_image(image, plain)


def test_no_gaussians_show_the_background() -> None:
    scene = make_scene(2, 0, 3)
    image, _ = gradients(renderer("cpu", make_cameras(2, 9, 7)), scene)
    assert torch.equal(image.features, scene["background"][:, None, None, :].expand(2, 7, 9, 3))
    assert not image.alpha.any()
    assert not image.depth.any()


def test_bit_equal_whatever_the_number_of_threads() -> None:
    scene, cameras = make_scene(3, 6000, 3, scale_m=0.03), make_cameras(3, 70, 45)  # enough to be split
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(gradients(renderer("cpu", cameras), scene))
    finally:
        torch.set_num_threads(before)
    for image, found in results[1:]:
        assert torch.equal(image.features, results[0][0].features)
        assert torch.equal(image.depth, results[0][0].depth)
        assert all(torch.equal(found[name], results[0][1][name]) for name in found if name != "background")


def test_one_set_seen_by_many_cameras_and_the_reverse() -> None:
    scene, cameras = make_scene(1, 50, 3), make_cameras(3, 20, 16)
    image = rasterise(gaussians_of(scene), cameras, scene["features"], implementation="cpu")
    assert image.features.shape == (3, 16, 20, 3)
    for index in range(3):
        one = CameraBatch(cameras.K[:1], cameras.camera_from_world[index : index + 1], 20, 16, cameras.near_m)
        single = rasterise(gaussians_of(scene), one, scene["features"], implementation="cpu")
        assert torch.equal(image.features[index], single.features[0])
    several = make_scene(3, 50, 3)
    assert rasterise(gaussians_of(several), make_cameras(1, 20, 16), several["features"]).alpha.shape == (3, 16, 20)


def test_an_image_changed_in_place_is_noticed_by_the_backward_pass() -> None:
    scene, cameras = make_scene(1, 20, 3), make_cameras(1, 16, 16)
    features = scene["features"].requires_grad_()
    image = rasterise(gaussians_of(scene), cameras, features, implementation="cpu")
    image.features.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        image.features.sum().backward()


def test_input_that_does_not_fit_is_refused() -> None:
    scene, cameras = make_scene(2, 5, 3), make_cameras(2, 8, 8)
    gaussians = gaussians_of(scene)
    with pytest.raises(EffigyError, match="features"):
        rasterise(gaussians, cameras, scene["features"][:, :4])
    with pytest.raises(EffigyError, match="background"):
        rasterise(gaussians, cameras, scene["features"], background=torch.zeros(2, 4))
    with pytest.raises(EffigyError, match="Gaussians do not fit"):
        rasterise(gaussians, make_cameras(3, 8, 8), scene["features"])
    with pytest.raises(EffigyError, match="unknown rasteriser"):
        rasterise(gaussians, cameras, scene["features"], implementation="opengl")  # type: ignore[arg-type]


def test_float64_input_gets_float64_gradients() -> None:
    scene = {name: tensor.double() for name, tensor in make_scene(1, 5, 3).items()}
    _, found = gradients(renderer("cpu", make_cameras(1, 8, 8)), scene)
    assert found["means"].dtype == torch.float64


def test_transformed_gaussians_and_camera_give_the_same_image() -> None:
    scene, cameras = make_scene(1, 80, 3), make_cameras(1, 32, 32)
    angle = torch.tensor(0.7)
    motion = torch.eye(4)[None].clone()
    motion[0, :2, :2] = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    motion[0, :3, 3] = torch.tensor([0.3, -1.0, 2.0])
    moved = gaussians_of(scene).transformed(motion)
    followed = CameraBatch(cameras.K, cameras.camera_from_world @ torch.linalg.inv(motion), 32, 32, cameras.near_m)
    still = rasterise(gaussians_of(scene), cameras, scene["features"], implementation="cpu")
    assert_same_image(rasterise(moved, followed, scene["features"], implementation="cpu"), still, atol=2e-4)
    assert isinstance(moved, PosedGaussians)


def test_several_threads_may_render_at_once() -> None:
    scenes = [make_scene(1, 3000, 3, seed=seed, scale_m=0.03) for seed in range(4)]
    cameras = make_cameras(1, 64, 48)

    def render(scene: dict[str, Tensor]) -> Tensor:
        return rasterise(gaussians_of(scene), cameras, scene["features"], implementation="cpu").features

    expected = [render(scene) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(render, scenes * 4))
    assert all(torch.equal(image, expected[index % 4]) for index, image in enumerate(together))
