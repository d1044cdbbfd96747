"""Moving and joining posed Gaussians."""

from __future__ import annotations

import pytest
import torch

from avatars.gaussians.posed import PosedGaussians, concatenate, multiply_quaternions, quaternion_from_matrix
from avatars.rendering.reference import rotation_from_quaternion
from shared.errors import EffigyError


def random_set(frames: int, count: int, seed: int = 0) -> PosedGaussians:
    rng = torch.Generator().manual_seed(seed)
    unit = torch.nn.functional.normalize
    return PosedGaussians(
        torch.randn(frames, count, 3, generator=rng),
        unit(torch.randn(frames, count, 4, generator=rng), dim=-1),
        torch.rand(frames, count, 3, generator=rng),
        torch.rand(frames, count, generator=rng),
        torch.rand(frames, count, 3, generator=rng),
        unit(torch.randn(frames, count, 3, generator=rng), dim=-1),
    )


def covariance(gaussians: PosedGaussians) -> torch.Tensor:
    half = rotation_from_quaternion(gaussians.quats) * gaussians.scales[..., None, :]
    return half @ half.transpose(-1, -2)


def test_quaternions_and_matrices_agree_all_round_the_sphere() -> None:
    rng = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(500, 4, generator=rng, dtype=torch.float64), dim=-1)
    quats = torch.cat([quats, torch.eye(4, dtype=torch.float64)])  # half turns about each axis are the hard cases
    matrices = rotation_from_quaternion(quats)
    torch.testing.assert_close(rotation_from_quaternion(quaternion_from_matrix(matrices)), matrices)
    product = rotation_from_quaternion(multiply_quaternions(quats, quats.flip(0)))
    torch.testing.assert_close(product, matrices @ matrices.flip(0))


def test_transformed_moves_means_covariances_and_normals() -> None:
    gaussians = random_set(2, 20)
    matrix = torch.eye(4).repeat(2, 1, 1)
    matrix[:, :3, :3] = 1.7 * rotation_from_quaternion(torch.randn(2, 4, generator=torch.Generator().manual_seed(1)))
    matrix[:, :3, 3] = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]])
    moved = gaussians.transformed(matrix)
    linear = matrix[:, None, :3, :3]
    torch.testing.assert_close(moved.means, (linear @ gaussians.means[..., None])[..., 0] + matrix[:, None, :3, 3])
    expected = linear @ covariance(gaussians) @ linear.transpose(-1, -2)
    torch.testing.assert_close(covariance(moved), expected, rtol=1e-4, atol=1e-5)
    assert gaussians.normals is not None
    assert moved.normals is not None
    torch.testing.assert_close(
        moved.normals, (linear @ gaussians.normals[..., None])[..., 0] / 1.7, rtol=1e-4, atol=1e-5
    )
    assert moved.opacities is gaussians.opacities


def test_concatenate_keeps_order_and_drops_partial_normals() -> None:
    first, second = random_set(1, 3), random_set(1, 4, seed=1)
    both = concatenate([first, second])
    assert both.count == 7
    assert torch.equal(both.means[:, 3:], second.means)
    assert both.normals is not None
    bare = PosedGaussians(second.means, second.quats, second.scales, second.opacities, second.colours)
    assert concatenate([first, bare]).normals is None


def test_wrong_shapes_are_refused() -> None:
    good = random_set(1, 3)
    with pytest.raises(EffigyError, match="scales"):
        PosedGaussians(good.means, good.quats, good.quats, good.opacities, good.colours)
    with pytest.raises(EffigyError, match="frames"):
        concatenate([good, random_set(2, 3)])
    with pytest.raises(EffigyError, match="no Gaussians"):
        concatenate([])
