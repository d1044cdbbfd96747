"""A signed-distance body as an avatar: stored, posed, stood for in Blender, exported, drawn."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from avatars.avatar import Avatar
from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.rendering import CameraBatch, rasterise
from avatars.rendering.mesh import rasterise_mesh
from avatars.scene import SceneInstance, render_scene
from avatars.surface.asset import MeshSettings, make_mesh
from avatars.surface.sources import avatar_source
from avatars.surface_body.avatar import SurfaceAvatar, load_surface_body
from shared.errors import BadAvatar
from shared.template import joint_transforms
from shared.types import Camera, Environment
from tests.avatars.surface_body.people import poses, small_avatar
from tests.tiny_body import body_camera


@pytest.fixture(scope="module")
def avatar() -> SurfaceAvatar:
    return small_avatar()


def pixels(vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """[V, 3]: image place and depth."""
    there = camera.camera_from_world()
    seen = vertices @ there[:3, :3].T + there[:3, 3]
    flat = seen @ camera.K.T
    return np.stack((flat[:, 0] / flat[:, 2], flat[:, 1] / flat[:, 2], seen[:, 2]), 1)


def test_its_folder_gives_it_back(avatar: SurfaceAvatar, tmp_path: Path) -> None:
    assert isinstance(avatar, Avatar)
    avatar = copy(avatar)
    avatar.sharp = True
    avatar.field, avatar.field_description = {"table": torch.arange(3.0)}, {"levels": 3}
    save_avatar(tmp_path / "ada.avatar", avatar, About("Ada"), np.zeros((4, 4, 4), np.uint8))
    again = load_avatar(tmp_path / "ada.avatar")
    assert isinstance(again, SurfaceAvatar)
    assert again.field_description == {"levels": 3}
    torch.testing.assert_close(again.field["table"], torch.arange(3.0))
    given = poses(2)
    here, there = avatar.pose(*given), again.pose(*given)
    assert here.sharp
    assert there.sharp
    for name in ("means", "scales", "opacities"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), atol=2e-5, rtol=1e-2)
    for name in ("quats", "normals"):  # of needles, which half the precision of expressions turns a little
        torch.testing.assert_close(getattr(there, name), getattr(here, name), atol=2e-3, rtol=0)
    eyes = torch.tensor([[0.0, -3, 0], [2, 1, 0.5]])
    torch.testing.assert_close(there.seen_from(eyes).colours, here.seen_from(eyes).colours, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.mesh.look(again.mesh.vertices), avatar.mesh.look(avatar.mesh.vertices))
    np.testing.assert_array_equal(again.rest_pose, avatar.rest_pose)


def test_broken_parts_are_one_sentence(avatar: SurfaceAvatar) -> None:
    described = json.loads(json.dumps(avatar.description()))
    good, reference = dict(avatar.tensors()), avatar.template()
    for name, value, words in (
        ("mesh.faces", good["mesh.faces"] + 9999, "point outside"),
        ("face", good["face"] + 9999, "point outside"),
        ("mesh.weights", good["mesh.weights"][:, :4], "another form"),
        ("scales", good["scales"] * torch.nan, "not finite"),
        ("solid.w.0", good["solid.w.0"][:2], "colours are not as described"),
    ):
        with pytest.raises(BadAvatar, match=words):
            load_surface_body(reference, described, {**good, name: value}, "cpu")
    with pytest.raises(BadAvatar, match="does not describe"):
        load_surface_body(reference, {"gaussians": 3}, good, "cpu")


def test_gaussians_lie_on_the_posed_mesh(avatar: SurfaceAvatar) -> None:
    given = poses(2)
    vertices = avatar.vertices(*given)
    torch.testing.assert_close(vertices, avatar.mesh.posed(avatar.person, *given), atol=1e-6, rtol=0)
    posed = avatar.pose(*given)
    corners = vertices[:, avatar.mesh.faces[avatar.gaussians.face]]
    torch.testing.assert_close(posed.means, (corners * avatar.places.shares[..., None]).sum(2), atol=1e-5, rtol=0)
    assert posed.normals is not None
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    agree = (torch.nn.functional.normalize(normals, dim=-1) * posed.normals).sum(-1)
    assert float((agree > 0.7).float().mean()) > 0.95
    assert avatar.pose(*given, normals=False).normals is None


def test_drawn_it_covers_what_the_mesh_covers(avatar: SurfaceAvatar) -> None:
    given, size = poses(1, 3), 96
    for yaw in (0.0, 2.0):
        camera = body_camera(size, yaw)
        lens = CameraBatch.from_cameras([camera])
        posed = avatar.pose(*given).seen_from(lens.positions())
        drawn = rasterise(posed, lens, posed.colours)
        vertices = avatar.vertices(*given)[0].double().numpy()
        face, _, _ = rasterise_mesh(pixels(vertices, camera), avatar.mesh.faces.numpy(), size, size)
        inner = torch.from_numpy(binary_erosion(face >= 0))
        outer = torch.from_numpy(binary_erosion(face < 0, iterations=2))
        assert float(drawn.alpha[0][inner].mean()) > 0.97
        assert float(drawn.alpha[0][outer].mean()) < 0.01


def test_blenders_stand_in_is_the_person(avatar: SurfaceAvatar) -> None:
    proxy, rig = avatar.proxy(), avatar.rig()
    assert len(proxy.faces) == len(avatar.mesh.faces)
    turned, shifts, expressions = (torch.cat(parts) for parts in zip(poses(2), poses(2, 5), strict=True))
    turned[0], turned[1] = 0, torch.from_numpy(avatar.rest_pose)
    expressions[:2] = 0
    vertices = avatar.vertices(turned, shifts, expressions).numpy()
    for frame, most_mm in enumerate((8, 8, 20, 20)):
        bones, _ = joint_transforms(turned[frame].numpy(), rig.rest_joints, rig.parents, shifts[frame].numpy())
        blended = np.einsum("vk,vkab->vab", proxy.weights, bones[proxy.joints])
        rest = proxy.vertices.copy()
        rest[proxy.expression_vertices] += np.einsum("e,emc->mc", expressions[frame], proxy.expression_offsets)
        found = (blended[:, :3, :3] @ rest[..., None])[..., 0] + blended[:, :3, 3]
        apart_mm = 1000 * np.linalg.norm(found - vertices[frame], axis=1)
        assert apart_mm.max() < most_mm
        assert apart_mm.mean() < 0.3


def test_exported_it_moves_as_trained(avatar: SurfaceAvatar) -> None:
    source = avatar_source(avatar)
    assert source.kind == "surface"
    asset, textures = make_mesh(source, MeshSettings(0, 128), "Ada")
    assert set(asset.textures) == {"colour"}, "nothing finer than the mesh itself is known"
    given = poses(2, 1)
    still = torch.zeros_like(given[2])
    wanted = avatar.vertices(given[0], given[1], still).numpy()
    for frame in range(2):
        found = asset.posed(given[0][frame].numpy(), given[1][frame].numpy())
        assert np.abs(found - wanted[frame]).max() < 1e-5
    # expressions are canonical offsets of its own vertices
    moved = np.zeros_like(asset.mesh.vertices)
    moved[asset.mesh.expression_vertices] = asset.mesh.expression_offsets[4]
    np.testing.assert_allclose(moved, avatar.mesh.expression_dirs[4].numpy(), atol=2e-6)
    # colours are those of the solid texture, at the middle of faces
    middle = asset.uv.mean(1)
    seen = textures.colour[((1 - middle[:, 1]) * 128).astype(int), (middle[:, 0] * 128).astype(int)] / 255
    known = avatar.mesh.look(torch.from_numpy(asset.mesh.vertices[asset.mesh.faces[:, :3]].mean(1))).numpy()
    assert np.median(np.abs(seen - known)) < 0.03


def test_other_colours_reach_the_mesh(avatar: SurfaceAvatar) -> None:
    copy = load_surface_body(avatar.template(), avatar.description(), avatar.tensors(), "cpu")
    copy.gaussians.colours.fill_(0.25)
    red = copy.with_gaussians(copy.gaussians)
    _, textures = make_mesh(avatar_source(red), MeshSettings(0, 64), "Ada")
    assert np.abs(textures.colour[textures.covered].astype(float) - 0.25 * 255).max() < 2
    assert load_surface_body(red.template(), red.description(), red.tensors(), "cpu").repainted


def test_a_lighter_export_keeps_shape_weights_and_normals(avatar: SurfaceAvatar) -> None:
    asset, textures = make_mesh(avatar_source(avatar), MeshSettings(1000, 128), "Ada")
    assert set(asset.textures) == {"colour", "normal"}
    assert 900 < len(asset.mesh.faces) <= 1000
    np.testing.assert_allclose(asset.mesh.weights.sum(1), 1, atol=1e-5)
    assert textures.normal is not None
    up = textures.normal[textures.covered][:, 2] / 255 * 2 - 1
    assert up.min() > 0
    assert np.mean(up > 0.8) > 0.8
    given = poses(1, 1)
    found = asset.posed(given[0][0].numpy(), given[1][0].numpy())
    whole = avatar.vertices(*given)[0].numpy()
    apart = np.linalg.norm(found[:, None] - whole[None], axis=-1).min(1)
    assert np.median(apart) < 0.01


def test_a_scene_shows_it_in_any_light(avatar: SurfaceAvatar) -> None:
    given = poses(1)
    matrix = np.eye(4)[None]
    instance = SceneInstance(avatar, matrix, *(part.numpy() for part in given))
    bright = Environment(np.linspace(4, 0, 8, dtype=np.float32)[None, :, None] * np.ones((4, 1, 3), np.float32))
    own, lit = (render_scene([instance], [body_camera(48)], light, ["combined", "depth"]) for light in (None, bright))
    there = own["combined"][..., 3] > 0.9
    assert there.mean() > 0.02
    assert np.abs(own["combined"][there] - lit["combined"][there]).max() > 0.01
    assert 2.5 < np.median(own["depth"][there]) < 4.5
