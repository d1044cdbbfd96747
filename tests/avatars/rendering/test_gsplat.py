"""gsplat against the plain-torch reference (needs CUDA), and what is said where it is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avatars.rendering import CameraBatch, Rasterised, rasterise
from avatars.rendering.gsplat_backend import why_unavailable
from shared.errors import EnvironmentFailed
from tests.avatars.rendering.scenes import (
    assert_same_gradients,
    assert_same_image,
    gaussians_of,
    gradients,
    make_cameras,
    make_scene,
)

needs_gsplat = pytest.mark.skipif(bool(why_unavailable()), reason=f"gsplat: {why_unavailable()}")


def to_device(cameras: CameraBatch, device: str) -> CameraBatch:
    pose = cameras.camera_from_world.to(device)
    return replace(cameras, K=cameras.K.to(device), camera_from_world=pose)


@pytest.mark.cuda
@needs_gsplat
@pytest.mark.parametrize(("orthographic", "sharp"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(
    ("frames", "count", "channels", "width_px", "height_px"),
    [(1, 60, 3, 48, 32), (3, 120, 1, 37, 21), (2, 400, 16, 24, 50), (1, 0, 3, 8, 8)],
)
def test_same_as_reference(
    frames: int, count: int, channels: int, width_px: int, height_px: int, orthographic: bool, sharp: bool
) -> None:
    scene = make_scene(frames, count, channels)
    focal = 0.5 if orthographic else 1.2
    cameras = make_cameras(frames, width_px, height_px, focal=focal, orthographic=orthographic)

    def render(implementation: str, device: str):
        def act(parameters: dict[str, torch.Tensor]) -> Rasterised:
            return rasterise(
                gaussians_of(parameters, sharp=sharp),
                to_device(cameras, device),
                parameters["features"],
                background=parameters["background"],
                implementation=implementation,
            )

        return act

    got, got_gradients = gradients(render("auto", "cuda"), {name: tensor.cuda() for name, tensor in scene.items()})
    want, want_gradients = gradients(
        render("reference", "cpu"), {name: tensor.double() for name, tensor in scene.items()}
    )
    # gsplat's exponential is the GPU's fast one; single pixels can fall on the other side of the alpha floor (1/255).
    assert_same_image(got, want, rtol=1e-2, atol=1e-2)
    assert float((got.features.detach().cpu().double() - want.features.detach()).abs().mean()) < 1e-4
    assert_same_gradients(got_gradients, want_gradients, element=2e-2)


@pytest.mark.cuda
@needs_gsplat
def test_broken_gaussians_are_dropped() -> None:
    scene = {name: tensor.cuda() for name, tensor in make_scene(1, 12, 3, scale_m=0.2).items()}
    whole = gaussians_of({name: tensor[:, 2:] for name, tensor in scene.items() if name != "background"})
    cameras = to_device(make_cameras(1, 30, 20), "cuda")
    expected = rasterise(whole, cameras, scene["features"][:, 2:])
    scene["means"][0, 0, 1] = float("nan")
    scene["quats"][0, 1] = 0.0
    got = rasterise(gaussians_of(scene), cameras, scene["features"])
    torch.testing.assert_close(got.features, expected.features)


@pytest.mark.skipif(not why_unavailable(), reason="gsplat is available here")
def test_where_it_is_missing_one_sentence_says_why() -> None:
    scene = make_scene(1, 3, 3)
    with pytest.raises(EnvironmentFailed, match="gsplat cannot be used"):
        rasterise(gaussians_of(scene), make_cameras(1, 8, 8), scene["features"], implementation="gsplat")
