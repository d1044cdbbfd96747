"""The Triton kernels of lighting against plain torch, and the recorded picture against plain calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.lighting import cuda_shade
from avatars.lighting.lobes import Lobes
from avatars.lighting.prefilter import FilteredLight, filtered
from avatars.lit_pixels import FIXED, lamp_directions, lit_pictures, surface_rows
from avatars.relit_body.graphed import RelitPictures
from avatars.rendering import CameraBatch, rasterise_surfels
from shared.lamps import sun
from tests.avatars.relit_files import front, painted_avatar

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def light_of(lamps: int) -> FilteredLight:
    sky = 2 * torch.rand(16, 32, 3, generator=torch.Generator().manual_seed(1))
    suns = [sun(np.array(d), np.full(3, 2.0), 0.06) for d in ([0, -1, 0.2], [0.5, 0.5, 1], [-1, 0, 0.0])]
    lobes = Lobes.of(np.stack(suns[:lamps])) if lamps else None
    return replace(filtered(sky), rotation_rad=0.7, strength=1.3, lobes=lobes)


def pose(frames: int, device: str) -> tuple[torch.Tensor, ...]:
    person = painted_avatar().surfels.person
    draw = torch.Generator().manual_seed(0)
    turned = 0.4 * torch.randn(frames, len(person.arrays.joint_names), 3, generator=draw)
    expressed = torch.rand(frames, len(person.arrays.expression_names), generator=draw)
    return tuple(part.to(device) for part in (turned, torch.zeros(frames, 3), expressed))


@pytest.mark.parametrize("lamps", [0, 1, 3])
def test_rows_and_lit_pixels_are_the_references(lamps: int) -> None:
    avatar = painted_avatar().to("cuda")
    posed = avatar.pose_material(*pose(2, "cuda"))
    matrix = torch.tensor([[0.0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]], device="cuda")[None]
    light, eyes = light_of(lamps).to("cuda"), torch.tensor([[1.0, -6, 4], [5, 1, 3]], device="cuda")
    moved, towards = posed.transformed(matrix), lamp_directions(light, posed.means)
    want = surface_rows(moved, eyes, towards, width=15, plain=True)
    got = surface_rows(moved, eyes, towards, width=15)
    assert got.shape == want.shape
    off = (got - want).abs()
    assert float(off.mean()) < 1e-4
    # A node that lies in the very plane of a surfel counts for one of the two, not for the other (0.11 % seen).
    assert float((off > 2e-3).float().mean()) < 2e-3
    assert float(off.max()) < 0.1
    cameras = CameraBatch.from_cameras([front(64)] * 2, "cuda")
    rows = surface_rows(posed, cameras.positions(), towards)
    image = rasterise_surfels(posed, cameras, rows)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))[0].to("cuda")
    given = {"surface": 0, "normal": FIXED + lamps, "turn": turn}
    lit = cuda_shade.shade_rows(image.features, image.alpha, cameras, light, **given)
    plain = lit_pictures(
        image.features.cpu(), image.alpha.cpu(), CameraBatch.from_cameras([front(64)] * 2), light.to("cpu"),
        surface=0, normal=FIXED + lamps, turn=turn.cpu(),
    )  # fmt: skip
    off = (lit.cpu() - plain).abs()  # a highlight ends where a cosine is 0, on either side of rounding
    assert float((off > 2e-3 + 2e-3 * plain).float().mean()) < 1e-3
    assert float(off.max()) < 0.05
    assert float(plain.detach().max()) > 0.2
    painted_avatar.cache_clear()


@pytest.mark.parametrize("lamps", [0, 2])
def test_recorded_pictures_are_plain_ones(lamps: int) -> None:
    avatar, light = painted_avatar().to("cuda"), light_of(lamps).to("cuda")
    camera, pictures = CameraBatch.from_cameras([front(96)], "cuda"), RelitPictures(avatar)
    for seed in (0, 1):
        turned, moved, expressed = pose(2, "cuda")
        given = (turned[seed : seed + 1], moved[:1], expressed[:1])
        found = pictures(*given, camera, light).combined
        posed = avatar.pose_material(*given)
        rows = surface_rows(posed, camera.positions(), lamp_directions(light, posed.means))
        image = rasterise_surfels(posed, camera, rows)
        lit = lit_pictures(image.features, image.alpha, camera, light, surface=0, normal=FIXED + lamps)
        torch.testing.assert_close(found[..., :3], lit[..., :3] + lit[..., 3:], atol=1e-4, rtol=1e-4)
    assert not pictures.recorded[lamps].refused, "nothing was recorded"
    painted_avatar.cache_clear()
