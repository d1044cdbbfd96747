"""True surfaces beside a capture: those of demo_body lie on its pictures; making, storing and refusing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.captures import bake_surfaces
from avatars.captures.bake_surfaces import bake, hair_hull
from avatars.captures.opening import open_capture
from avatars.captures.overlay import overlap, projected, silhouette
from avatars.captures.true_surfaces import TrueSurfaces, packed_surfaces, read_true_surfaces
from avatars.surface.metrics import compare_surfaces
from shared.errors import BadCapture


def box(size_m: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed box of 12 triangles around (0, 0, 0)."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) * size_m / 2
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def test_the_demo_body_has_its_true_surfaces() -> None:
    capture = open_capture("demo_body")
    assert capture.true_surfaces is not None
    assert capture.true_surfaces.stat().st_size < 1_600_000
    surfaces = read_true_surfaces(capture.true_surfaces)
    trained = set(capture.training_frames())
    assert any(frame in trained for frame in surfaces.frames)
    assert any(frame not in trained for frame in surfaces.frames)
    assert {"skin", "shirt", "trousers", "shoes", "hair"} <= set(surfaces.part_names)
    with np.load(capture.true_surfaces) as file:
        assert file["error_mm"].max() < 0.05
    frame = surfaces.frames[-1]
    index = next(k for k, image in enumerate(capture.images) if (image.frame, image.camera) == (frame, 4))
    camera = capture.cameras[4]
    vertices, faces = surfaces.mesh(frame)
    pixels = projected(vertices, camera.camera_from_world(), camera.K)
    drawn = silhouette(pixels, faces.astype(np.int32), (camera.width_px, camera.height_px))
    assert overlap(drawn, capture.rgba(index)[..., 3] > 127) > 0.98
    bald = surfaces.mesh(frame, without=("hair",))[1]
    assert 0 < len(faces) - len(bald) < len(faces) / 4
    with pytest.raises(BadCapture, match="no true surface of frame 1"):
        surfaces.mesh(1)


def test_what_is_hidden_is_left_out_and_the_rest_survives_storing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bake_surfaces, "PIXELS_A_METRE", 120)
    (outer, faces), (inner, _) = box(1.0), box(0.5)
    strands = np.linspace((0, 0, 0.5), (0.02, 0, 0.56), 8, dtype=np.float32) + np.array([[[0, 0, 0]], [[0.004, 0, 0]]])
    hair = strands.reshape(-1, 3).astype(np.float32)
    moved = np.array((0.0, 0.3, 0.0), np.float32)
    full = {
        "frames": np.array((3, 8)),
        "shirt.faces": faces,
        "shirt.vertices": np.stack((outer, outer + moved)),
        "skin.faces": faces,
        "skin.vertices": np.stack((inner, inner + moved)),
        "hair": np.stack((hair, hair + moved)),
    }
    surfaces, errors = bake(full, 2000, samples=500)
    assert (surfaces.part_names, surfaces.frames) == (("shirt", "hair"), (3, 8))
    assert max(errors) < 0.2
    assert np.abs(surfaces.vertices[1] - surfaces.vertices[0] - moved).max() < 1e-5
    path = tmp_path / "surfaces.npz"
    np.savez_compressed(path, **packed_surfaces(surfaces, errors))
    again = read_true_surfaces(path)
    assert compare_surfaces(again.mesh(8), surfaces.mesh(8), 2000).farthest_m < 1.5e-4
    shirt = again.mesh(8, without=("hair",))
    np.testing.assert_allclose(np.ptp(shirt[0], axis=0), 1.0, atol=3e-4)


def test_the_hull_of_hair_faces_outwards_and_wraps_the_strands() -> None:
    turn = np.linspace(0, 2 * np.pi, 40)[:, None]
    along = np.linspace(0, 0.04, 8)
    points = np.stack((0.02 * np.cos(turn) + 0 * along, 0.02 * np.sin(turn) + 0 * along, along + 0 * turn), -1)
    vertices, faces = hair_hull(points.reshape(-1, 3))
    corners = vertices[faces]
    volume = (corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume > 0
    assert vertices[:, 2].max() > 0.04
    assert np.linalg.norm(vertices[:, :2], axis=1).max() < 0.02 + 0.006


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    vertices, faces = box(1.0)
    good = packed_surfaces(TrueSurfaces((0,), faces, np.zeros(len(faces), np.int64), ("skin",), vertices[None]), [0.0])
    path = tmp_path / "surfaces.npz"
    for change, match in (
        ({"faces": good["faces"][:2]}, "faces of surfaces.npz of .* does not fit"),
        ({"faces": good["faces"] + 40}, "names vertices or parts that are not there"),
        ({"low": np.full(3, np.nan)}, "not finite"),
    ):
        np.savez(path, **(good | change))
        with pytest.raises(BadCapture, match=match):
            read_true_surfaces(path)
    np.savez(path, **{name: value for name, value in good.items() if name != "part"})
    with pytest.raises(BadCapture, match="lacks 'part'"):
        read_true_surfaces(path)
    with pytest.raises(BadCapture, match="larger than a person"):
        packed_surfaces(
            TrueSurfaces((0,), faces, np.zeros(len(faces), np.int64), ("skin",), (vertices * 9)[None]), [0.0]
        )
