"""The harmonic weight volume: against a plain relaxation, its bounds, its place in space, and its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.skinning import weight_volume as module
from avatars.skinning.weight_volume import WeightVolume, extended, harmonic_volume
from avatars.skinning.weight_volume_files import read_weight_volume, write_weight_volume
from avatars.templates.big_pose import BigPose, big_pose, surface_triangles
from avatars.templates.opening import embedded_template
from shared.errors import BadTemplate, EffigyError

FROM_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y), SMPL-X's own axes
ARRAYS = embedded_template("body")


@pytest.fixture(scope="module")
def body() -> BigPose:
    return big_pose(ARRAYS, preset="man")


@pytest.fixture(scope="module")
def volume(body: BigPose) -> WeightVolume:
    triangles = surface_triangles(ARRAYS, ("skin",))
    return harmonic_volume(body.vertices, triangles, ARRAYS.weights, resolution=32, samples=60_000)


def plain_sweep(values: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """One Jacobi sweep with a repeated border."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
    inner = slice(1, -1)
    total = sum(
        padded[(slice(None), *(slice(1 + s, len(padded[0]) - 1 + s) if a == axis else inner for a in range(3)))]
        for axis in range(3)
        for s in (-1, 1)
    )
    return np.where(fixed, values, total / 6).astype(np.float32)


def test_sweeps_are_those_of_plain_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    fixed = rng.random((16, 16, 16)) < 0.05
    values = np.where(fixed, rng.random((3, 16, 16, 16)), 0).astype(np.float32)
    monkeypatch.setattr(module, "SWEEPS", (7,))
    mean = values[:, fixed].mean(1)
    expected = np.where(fixed, values, mean[:, None, None, None]).astype(np.float32)
    for _ in range(7):
        expected = plain_sweep(expected, fixed)
    np.testing.assert_allclose(extended(fixed, values), expected, atol=1e-6)


def test_coarse_to_fine_ends_at_the_harmonic_solution() -> None:
    """Two fixed plates: in between the only harmonic function is the straight line."""
    fixed = np.zeros((32, 32, 32), bool)
    fixed[0], fixed[-1] = True, True
    values = np.zeros((1, 32, 32, 32), np.float32)
    values[0, -1] = 1
    found = extended(fixed, values)
    np.testing.assert_allclose(found[0, :, 5, 9], np.linspace(0, 1, 32), atol=0.03)


def test_values_are_a_partition_within_bounds_and_near_the_body(volume: WeightVolume, body: BigPose) -> None:
    assert volume.grid.min() >= 0
    assert volume.grid.max() <= 1
    np.testing.assert_allclose(volume.grid.sum(3), 1, atol=1e-4)
    rows = np.flatnonzero(np.linalg.norm(body.vertices - body.joints[ARRAYS.joint("left_knee")], axis=1) < 0.1)
    rows = np.intersect1d(rows, ARRAYS.group_vertices("skin"))
    assert np.abs(volume.at(body.vertices[rows]) - ARRAYS.weights[rows]).sum(1).mean() < 0.25, "voxels of 6 cm"
    far = volume.at(np.array([[0, 0, 50.0], [0.0, 0, 2.0]]))
    np.testing.assert_allclose(far.sum(1), 1, atol=1e-5)
    assert ARRAYS.joint_names[far[0].argmax()] == "head"


def test_lookups_are_trilinear() -> None:
    x = np.arange(4.0, dtype=np.float32)
    grid = np.broadcast_to(x[:, None, None] / 3, (4, 4, 4))
    volume = WeightVolume(np.stack((grid, 1 - grid), 3), np.zeros(3), np.full(3, 3.0))
    np.testing.assert_allclose(volume.at(np.array([[0.6, 1, 2], [-5, 0, 0], [9, 1, 1]]))[:, 0], [0.2, 0, 1], atol=1e-6)


def upstream_lookup(file: dict, points: np.ndarray) -> np.ndarray:
    """What the original does with its file: the box's corners are the first and last sample, SMPL-X's axes."""
    low, high = file["bbox_min"].astype(np.float64), file["bbox_max"].astype(np.float64)
    return WeightVolume(file["grid"], low, high).at(points @ FROM_Z_UP.T)


def test_the_written_file_is_right_for_the_originals_reader(
    volume: WeightVolume, body: BigPose, tmp_path: Path
) -> None:
    path = tmp_path / "lbs_weights_grid.npz"
    write_weight_volume(path, volume)
    points = body.vertices[::37]
    file = dict(np.load(path))
    assert file["grid"].shape == (32, 32, 32, 55)
    assert file["grid_dims"].tolist() == [32, 32, 32]
    np.testing.assert_allclose(upstream_lookup(file, points), volume.at(points), atol=1e-5)
    again = read_weight_volume(path, 55)
    np.testing.assert_allclose(again.at(points), volume.at(points), atol=1e-5)


def test_half_a_voxel_of_the_originals_file_is_put_right(volume: WeightVolume, body: BigPose, tmp_path: Path) -> None:
    """As the external solver writes it: samples in the middles of voxels, the box around the voxels."""
    path = tmp_path / "lbs_weights_grid.npz"
    write_weight_volume(path, volume)
    file = dict(np.load(path))
    del file["box_at"]
    half = file["grid_resolution"] / 2
    file["bbox_min"], file["bbox_max"] = file["bbox_min"] - half, file["bbox_max"] + half
    np.savez(path, **file)
    points = body.vertices[::37]
    read = read_weight_volume(path, 55)
    np.testing.assert_allclose(read.at(points), volume.at(points), atol=1e-4)
    told = read_weight_volume(path, 55, vertices=body.vertices, weights=ARRAYS.weights)
    np.testing.assert_allclose(told.low, volume.low, atol=1e-5)
    assert np.abs(upstream_lookup(file, points) - volume.at(points)).max() > 0.02, "what the original gets instead"


def test_animatable_gaussians_volume_is_read(volume: WeightVolume, body: BigPose, tmp_path: Path) -> None:
    path = tmp_path / "cano_weight_volume.npz"
    write_weight_volume(tmp_path / "own.npz", volume)
    file = dict(np.load(tmp_path / "own.npz"))
    half = file["grid_resolution"] / 2
    centre = np.array([0.1, 0.2, -0.1], np.float32)
    bounds = np.stack((file["bbox_min"] - half, file["bbox_max"] + half)) - centre
    np.savez(path, diff_weight_volume=file["grid"], volume_bounds=bounds, center=centre, smpl_bounds=bounds)
    read = read_weight_volume(path, 55, vertices=body.vertices, weights=ARRAYS.weights)
    np.testing.assert_allclose(read.at(body.vertices[::37]), volume.at(body.vertices[::37]), atol=1e-4)


def test_wrong_files_and_bodies_are_refused(volume: WeightVolume, tmp_path: Path) -> None:
    path = tmp_path / "lbs_weights_grid.npz"
    write_weight_volume(path, volume)
    with pytest.raises(BadTemplate, match=r"found \[32, 32, 32, 55\].*\[X, Y, Z, 24\]"):
        read_weight_volume(path, 24)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(BadTemplate, match="no volume of skinning weights"):
        read_weight_volume(path, 55)
    with pytest.raises(EffigyError, match="wrong resolution"):
        harmonic_volume(np.zeros((3, 3)), np.array([[0, 1, 2]]), np.ones((3, 1)), resolution=48)
    with pytest.raises(EffigyError, match="no area"):
        harmonic_volume(np.zeros((3, 3)), np.array([[0, 1, 2]]), np.ones((3, 1)), resolution=16)
