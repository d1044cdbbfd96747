"""Relightable heads: values and gradients of their materials, mouths that are dark inside, the folder, any light."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.lighting.colour import linear_from_srgb
from avatars.lighting.prefilter import filtered_environment
from avatars.relit_head.avatar import RelitHeadAvatar, load_relit_head
from avatars.relit_head.light import map_of
from avatars.relit_head.model import BRIGHTEST, RelitHead
from avatars.relit_head.occlusion import baked, telling_poses
from avatars.relit_head.picture import lit_picture
from avatars.relit_head.priors import ROUGHNESS, held_where_dim, is_hair, kinds, neighbours
from avatars.relit_head.settings import HeadOcclusion
from avatars.rendering import CameraBatch
from avatars.rgb_head.model import SH0
from avatars.scene import SceneInstance, has_materials, render_scene
from shared.errors import BadAvatar
from shared.types import Environment
from tests.avatars.relit_head.files import lit_head, side_light
from tests.tiny import front_camera, moving, still_motion, tiny_head

PASSES = ("combined", "albedo", "roughness", "metallic", "normal", "occlusion", "diffuse", "specular")


def avatar_of(model: RelitHead) -> RelitHeadAvatar:
    return RelitHeadAvatar(model, torch.from_numpy(np.array(side_light(1).radiance)))


def instance(avatar: RelitHeadAvatar, motion: dict[str, torch.Tensor], matrix: np.ndarray | None = None):
    places = [motion[name].numpy() for name in ("rotations", "translations", "expressions")]
    return SceneInstance(avatar, (np.eye(4) if matrix is None else matrix)[None], *places)


def test_materials_are_those_of_their_patches_and_albedo_is_the_colour() -> None:
    model = lit_head()
    posed = model.pose(**still_motion(1, model.head))
    assert posed.material is not None
    names = model.head.binding.group_names
    eye = model.head.binding.group == names.index("eye_l")
    torch.testing.assert_close(posed.material.roughness[0, eye, 0], torch.full((int(eye.sum()),), ROUGHNESS["eye_l"]))
    encoded = (SH0 * model.head.colours + 0.5).clamp(0, BRIGHTEST)
    torch.testing.assert_close(posed.material.albedo[0], linear_from_srgb(encoded))
    assert float(posed.material.metallic.max()) < 0.05
    torch.testing.assert_close(posed.normals.norm(dim=-1), torch.ones(1, len(model)))


def test_normals_lean_with_the_triangle_under_them_when_the_head_turns() -> None:
    model = RelitHead(tiny_head(400))
    with torch.no_grad():
        model.tilt[:, 0] = 0.4
        motion = still_motion(1, model.head)
        before = model.pose(**motion).normals[0]
        motion["rotations"][:, 0, 2] = torch.pi / 2  # the root turns everything: +x to +y
        after = model.pose(**motion).normals[0]
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(after, before @ quarter.T, atol=1e-4, rtol=0)


def test_gradients_of_all_materials_agree_with_differences() -> None:
    torch.manual_seed(0)
    model = RelitHead(tiny_head(300))
    light = filtered_environment(side_light(1))
    cameras = CameraBatch.from_cameras([front_camera(24)])
    motion = still_motion(1, model.head)
    target = torch.rand(1, 24, 24, 3)

    def loss() -> torch.Tensor:
        drawn = lit_picture(model.pose(**motion), cameras, [(torch.arange(1), light)])
        return (drawn.features * target).sum()

    parameters = {"colours": model.head.colours, "roughness": model.roughness, "metallic": model.metallic}
    parameters["tilt"] = model.tilt
    found = dict(zip(parameters, torch.autograd.grad(loss(), list(parameters.values())), strict=True))
    posed = model.pose(**motion)
    to_eye = torch.nn.functional.normalize(cameras.positions()[:, None] - posed.means, dim=-1)
    # Where a normal is turned towards the eye the picture jumps, and differences say nothing.
    facing = (posed.normals * to_eye).sum(-1)[0] > 0.3
    for name, parameter in parameters.items():
        step = 0.004
        assert torch.isfinite(found[name]).all()
        with torch.no_grad():
            # Many Gaussians moved a little along the gradient's sign: one alone is lost in float32.
            direction = found[name].sign()
            direction[~facing] = 0
            parameter.add_(step * direction)
            above = loss()
            parameter.sub_(2 * step * direction)
            below = loss()
            parameter.add_(step * direction)
        expected = float((above - below) / (2 * step))
        assert float((found[name] * direction).sum()) == pytest.approx(expected, rel=0.05, abs=2e-3), name


def test_the_mouth_is_dark_when_closed_and_opens_with_the_jaw_and_foreheads_see_the_sky() -> None:
    head = tiny_head(1200)
    model = RelitHead(head).requires_grad_(False)
    motion = still_motion(3, head)
    arrays = head.head.template.arrays
    jaw = arrays.joint_names.index("jaw")
    motion["rotations"][1, jaw, 0], motion["rotations"][2, jaw, 0] = 0.2, 0.4
    motion["expressions"][:, arrays.expression_names.index("jawOpen")] = torch.tensor([0.0, 0.5, 1.0])
    theta, vertices = head.theta(**motion), head.head.posed_vertices(**motion)
    model.probes = baked(model, theta, vertices, HeadOcclusion(poses=3, directions=1))
    posed = model.pose(**motion)
    ambient = posed.material.probes.visible(posed.means, posed.normals, posed.normals[:, :, None])[0][..., 0]
    names, group = head.binding.group_names, head.binding.group
    # The teeth that can be seen at all: those in front.
    teeth = (group == names.index("teeth")) & (
        posed.means[0, :, 1] < posed.means[0, group == names.index("teeth"), 1].mean()
    )
    closed, _, opened = ambient[:, teeth].mean(1)
    assert closed < 0.12
    assert opened > max(3 * closed, closed + 0.05)
    skin = group == names.index("skin")
    high = skin & (posed.means[0, :, 2] > posed.means[0, skin, 2].max() - 0.03)
    assert ambient[:, high].min() > 0.85
    assert ambient.min() >= 0
    assert ambient.max() <= 1


def test_every_pass_answers_and_diffuse_and_specular_make_the_picture() -> None:
    avatar = avatar_of(lit_head())
    assert has_materials(avatar)
    motion = {name: value[1:2] for name, value in moving(4, avatar.relit.head).items()}
    found = render_scene([instance(avatar, motion)], [front_camera(48)], side_light(-1), (*PASSES, "mask"))
    inside = found["mask"][..., 0] > 0.98
    assert inside.sum() > 200
    for name in PASSES:
        assert np.isfinite(found[name]).all(), name
        assert np.abs(found[name][inside]).max() > 0, name
    np.testing.assert_allclose(
        found["combined"][inside][:, :3], (found["diffuse"] + found["specular"])[inside], atol=4e-3
    )
    assert 0.1 < found["roughness"][inside].mean() < 0.8
    assert 0.02 < found["occlusion"][inside].min() < found["occlusion"][inside].max() <= 1


def test_the_lit_side_is_the_light_s_and_without_a_light_it_is_that_of_the_capture() -> None:
    avatar = avatar_of(lit_head())
    motion = still_motion(1, avatar.relit.head)

    def sides(environment: Environment | None, turn: float = 0.0) -> float:
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        found = render_scene([instance(avatar, motion, matrix)], [front_camera(48)], environment, ("diffuse",))
        image = found["diffuse"].astype(float).sum(-1)
        return image[:, 26:].sum() / image[:, :22].sum()  # the picture's right is +x

    assert sides(side_light(1)) > 1.4
    assert sides(side_light(-1)) < 1 / 1.4
    assert sides(None) == pytest.approx(sides(side_light(1)), rel=0.05)


def test_a_light_s_map_is_kept_with_its_rotation_and_strength() -> None:
    light = side_light(1)
    turned = Environment(light.radiance, rotation_rad=0.7, strength=2.0)
    kept, asked = filtered_environment(Environment(map_of(turned).numpy())), filtered_environment(turned)
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(kept.diffuse_at(normals), asked.diffuse_at(normals), atol=0.03, rtol=0)


def test_the_folder_gives_back_the_same_head(tmp_path: Path) -> None:
    avatar = avatar_of(lit_head())
    about = About("Ada", licence="CC0-1.0")
    save_avatar(tmp_path / "a.avatar", avatar, about, np.zeros((4, 4, 4), np.uint8))
    again = load_avatar(tmp_path / "a.avatar")
    assert isinstance(again, RelitHeadAvatar)
    motion = moving(2, avatar.relit.head)
    one, two = avatar.pose(**motion), again.pose(**motion)
    torch.testing.assert_close(one.colours, two.colours)
    torch.testing.assert_close(one.normals, two.normals)
    assert again.rig().expression_names == avatar.rig().expression_names
    assert len(again.proxy().faces) == len(avatar.proxy().faces)
    assert avatar.description()["materials"] is True


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"roughness": None}, {}),
        ({"tilt": torch.zeros(2, 3)}, {}),
        ({"metallic": torch.full((1500,), torch.nan)}, {}),
        ({"radiance": torch.zeros(0, 0, 3)}, {}),
        ({"occlusion.mean": torch.zeros(3, 25)}, {}),
        ({}, {"occlusion_directions": "many"}),
        ({}, {"occlusion_directions": 5}),
    ],
)
def test_damaged_parts_are_refused(change: dict[str, torch.Tensor | None], about: dict[str, object]) -> None:
    avatar = avatar_of(lit_head())
    tensors = {name: value for name, value in (dict(avatar.tensors()) | change).items() if value is not None}
    with pytest.raises(BadAvatar):
        load_relit_head(avatar.template(), dict(avatar.description()) | about, tensors, "cpu")


def test_neighbours_stay_in_their_patch_and_telling_poses_differ() -> None:
    head = tiny_head(600)
    points = head.pose(**still_motion(1, head)).means[0].detach()
    near = neighbours(head.binding, points)
    group = head.binding.group
    assert bool((group[near] == group[:, None]).all())
    theta = torch.tensor([[0.0], [0.0], [4.0], [-5.0], [0.1]])
    assert telling_poses(theta, 3)[:1] == [0]
    assert set(telling_poses(theta, 3)) == {0, 2, 3}
    assert telling_poses(torch.zeros(4, 2), 3) == [0]


def test_albedo_where_no_light_falls_is_held_to_that_of_its_kind() -> None:
    names = ("skin/face", "skin/body", "skin/lips", "skin/scalp", "teeth")
    binding = replace(lit_head().head.binding, group=torch.arange(5), group_names=names)
    assert kinds(binding).tolist() == [0, 0, 1, 2, 3]
    assert is_hair(binding).tolist() == [False, False, False, True, False]
    albedo = torch.tensor([[0.4, 0.3, 0.2]] * 3 + [[0.9, 0.9, 0.9]] * 2, requires_grad=True)
    kind, lit = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    term = held_where_dim(albedo, kind, lit)
    torch.testing.assert_close(term, torch.tensor(0.6 / 5))  # the last kind is dim everywhere: nothing is known of it
    gradient = torch.autograd.grad(term, albedo)[0]
    torch.testing.assert_close(gradient, torch.tensor([[0.0] * 3] * 3 + [[1 / 15] * 3] + [[0.0] * 3]))
    assert float(held_where_dim(albedo, kind, torch.ones(5))) == 0
    assert float(held_where_dim(albedo[:0], kind[:0], lit[:0]).nan_to_num()) == 0
