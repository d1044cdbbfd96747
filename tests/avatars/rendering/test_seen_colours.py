"""Colours gathered from images: the exact kernel against the reference weights, and the gradient's sum."""

from __future__ import annotations

import pytest
import torch

from avatars.rendering import CameraBatch, seen_colours
from avatars.rendering.reference import pixel_weights, project
from shared.errors import EffigyError
from tests.avatars.rendering.scenes import gaussians_of, make_cameras, make_scene


def plain(scene: dict, cameras: CameraBatch, images: torch.Tensor, masks: torch.Tensor, least: float) -> torch.Tensor:
    frames, count = scene["means"].shape[:2]
    sums = torch.zeros(count, 4, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(cameras.height_px), torch.arange(cameras.width_px), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2).double() + 0.5
    for frame in range(frames):
        parts = [scene[name][frame].double() for name in ("means", "quats", "scales")]
        lens = (cameras.K[frame].double(), cameras.camera_from_world[frame].double())
        all_of_them = project(*parts, *lens, cameras)
        order = torch.argsort(all_of_them.depths)
        ordered = all_of_them.some(order)
        weights, _ = pixel_weights(ordered, scene["opacities"][frame, order].double(), pixels)
        weights = torch.where(weights > least, weights, 0.0) * (masks[frame].reshape(-1, 1) > 0.5)
        colours = torch.cat([images[frame].reshape(-1, 3), torch.ones(len(pixels), 1)], dim=1).double()
        sums[order] += weights.T @ colours
    return sums


def make_images(frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    return torch.rand(frames, height, width, 3, generator=rng), torch.rand(frames, height, width, generator=rng)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.4])
def test_exact_sums(least: float) -> None:
    scene, cameras = make_scene(2, 150, 3, scale_m=0.1), make_cameras(2, 33, 20)
    images, masks = make_images(2, 20, 33)
    colours, weights = seen_colours(gaussians_of(scene), cameras, images, masks, min_weight=least)
    expected = plain(scene, cameras, images, masks, least).float()
    torch.testing.assert_close(colours, expected[:, :3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weights, expected[:, 3], rtol=1e-4, atol=1e-4)
    assert (weights > 0).any()


def test_the_gradient_gives_the_sum_without_the_cut() -> None:
    scene, cameras = make_scene(2, 60, 3, scale_m=0.1), make_cameras(2, 24, 20)
    images, masks = make_images(2, 20, 24)
    exact = seen_colours(gaussians_of(scene), cameras, images, masks, min_weight=0.0, implementation="cpu")
    gradient = seen_colours(gaussians_of(scene), cameras, images, masks, implementation="reference")
    torch.testing.assert_close(gradient[0], exact[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient[1], exact[1], rtol=1e-4, atol=1e-4)


def test_nothing_is_seen_outside_the_mask_or_without_gaussians() -> None:
    scene, cameras = make_scene(1, 20, 3), make_cameras(1, 16, 16)
    images, masks = make_images(1, 16, 16)
    colours, weights = seen_colours(gaussians_of(scene), cameras, images, torch.zeros_like(masks))
    assert not colours.any()
    assert not weights.any()
    empty = seen_colours(gaussians_of(make_scene(1, 0, 3)), cameras, images, masks)
    assert empty[0].shape == (0, 3)
    with pytest.raises(EffigyError, match="do not fit"):
        seen_colours(gaussians_of(scene), cameras, images[:, :8], masks)
