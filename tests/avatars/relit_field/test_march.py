"""Volume rendering against a loop, drawing by weight, spans, pixels chosen for training, a known sphere."""

from __future__ import annotations

import math

import torch

from avatars.relit_field.compositing import drawn, finer_samples, ray_weights, ray_weights_plainly, summed
from avatars.relit_field.rays import Samples, choose_pixels, cut, even_samples, merged, pixel_rays
from avatars.relit_field.settings import MarchSettings
from avatars.rendering.cameras import CameraBatch


def packed(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Optical depths of rays with 0 to 7 samples; the first and the last ray have none."""
    generator = torch.Generator().manual_seed(seed)
    counts = [0, 3, 7, 0, 1, 5, 0]
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.rand(len(ray), generator=generator, dtype=torch.float64) * 2, ray, len(counts)


def test_weights_are_the_references() -> None:
    optical, ray, rays = packed()
    optical.requires_grad_()
    ours, plain = ray_weights(optical, ray, rays), ray_weights_plainly(optical, ray, rays)
    torch.testing.assert_close(ours, plain)
    mix = torch.randn(len(ray), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (first,) = torch.autograd.grad((ours * mix).sum(), optical, retain_graph=True)
    (second,) = torch.autograd.grad((plain * mix).sum(), optical)
    torch.testing.assert_close(first, second)
    assert torch.autograd.gradcheck(lambda o: ray_weights(o, ray, rays), (optical,))
    assert ray_weights(optical[:0], ray[:0], 3).shape == (0,)


def test_extreme_depths_stay_in_range() -> None:
    optical = torch.tensor((0.0, 1e8, 5.0, 0.0, 1e-12))
    ray = torch.tensor((0, 0, 0, 1, 1))
    weights = ray_weights(optical.requires_grad_(), ray, 2)
    torch.testing.assert_close(weights.detach(), torch.tensor((0.0, 1.0, 0.0, 0.0, 1e-12)))
    (slope,) = torch.autograd.grad(weights.sum(), optical)
    assert torch.isfinite(slope).all()
    torch.testing.assert_close(summed(torch.ones(5, 2), weights, ray, 3)[:, 0], torch.tensor((1.0, 0.0, 0.0)))


def test_drawing_follows_the_weights() -> None:
    optical, ray, rays = packed()
    weights = ray_weights(optical, ray, rays)
    uniform = (torch.arange(20000, dtype=torch.float64) + 0.5).expand(rays, -1) / 20000
    index, usable = drawn(weights, ray, rays, uniform)
    assert usable.tolist() == [False, True, True, False, True, True, False]
    for number in (1, 2, 4, 5):
        share = torch.bincount(index[number], minlength=len(ray)) / 20000
        mine = ray == number
        torch.testing.assert_close(share[mine].double(), weights[mine] / weights[mine].sum(), atol=2e-4, rtol=0)
        assert share[~mine].sum() == 0
    none, usable = drawn(weights * 0, ray, rays, uniform[:, :3])
    assert not usable.any()
    assert none.shape == (rays, 3)


def test_finer_samples_merge_in_order() -> None:
    samples = Samples(torch.tensor((0, 0, 2)), torch.tensor((1.0, 2.0, 1.5)), torch.full((3,), 1.0))
    within = torch.full((3, 2), 0.25)
    more = finer_samples(samples, torch.tensor((0.0, 0.5, 0.5)), 3, torch.tensor(((0.2, 0.8),) * 3), within)
    assert more.ray.tolist() == [0, 0, 2, 2]
    torch.testing.assert_close(more.t_m, torch.tensor((1.75, 1.75, 1.25, 1.25)))
    both, order = merged(samples, more, 1.0)
    assert both.ray.tolist() == [0, 0, 0, 0, 2, 2, 2]
    torch.testing.assert_close(both.t_m, torch.tensor((1.0, 1.75, 1.75, 2.0, 1.25, 1.25, 1.5)))
    torch.testing.assert_close(both.width_m[0], torch.tensor(0.75))
    torch.testing.assert_close(both.width_m[3], torch.tensor(1.0))
    assert torch.equal(torch.cat((samples.t_m, more.t_m))[order], both.t_m)


def test_spans_and_even_samples() -> None:
    low, high = torch.zeros(3), torch.ones(3)
    origins = torch.tensor(((-1.0, 0.5, 0.5), (-1.0, 2.0, 0.5), (0.5, 0.5, 0.5)))
    rays = cut(origins, torch.tensor(((1.0, 0, 0),) * 3), low, high)
    torch.testing.assert_close(rays.near_m[[0, 2]], torch.tensor((1.0, 0.0)), atol=1e-5, rtol=0)
    assert float(rays.far_m[1]) < float(rays.near_m[1])  # misses
    samples = even_samples(rays, 0.25, None)
    assert samples.ray.tolist() == [0, 0, 0, 0, 2, 2]
    torch.testing.assert_close(samples.t_m[:4], torch.tensor((1.125, 1.375, 1.625, 1.875)))


def camera(size: int = 16, focal: float = 20.0) -> CameraBatch:
    """Looking along +y at the origin from 2 m away, z up."""
    world_from_camera = torch.tensor(((1.0, 0, 0, 0), (0, 0, 1, -2), (0, -1, 0, 0), (0, 0, 0, 1)))
    K = torch.tensor(((focal, 0, size / 2), (0, focal, size / 2), (0, 0, 1.0)))
    return CameraBatch(K[None], torch.linalg.inv(world_from_camera)[None], size, size)


def test_rays_project_back_to_their_pixels() -> None:
    pixels = torch.tensor(((0.5, 0.5), (8.0, 8.0), (15.5, 3.5)))
    cameras = camera()
    rays = pixel_rays(cameras, pixels, -torch.ones(3), torch.ones(3))
    places = rays.at(torch.arange(3), torch.full((3,), 1.7))
    seen = places @ cameras.camera_from_world[0, :3, :3].T + cameras.camera_from_world[0, :3, 3]
    projected = seen @ cameras.K[0].T
    torch.testing.assert_close(projected[:, :2] / projected[:, 2:], pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(rays.directions[1], torch.tensor((0.0, 1.0, 0.0)))
    assert abs(float(rays.near_m[1]) - 1) < 1e-5


def test_a_sphere_of_constant_density_has_the_chord_of_its_rays() -> None:
    """Opacity 1 - exp(-density * chord), within what even samples can resolve."""
    rays = pixel_rays(camera(), torch.tensor(((8.0, 8.0), (10.0, 8.0), (15.0, 8.0))), -torch.ones(3), torch.ones(3))
    samples = even_samples(rays, 0.005, None)
    inside = rays.at(samples.ray, samples.t_m).norm(dim=-1) < 0.5
    weights = ray_weights(torch.where(inside, 2.0, 0.0) * samples.width_m, samples.ray, 3)
    opacity = torch.zeros(3).index_add(0, samples.ray, weights)
    off = 2 * math.sin(math.atan(2 / 20))  # distance of the second ray from the centre
    wanted = [1 - math.exp(-2 * 2 * math.sqrt(max(0.25 - d * d, 0))) for d in (0.0, off)]
    torch.testing.assert_close(opacity, torch.tensor((*wanted, 0.0)), atol=0.01, rtol=0)


def test_pixels_are_chosen_as_published() -> None:
    alpha = torch.zeros(100, 100)
    alpha[30:70, 30:70] = 1
    settings = MarchSettings(rays=20000, edge_px=4)
    pixels = choose_pixels(alpha, settings, torch.Generator().manual_seed(0))
    assert pixels.shape == (20000, 2)
    inside = alpha[pixels[:, 0], pixels[:, 1]] > 0
    # 60 % inside, the half of the 30 % band that lies inside (a frame of 4 px), and 16 % of the rest.
    band_inside = (1600 - 32 * 32) / (48 * 48 - 32 * 32)
    assert abs(float(inside.float().mean()) - (0.6 + 0.3 * band_inside + 0.1 * 0.16)) < 0.02
    for empty in (torch.zeros(8, 8), torch.ones(8, 8)):
        found = choose_pixels(empty, MarchSettings(rays=50, edge_px=2), torch.Generator().manual_seed(0))
        assert found.shape == (50, 2)
        assert int(found.max()) <= 7
