"""From a canonical surface to an asset: unwrapping, tangents, painting, weights, the folder and its damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import map_coordinates

from avatars.avatar_folder import load_avatar
from avatars.lighting.colour import srgb_from_linear
from avatars.relit_body.painted import PaintedTeacher
from avatars.relit_body.person import Person
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.surface.asset import MeshSettings, make_mesh, save_mesh
from avatars.surface.bake import Look, bake
from avatars.surface.sources import Followed, MeshSource, avatar_source, strongest, teacher_source
from avatars.surface.unwrap import Unwrapped, cleaned, decimated, smooth_normals, tangents, unwrapped
from avatars.templates.big_pose import big_pose_rotations
from backend.cli import main
from shared.errors import BadAvatar, BadConfig
from shared.mesh_asset import read_mesh
from shared.types import Environment, Rig
from tests.tiny import tiny_avatar, tiny_head
from tests.tiny_body import body_reference


def sphere(subdivisions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    made = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    return np.array(made.vertices), np.array(made.faces)


def test_lighter_meshes_keep_their_shape() -> None:
    vertices, faces = sphere(4)
    lighter, kept = decimated(vertices, faces, 1000)
    assert 900 < len(kept) <= 1000
    np.testing.assert_allclose(np.linalg.norm(lighter, axis=1), 0.5, atol=0.006)
    assert decimated(vertices, faces, 10_000)[1] is not None
    assert len(decimated(vertices, faces, 10_000)[1]) == len(faces)
    with pytest.raises(BadConfig, match="at least 4 faces"):
        decimated(vertices, faces, 0)
    flat = np.concatenate((faces, [[0, 0, 1]]))
    assert len(cleaned(np.concatenate((vertices, [[9, 9, 9.0]])), flat)[0]) == len(vertices)


def test_charts_cover_each_face_once() -> None:
    vertices, faces = sphere()
    atlas = unwrapped(vertices, faces, 256)
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    assert 0 <= atlas.uv.min() <= atlas.uv.max() <= 1
    t = atlas.uv[atlas.faces]
    a, b = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    areas = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    assert np.abs(areas).min() > 0
    assert 0.4 < np.abs(areas).sum() <= 1


def test_tangents_follow_u_and_v() -> None:
    # a plane tilted in space whose u runs along its x and v along its y, and the same mirrored
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    flat = np.array(((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0.0)))
    faces = np.array(((0, 1, 2), (0, 2, 3)))
    normals = smooth_normals(flat @ turn.T, faces)
    np.testing.assert_allclose(normals, np.tile(turn[:, 2], (4, 1)), atol=1e-12)
    for way in (1.0, -1.0):
        uv = flat[:, :2] * (way, 1) * 0.5 + 0.5
        along, signs = tangents(Unwrapped(np.arange(4), faces, uv), flat @ turn.T, normals)
        np.testing.assert_allclose(along, np.tile(turn[:, 0] * way, (4, 1)), atol=1e-12)
        np.testing.assert_allclose(signs[:, None] * np.cross(normals, along), np.tile(turn[:, 1], (4, 1)), atol=1e-12)
    lost, _ = tangents(Unwrapped(np.arange(4), faces, np.zeros((4, 2))), flat @ turn.T, normals)
    np.testing.assert_allclose((lost * normals).sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(lost, axis=1), 1)


def test_both_sides_of_a_seam_show_the_same() -> None:
    vertices, faces = sphere()
    atlas = unwrapped(vertices, faces, 128)
    stripes = lambda points: 0.5 + 0.5 * np.sin(40 * points)  # noqa: E731
    image = bake(atlas, vertices, faces, lambda points, _: Look(stripes(points)), 128).colour.astype(np.float64)
    sides: dict[tuple[int, int], list[np.ndarray]] = {}
    for row, corner in np.ndindex(faces.shape):
        ends = atlas.faces[row, [corner, (corner + 1) % 3]]
        low, high = sorted(int(end) for end in atlas.source[ends])
        sides.setdefault((low, high), []).append(atlas.uv[ends].mean(0))
    middles = np.stack([np.stack(pair) for pair in sides.values()])
    seams = np.abs(middles[:, 0] - middles[:, 1]).max(1) > 1e-6
    assert seams.sum() > 30
    x, y = (middles[seams][..., 0] * 128 - 0.5), ((1 - middles[seams][..., 1]) * 128 - 0.5)
    shown = [map_coordinates(image[..., k], (y, x), order=1) for k in range(3)]
    apart = np.abs(np.diff(np.stack(shown), axis=-1)).max(0)
    assert apart.mean() < 8, "of 255; 47 where texels beyond a chart repeat their neighbours"


def test_painted_texels_are_what_lies_there() -> None:
    vertices, faces = sphere()
    atlas = unwrapped(vertices, faces, 256)
    tilt = 0.3

    def look(points: np.ndarray, normals: np.ndarray) -> Look:
        up = points / np.linalg.norm(points, axis=1, keepdims=True)
        leaning = up + tilt * np.cross((0, 0, 1.0), up)
        leaning /= np.linalg.norm(leaning, axis=1, keepdims=True)
        return Look(points + 0.5, 0.5 + points[:, 0], np.zeros(len(points)), leaning)

    painted = bake(atlas, vertices, faces, look, 256)
    assert painted.normal is not None
    assert painted.orm is not None
    # read back at the middle of each face: colour is the place, the normal map turns back into the leaning normal
    middle = atlas.uv[atlas.faces].mean(1)
    row, column = ((1 - middle[:, 1]) * 256).astype(int), (middle[:, 0] * 256).astype(int)
    place = vertices[faces].mean(1)
    assert np.abs(painted.colour[row, column] / 255 - 0.5 - place).max() < 0.02
    assert np.abs(painted.orm[row, column, 1] / 255 - 0.5 - place[:, 0]).max() < 0.02
    normals = smooth_normals(vertices, faces)
    around, signs = tangents(atlas, vertices, normals)
    up = normals[faces].mean(1)
    along, sign = around[atlas.faces].mean(1), signs[atlas.faces].mean(1)
    stored = painted.normal[row, column] / 255 * 2 - 1
    world = stored[:, :1] * along + stored[:, 1:2] * sign[:, None] * np.cross(up, along) + stored[:, 2:] * up
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    wanted = look(place, up).normals
    assert wanted is not None
    assert np.degrees(np.arccos((world * wanted).sum(1).clip(-1, 1))).mean() < 2
    assert (painted.colour.reshape(-1, 3).max(1) > 0).all()  # colours run on beyond the charts


def test_only_eight_weights_are_kept() -> None:
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.01, 1, (5, 12)).astype(np.float32)
    weights[0, 3:] = 1e-6
    joints = np.tile(np.arange(12), (5, 1))
    found = strongest(joints, weights / weights.sum(1, keepdims=True), np.zeros(0, int), np.zeros((0, 0, 3)))
    assert found.joints.shape == (5, 8)
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-6)
    assert (found.weights[0] > 0).sum() == 3
    assert set(found.joints[1]) == set(np.argsort(-weights[1])[:8])


@pytest.fixture(scope="module")
def painted() -> PaintedTeacher:
    reference = body_reference()
    canonical = torch.from_numpy(big_pose_rotations(reference.open().joint_names).copy())
    return PaintedTeacher(reference, canonical, Environment(np.ones((4, 8, 3), np.float32)))


def test_a_teacher_becomes_an_asset_that_moves_as_the_person_does(painted: PaintedTeacher, tmp_path: Path) -> None:
    source = teacher_source(painted)
    asset, textures = make_mesh(source, MeshSettings(2500, 128), "Ada", "ada")
    save_mesh(tmp_path / "ada", asset, textures)
    again = read_mesh(tmp_path / "ada")
    assert again.textures == {"colour": "colour.png", "orm": "orm.png"}
    assert len(again.mesh.faces) <= 2500
    person = Person(painted.template(), painted.canonical_rotations)
    rng = np.random.default_rng(2)
    joints = len(again.rig.joint_names)
    rotations, translation = rng.normal(0, 0.4, (joints, 3)), rng.normal(0, 1, 3)
    moved = person.moved(
        torch.from_numpy(rotations[None]).float(), torch.from_numpy(translation[None]).float(), torch.zeros(1, 0)
    )[0].numpy()
    blended = np.einsum("vk,vkab->vab", again.mesh.weights, moved[again.mesh.joints])
    wanted = np.einsum("vab,vb->va", blended[:, :3, :3], again.mesh.vertices) + blended[:, :3, 3]
    np.testing.assert_allclose(again.posed(rotations, translation), wanted, atol=2e-5)
    np.testing.assert_allclose(again.posed(again.canonical, np.zeros(3)), again.mesh.vertices, atol=1e-6)
    # painted where the paint is: compared at the middle of some faces
    middle = again.uv.mean(1)
    picture = np.asarray(Image.open(tmp_path / "ada" / "colour.png")) / 255
    seen = picture[((1 - middle[:, 1]) * 128).astype(int), (middle[:, 0] * 128).astype(int)]
    place = again.mesh.vertices[again.mesh.faces[:, :3]].mean(1)
    known = srgb_from_linear(painted.query(torch.from_numpy(place)).albedo).numpy()
    assert np.median(np.abs(seen - known)) < 0.02
    assert len(again.mesh.expression_vertices) > 50


def test_a_head_of_gaussians_becomes_an_asset() -> None:
    avatar = RgbHeadAvatar(tiny_head(1500))
    source, proxy = avatar_source(avatar), avatar.proxy()
    asset, textures = make_mesh(source, MeshSettings(1500, 64), "Head")
    assert set(asset.textures) == {"colour"}
    followed = source.follow(source.vertices)  # whole, it follows what the stand-in does
    np.testing.assert_array_equal(followed.joints[:, 0], proxy.joints[:, 0])
    np.testing.assert_array_equal(followed.expression_vertices, proxy.expression_vertices)
    assert textures.colour[textures.covered].std() > 2
    assert asset.mesh.expression_offsets.shape[0] == len(avatar.rig().expression_names)


def test_damaged_folders_are_one_sentence(tmp_path: Path) -> None:
    vertices, faces = sphere(1)
    rig = Rig("t", "d", ("a",), np.array([-1]), np.zeros((1, 3)), (), np.zeros(0))
    count = len(vertices)
    followed = Followed(
        np.zeros((count, 1), np.int32), np.ones((count, 1), np.float32), np.zeros(0, np.int32), np.zeros((0, 0, 3))
    )
    nothing = np.zeros((1, 3), np.float32)
    source = MeshSource(
        "test", vertices, faces, nothing, nothing, rig, lambda p, n: Look(np.full((len(p), 3), 0.5)), lambda p: followed
    )
    with pytest.raises(BadConfig, match="too few faces"):
        make_mesh(source, MeshSettings(10, 64), "x")
    with pytest.raises(BadConfig, match="texture_px"):
        make_mesh(source, MeshSettings(0, 2), "x")
    asset, textures = make_mesh(source, MeshSettings(0, 64), "x")
    folder = tmp_path / "x"
    save_mesh(folder, asset, textures)
    document = json.loads((folder / "mesh.json").read_text())
    (folder / "mesh.json").write_text(json.dumps(document | {"textures": {"colour": "../../secret.png"}}))
    with pytest.raises(BadAvatar, match="damaged"):
        read_mesh(folder)
    (folder / "mesh.json").write_text(json.dumps(document | {"version": 9}))
    with pytest.raises(BadAvatar, match="no mesh of this version"):
        read_mesh(folder)
    (folder / "mesh.npz").write_bytes(b"")
    (folder / "mesh.json").write_text(json.dumps(document))
    with pytest.raises(BadAvatar, match="damaged"):
        read_mesh(folder)
    with pytest.raises(BadAvatar, match="there is no mesh"):
        read_mesh(tmp_path)


def test_the_command_writes_into_the_avatar_and_leaves_it_intact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tiny_avatar(tmp_path)
    assert main(["mesh", str(place), "--texture", "64", "--faces", "3000", "--device", "cpu"]) == 0
    assert "faces" in capsys.readouterr().out
    assert len(read_mesh(place / "mesh").mesh.faces) <= 3000
    load_avatar(place)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert main(["mesh", str(place), "--output", str(tmp_path / "other"), "--device", "cpu"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert main(["mesh", str(tmp_path / "no.teacher")]) == 2
