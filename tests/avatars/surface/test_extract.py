"""Marching cubes near the surface on known distances: closed, right, everywhere; and the measures of meshes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from avatars.surface import extract
from avatars.surface.cube_cases import CORNERS, EDGES, triangle_table
from avatars.surface.extract import extract_surface, largest_piece
from avatars.surface.metrics import compare_surfaces, distances_to, spread
from backend.cli import main
from shared.errors import BadConfig, EffigyError

BOX = (-0.8, -0.8, -0.8), (0.8, 0.8, 0.8)


def sphere(places: Tensor) -> Tensor:
    return places.norm(dim=-1) - 0.5


def torus(places: Tensor) -> Tensor:
    return ((places[:, :2].norm(dim=-1) - 0.5) ** 2 + places[:, 2] ** 2).sqrt() - 0.15


def blobs(places: Tensor) -> Tensor:
    """Two spheres that touch in one point."""
    shift = places.new_tensor((0.3, 0, 0))
    return torch.minimum((places - shift).norm(dim=-1), (places + shift).norm(dim=-1)) - 0.3


def meshed(distance, resolution: int = 48, **more) -> trimesh.Trimesh:  # type: ignore[no-untyped-def]
    return trimesh.Trimesh(*extract_surface(distance, *BOX, resolution, **more).numpy(), process=False)


def test_every_case_closes_and_separates_its_corners() -> None:
    table = triangle_table()
    middles = (CORNERS[EDGES[:, 0]] + CORNERS[EDGES[:, 1]]) / 2
    for case in range(256):
        triangles = table[case][table[case, :, 0] >= 0]
        crossed = {e for e, (a, b, _) in enumerate(EDGES) if (case >> a & 1) != (case >> b & 1)}
        assert set(triangles.ravel()) == crossed
        # each line inside the cube is used twice in opposite directions, each on its sides once
        lines = [(int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3)]
        assert len(set(lines)) == len(lines)
        for a, b in lines:
            shared_side = ((middles[a] == middles[b]) & np.isin(middles[a], (0, 1))).any()
            assert ((b, a) in lines) or shared_side


@pytest.mark.parametrize(("distance", "euler"), [(sphere, 2), (torus, 0)])
def test_known_surfaces(distance, euler: int) -> None:  # type: ignore[no-untyped-def]
    mesh = meshed(distance)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == euler
    assert mesh.volume > 0, "outwards"
    away = distance(torch.from_numpy(np.array(mesh.vertices)).float()).abs().max()
    assert away < 1.6 / 48 * 0.05


def test_distances_are_asked_near_the_surface_only() -> None:
    small = meshed(sphere, 48)
    assert small.volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=8e-3)
    found = extract_surface(sphere, *BOX, 96)
    assert found.asked < 0.4 * 97**3
    dense = extract_surface(sphere, *BOX, 96, slope=100.0)  # every block
    assert dense.asked > 97**3
    np.testing.assert_array_equal(np.sort(found.vertices.numpy(), axis=0), np.sort(dense.vertices.numpy(), axis=0))


def test_touching_blobs_stay_closed() -> None:
    mesh = meshed(blobs, 50)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(2 * 4 / 3 * np.pi * 0.3**3, rel=0.02)
    apart = meshed(lambda p: blobs(p) + 0.02, 50)
    assert apart.body_count == 2
    kept = trimesh.Trimesh(*largest_piece(*extract_surface(lambda p: blobs(p) + 0.02, *BOX, 50).numpy()), process=False)
    assert kept.body_count == 1
    assert kept.is_watertight


def test_distances_that_are_too_small_leave_no_holes() -> None:
    # 5 times too steep: centres of blocks look far away, and blocks are found from their neighbours
    mesh = meshed(lambda p: 5 * torus(p), 64, slope=1.0)
    assert mesh.is_watertight
    assert mesh.euler_number == 0


def test_coarse_blocks_first_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = extract_surface(blobs, *BOX, 100)
    monkeypatch.setattr(extract, "MANY_BLOCKS", 8)
    coarse = extract_surface(blobs, *BOX, 100)
    np.testing.assert_array_equal(coarse.faces.numpy(), direct.faces.numpy())
    np.testing.assert_array_equal(coarse.vertices.numpy(), direct.vertices.numpy())


def test_the_box_may_cut_the_body() -> None:
    low, high = (-0.8, -0.8, -0.8), (0.2, 0.8, 0.8)
    with pytest.raises(BadConfig, match="the body leaves the box") as caught:
        extract_surface(sphere, low, high, 40)
    assert "right" in caught.value.found
    closed = extract_surface(sphere, low, high, 40, at_box="close")
    mesh = trimesh.Trimesh(*closed.numpy(), process=False)
    assert mesh.is_watertight
    assert mesh.vertices[:, 0].max() == pytest.approx(0.2, abs=1.6 / 40)
    opened = extract_surface(sphere, low, high, 40, at_box="open")
    assert opened.open_sides == ("right",)
    assert not trimesh.Trimesh(*opened.numpy(), process=False).is_watertight


def test_degenerate_input_is_one_sentence() -> None:
    with pytest.raises(EffigyError, match="no surface"):
        extract_surface(lambda p: p.norm(dim=-1) + 1, *BOX, 20)
    with pytest.raises(EffigyError, match="not finite"):
        extract_surface(lambda p: p[:, 0] * torch.nan, *BOX, 20)
    with pytest.raises(BadConfig, match="extent"):
        extract_surface(sphere, (0, 0, 0), (0, 1, 1), 20)
    with pytest.raises(BadConfig, match="resolution"):
        extract_surface(sphere, *BOX, 1)
    on_nodes = meshed(lambda p: p.abs().amax(-1) - 0.4, 16)  # distances of exactly 0 at nodes
    assert on_nodes.is_watertight
    assert on_nodes.area_faces.min() > 0


def test_measures_against_known_shapes() -> None:
    small = trimesh.creation.icosphere(subdivisions=4, radius=0.500)
    large = trimesh.creation.icosphere(subdivisions=4, radius=0.503)
    pair = [(np.array(mesh.vertices), np.array(mesh.faces)) for mesh in (small, large)]
    found = compare_surfaces(*pair, samples=3000)
    assert found.chamfer_m == pytest.approx(0.003, rel=0.02)
    assert found.accuracy_m == pytest.approx(0.003, rel=0.03)
    assert found.normal_error_deg < 2
    assert found.normal_consistency > 0.999
    assert found.within[0] == 0
    assert found.within[1] == 1
    assert found.arah_chamfer_cm2 == pytest.approx(0.3**2, rel=0.02)
    assert found.arah_normals > 0.99
    same = compare_surfaces(pair[0], pair[0], samples=500)
    assert same.chamfer_m < 1e-9
    # half a sphere covers half the truth: near in one direction, far in the other
    kept = pair[0][1][pair[0][0][pair[0][1]].mean(1)[:, 2] > 0]
    half = compare_surfaces((pair[0][0], kept), pair[0], samples=2000)
    assert half.accuracy_m < 1e-9
    assert half.completeness_m > 0.05
    coarse = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    rough = compare_surfaces((np.array(coarse.vertices), np.array(coarse.faces)), pair[0], samples=500)
    assert rough.normal_error_deg > 1
    assert rough.shaded_error_deg < 0.3 * rough.normal_error_deg  # corners of both lie on the sphere
    turned = compare_surfaces((pair[0][0], pair[0][1][:, ::-1]), pair[0], samples=500)
    assert turned.normal_error_deg > 170
    assert turned.shaded_error_deg > 170
    with pytest.raises(BadConfig, match="no mesh"):
        compare_surfaces((pair[0][0], np.zeros((0, 3), int)), pair[0])


def test_distances_agree_with_trimesh() -> None:
    mesh = trimesh.creation.torus(0.5, 0.2, major_sections=12, minor_sections=8)
    points = np.random.default_rng(0).normal(0, 0.5, (50, 3))
    _, wanted, _ = trimesh.proximity.closest_point_naive(mesh, points)
    np.testing.assert_allclose(distances_to(points, (mesh.vertices, mesh.faces)), wanted, atol=1e-9)
    on, face, shares = spread((mesh.vertices, mesh.faces), 200, np.random.default_rng(1))
    np.testing.assert_allclose(distances_to(on, (mesh.vertices, mesh.faces)), 0, atol=1e-9)
    np.testing.assert_allclose((mesh.triangles[face] * shares[..., None]).sum(1), on)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, radius in (("a", 0.5), ("b", 0.51), ("mm", 500.0)):
        trimesh.creation.icosphere(subdivisions=2, radius=radius).export(tmp_path / f"{name}.ply")
    files = [str(tmp_path / f"{name}.ply") for name in ("a", "b", "mm")]
    words = ["--samples", "500", "--output", str(tmp_path / "out")]
    assert main(["evaluate-mesh", *files[:2], *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chamfer_m"] == pytest.approx(0.01, rel=0.05)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == found
    coloured = trimesh.load(tmp_path / "out" / "distances.ply")
    assert coloured.visual.vertex_colors[:, 1].max() < 200  # reddish: half of 20 mm away
    assert main(["evaluate-mesh", *files[:2], "--samples", "200"]) == 0
    assert "normal error" in capsys.readouterr().out
    assert main(["evaluate-mesh", files[0], files[2]]) == 2
    assert "different units" in capsys.readouterr().err
    assert main(["evaluate-mesh", files[0], str(tmp_path / "none.ply")]) == 2
    (tmp_path / "bad.ply").write_bytes(b"ply\nnonsense")
    assert main(["evaluate-mesh", files[0], str(tmp_path / "bad.ply")]) == 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_mesh() -> None:
    there = extract_surface(torus, *BOX, 96, device="cuda")
    here = extract_surface(torus, *BOX, 96)
    assert there.vertices.is_cuda
    assert there.faces.shape == here.faces.shape
    np.testing.assert_allclose(there.numpy()[0], here.numpy()[0], atol=3e-6)
