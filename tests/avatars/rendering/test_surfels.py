"""Surfels: the compiled rasteriser and gsplat's against the plain-torch reference, and against geometry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering import CameraBatch
from avatars.rendering.gsplat_backend import why_unavailable
from avatars.rendering.gsplat_surfels import padded_width
from avatars.rendering.surfels import SurfelImage, rasterise_surfels
from shared.errors import EffigyError
from tests.avatars.rendering.scenes import (
    assert_same_gradients,
    assert_same_image,
    gaussians_of,
    make_cameras,
    make_scene,
)
from tests.avatars.rendering.test_gsplat import to_device


def drawn(scene: dict[str, Tensor], cameras: CameraBatch, implementation: str) -> SurfelImage:
    return rasterise_surfels(
        gaussians_of(scene),
        cameras,
        scene["features"],
        background=scene["background"],
        implementation=implementation,
        distortion=True,
    )


def differentiated(
    scene: dict[str, Tensor], cameras: CameraBatch, implementation: str
) -> tuple[SurfelImage, dict[str, Tensor]]:
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in scene.items()}
    image = drawn(leaves, cameras, implementation)
    rng = torch.Generator().manual_seed(7)
    total = image.features.new_zeros(())
    for output in (image.features, image.alpha, image.depth, image.distortion):
        total = total + (output * torch.randn(output.shape, generator=rng).to(output)).sum()
    return image, dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize(
    ("frames", "count", "channels", "width_px", "height_px"),
    [(1, 60, 3, 48, 32), (2, 120, 1, 37, 21), (2, 80, 7, 24, 50)],
)
def test_compiled_same_as_reference(
    frames: int, count: int, channels: int, width_px: int, height_px: int, orthographic: bool
) -> None:
    scene = make_scene(frames, count, channels)
    cameras = make_cameras(frames, width_px, height_px, focal=0.5 if orthographic else 1.2, orthographic=orthographic)
    got, got_slopes = differentiated(scene, cameras, "cpu")
    want, want_slopes = differentiated({n: t.double() for n, t in scene.items()}, cameras, "reference")
    assert_same_image(got, want, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got.distortion.double(), want.distortion, rtol=1e-3, atol=1e-4)
    # In single precision the plane's normal is known to about 1e-5 of a pixel where it is nearly edge on.
    assert_same_gradients(got_slopes, want_slopes, element=5e-3)


@pytest.mark.cuda
@pytest.mark.skipif(bool(why_unavailable()), reason=f"gsplat: {why_unavailable()}")
@pytest.mark.parametrize("channels", [3, 7, 15])
def test_gsplat_same_as_reference(channels: int) -> None:
    scene = make_scene(2, 120, channels)
    cameras = make_cameras(2, 48, 40)
    got, got_slopes = differentiated({n: t.cuda() for n, t in scene.items()}, to_device(cameras, "cuda"), "auto")
    want, want_slopes = differentiated({n: t.double() for n, t in scene.items()}, cameras, "reference")
    assert_same_image(got, want, rtol=1e-2, atol=2e-2)
    assert float((got.features.detach().cpu().double() - want.features.detach()).abs().mean()) < 5e-4
    assert_same_gradients(got_slopes, want_slopes, element=5e-2, cosine=0.995)


@pytest.mark.cuda
@pytest.mark.skipif(bool(why_unavailable()), reason=f"gsplat: {why_unavailable()}")
def test_parallel_rays_on_cuda() -> None:
    scene = make_scene(1, 80, 3)
    cameras = make_cameras(1, 48, 40, focal=0.5, orthographic=True)
    got = drawn({n: t.cuda() for n, t in scene.items()}, to_device(cameras, "cuda"), "auto")
    want = drawn(scene, cameras, "reference")
    assert float((got.features.cpu() - want.features).abs().mean()) < 2e-3
    covered = want.alpha > 0.5
    torch.testing.assert_close(got.depth.cpu()[covered], want.depth[covered], rtol=0, atol=5e-3)


def disk(tilt_rad: float, sigma_m: float = 0.2, opacity: float = 0.9) -> PosedGaussians:
    """One surfel at the origin facing -z (towards the camera), turned about x."""
    quat = torch.tensor([[[math.cos(tilt_rad / 2), math.sin(tilt_rad / 2), 0.0, 0.0]]])
    zero = torch.zeros(1, 1, 3)
    return PosedGaussians(zero, quat, torch.full((1, 1, 3), sigma_m), torch.full((1, 1), opacity), zero)


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
@pytest.mark.parametrize("tilt", [0.0, 0.9])
def test_a_ray_meets_the_plane(implementation: str, tilt: float) -> None:
    """Alpha is the Gaussian of the point in which the ray meets the disk's plane, worked out here by itself."""
    cameras = make_cameras(1, 65, 65)
    image = rasterise_surfels(disk(tilt), cameras, torch.ones(1, 1, 1), implementation=implementation)
    K, normal = cameras.K[0], torch.tensor([0.0, -math.sin(tilt), math.cos(tilt)])
    for row, column in ((30, 33), (24, 40), (41, 20), (36, 30)):
        ray = torch.tensor([(column + 0.5 - K[0, 2]) / K[0, 0], (row + 0.5 - K[1, 2]) / K[1, 1], 1.0])
        origin = torch.tensor([0.0, 0.0, -2.0])
        point = origin + ray * (-(origin @ normal) / (ray @ normal))
        expected = 0.9 * math.exp(-0.5 * float(point @ point) / 0.2**2)
        expected = expected if expected >= 1 / 255 else 0.0
        assert float(image.alpha[0, row, column]) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_edge_on_and_tiny_surfels_are_held_up_by_the_low_pass(implementation: str) -> None:
    cameras = make_cameras(1, 33, 33)
    for surfel in (disk(math.pi / 2), disk(0.0, sigma_m=1e-5)):
        alpha = rasterise_surfels(surfel, cameras, torch.ones(1, 1, 1), implementation=implementation).alpha
        assert torch.isfinite(alpha).all()
        assert 0.3 < float(alpha.max()) <= 0.9


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_broken_surfels_and_those_behind_are_left_out(implementation: str) -> None:
    scene = make_scene(1, 20, 3, scale_m=0.2)
    cameras = make_cameras(1, 30, 20)
    whole = {name: tensor[:, 4:] if name != "background" else tensor for name, tensor in scene.items()}
    expected, slopes = differentiated(whole, cameras, implementation)
    scene["means"][0, 0, 1] = float("nan")
    scene["quats"][0, 1] = 0.0
    scene["means"][0, 2, 2] = -5.0
    scene["means"][0, 3] = torch.tensor([0.0, 0.0, -1.99])  # nearer than the near plane
    got, got_slopes = differentiated(scene, cameras, implementation)
    torch.testing.assert_close(got.features, expected.features)
    for name, slope in got_slopes.items():
        assert torch.isfinite(slope).all(), name
        if name != "background":
            assert float(slope[:, :4].abs().max()) == 0
            torch.testing.assert_close(slope[:, 4:], slopes[name])


