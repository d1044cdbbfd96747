"""Which avatar a pixel belongs to, with channels shared by avatars that do not meet in the picture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars import scene
from avatars.gaussians.posed import PosedGaussians
from avatars.owners import picture_boxes, plain_owners, shared_owners
from avatars.rendering import CameraBatch, rasterise
from avatars.rendering.gsplat_backend import why_unavailable
from shared.types import Environment
from tests.avatars.test_scene import Ball, camera, instance

WHERE = [(x, y, z) for x in (-0.8, 0.0, 0.75) for y in (0.0, 0.9) for z in (-0.5, 0.4)]


def blob(seed: int, count: int = 40) -> PosedGaussians:
    """Gaussians of all sizes and opacities, some thin, around a place of its own before the camera."""
    draw = torch.Generator().manual_seed(seed)
    middle = torch.tensor([[-0.8, 0.5, -0.5]]) + torch.rand(1, 3, generator=draw) * torch.tensor([1.6, 1.0, 1.0])
    return PosedGaussians(
        (middle + 0.05 * torch.randn(count, 3, generator=draw))[None],
        torch.nn.functional.normalize(torch.randn(1, count, 4, generator=draw), dim=-1),
        0.04 * torch.rand(1, count, 3, generator=draw) ** 3,
        torch.rand(1, count, generator=draw),
        torch.rand(1, count, 3, generator=draw),
    )


@pytest.mark.parametrize("distance_m", [1.2, 2.0], ids=["near", "far"])
@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "parallel"])
def test_nobody_shows_outside_of_its_box(distance_m: float, orthographic: bool) -> None:
    lens = replace(CameraBatch.from_cameras([camera(distance_m)]), orthographic=orthographic)
    if orthographic:
        lens.K[:, (0, 1), (0, 1)] = 20.0
    sets = [blob(seed) for seed in range(12)]
    smaller = 0
    for gaussians, (left, top, right, bottom) in zip(sets, picture_boxes(sets, lens), strict=True):
        alpha = rasterise(gaussians, lens, gaussians.colours, implementation="reference").alpha[0]
        alpha[top:bottom, left:right] = 0
        assert not alpha.any()
        smaller += bool((right - left) * (bottom - top) < 0.5 * alpha.numel())
    assert smaller >= 3, "boxes say nothing"


def test_whoever_reaches_behind_the_camera_or_is_broken_may_be_anywhere() -> None:
    lens, plain = CameraBatch.from_cameras([camera()]), blob(0)
    far = replace(plain, means=torch.cat((plain.means[:, 1:], torch.tensor([[[0.0, -5.0, 0.0]]])), dim=1))
    broken = replace(plain, means=torch.full_like(plain.means, math.nan))
    nothing = PosedGaussians(*(torch.zeros(1, 0, *last) for last in ((3,), (4,), (3,), (), (3,))))
    found = picture_boxes([far, broken, nothing, plain], lens)
    np.testing.assert_array_equal(found[:3], [[0, 0, lens.width_px, lens.height_px]] * 3)
    assert (found[3] != found[0]).any()


def test_few_channels_serve_many_and_those_who_meet_have_their_own() -> None:
    lens = CameraBatch.from_cameras([camera(4.0)])
    sets = [blob(seed) for seed in range(24)]
    owners, boxes = shared_owners(sets, lens), picture_boxes(sets, lens)
    assert owners.count < 24
    for first in range(24):
        for second in range(first):
            low, high = np.maximum(boxes[first][:2], boxes[second][:2]), np.minimum(boxes[first][2:], boxes[second][2:])
            assert (high <= low).any() or owners.channels[first] != owners.channels[second]
    assert shared_owners(sets[:2], lens).count == plain_owners(sets[:2], lens).count == 2


@pytest.mark.parametrize("light", [None, "sky"], ids=["captured", "lit"])
def test_pictures_are_the_same_as_with_a_channel_for_each(monkeypatch: pytest.MonkeyPatch, light: str | None) -> None:
    """Every pass: whose pixels are, how much of each is in them, and what shines on whom."""
    crowd = [instance(Ball((0.2 + 0.06 * n, 0.5, 0.9 - 0.06 * n), radius_m=0.2), at) for n, at in enumerate(WHERE)]
    lit = [replace(item, light=sky(1.0 + n)) if n % 3 == 0 else item for n, item in enumerate(crowd)]
    names = ["combined", "id", "coverage", "normal", "albedo", "packed"]
    environment = sky(0.6) if light else None
    used: list[int] = []

    def counted(*given: object) -> object:
        owners = shared_owners(*given)  # type: ignore[arg-type]
        used.append(owners.count)
        return owners

    monkeypatch.setattr(scene, "shared_owners", counted)
    shared = scene.render_scene(lit if light else crowd, [camera(3.0)], environment, names)
    monkeypatch.setattr(scene, "shared_owners", plain_owners)
    plain = scene.render_scene(lit if light else crowd, [camera(3.0)], environment, names)
    assert used[0] < len(crowd)
    assert len(np.unique(plain["id"])) > 8
    for name in names:
        np.testing.assert_array_equal(shared[name], plain[name])


@pytest.mark.cuda
@pytest.mark.skipif(bool(why_unavailable()), reason=f"gsplat: {why_unavailable()}")
def test_the_gpu_says_the_same_of_a_crowd() -> None:
    crowd = [instance(Ball((0.2 + 0.06 * n, 0.5, 0.9 - 0.06 * n), radius_m=0.2), at) for n, at in enumerate(WHERE)]
    names = ["combined", "id", "coverage"]
    on_cpu, on_gpu = (scene.render_scene(crowd, [camera(3.0)], sky(1.0), names, device=at) for at in ("cpu", "cuda"))
    assert (on_cpu["id"] == on_gpu["id"]).mean() > 0.98
    for name in names[::2]:
        assert np.abs(on_cpu[name].astype(np.float32) - on_gpu[name].astype(np.float32)).mean() < 2e-3


def sky(brightness: float) -> Environment:
    """Light that is not the same from everywhere."""
    return Environment(np.random.default_rng(0).uniform(0, brightness, (8, 16, 3)).astype(np.float32))