def test_two_layers_have_their_distance_as_distortion() -> None:
    quats = torch.tensor([[[1.0, 0, 0, 0], [1.0, 0, 0, 0]]])
    means = torch.tensor([[[0.0, 0, 0], [0, 0, 0.5]]])
    stack = PosedGaussians(means, quats, torch.full((1, 2, 3), 5.0), torch.tensor([[0.4, 0.6]]), means)
    image = rasterise_surfels(stack, make_cameras(1, 9, 9), torch.ones(1, 2, 1), distortion=True)
    weights = 0.4, 0.6 * 0.6
    assert float(image.distortion[0, 4, 4]) == pytest.approx(2 * weights[0] * weights[1] * 0.5, rel=2e-2)
    assert float(image.depth[0, 4, 4]) == pytest.approx((2 * weights[0] + 2.5 * weights[1]) / sum(weights), rel=1e-2)


def test_no_surfels_and_wrong_features() -> None:
    empty = make_scene(1, 0, 3)
    for implementation in ("cpu", "reference"):
        image = drawn(empty, make_cameras(1, 8, 6), implementation)
        assert float(image.alpha.abs().max()) == 0
        torch.testing.assert_close(image.features[0, 2, 3], empty["background"][0])
    with pytest.raises(EffigyError, match="features do not fit"):
        rasterise_surfels(disk(0.0), make_cameras(1, 8, 8), torch.ones(1, 2, 1))


def test_threads_do_not_change_a_bit() -> None:
    scene, cameras = make_scene(1, 300, 5), make_cameras(1, 64, 64)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(differentiated(scene, cameras, "cpu"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0].features, found[1][0].features)
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in scene)


@pytest.mark.parametrize(("channels", "width"), [(3, 3), (13, 16), (16, 16), (17, 17), (40, 64), (65, 65)])
def test_padding(channels: int, width: int) -> None:
    assert padded_width(channels) == width
