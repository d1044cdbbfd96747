"""The relightable person: skinning, parts, its folder, and its pictures in any light."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.relit_body.avatar import RelitAvatar
from avatars.rendering import CameraBatch
from avatars.scene import render_scene
from avatars.templates.template import Template
from shared.errors import BadAvatar
from shared.lamps import sun
from shared.types import PASS_CHANNELS, Environment
from tests.avatars.relit_files import front, painted_avatar, painted_teacher, standing

GREY = Environment(np.full((8, 16, 3), 0.6, np.float32))
DARK = Environment(np.zeros((8, 16, 3), np.float32))


def test_surfels_follow_the_template() -> None:
    """A point on a vertex is skinned as the template skins that vertex, where its neighbours have the same weights."""
    person = painted_teacher().person
    generator = torch.Generator().manual_seed(0)
    rotations = 0.3 * torch.randn(2, len(person.joints), 3, generator=generator)
    translations = torch.tensor([[0.1, 0.2, 0.3], [0.0, -0.1, 0.0]])
    expressions = torch.zeros(2, len(person.arrays.expression_names))
    moved = person.moved(rotations, translations, expressions)
    posed = Template(person.arrays)(rotations, translations, expressions, preset=person.reference.preset)
    blended = torch.einsum("vj,bjkl->bvkl", torch.from_numpy(np.array(person.arrays.weights)), moved)
    found = (blended[..., :3, :3] @ person.vertices[None, ..., None])[..., 0] + blended[..., :3, 3]
    # Undoing the canonical pose by blended matrices is what skinning from there costs, a few millimetres at the hips.
    assert float((found - posed.vertices).norm(dim=-1).median()) < 1e-4
    surfels = painted_avatar().surfels
    means = surfels.pose(rotations, translations, expressions).means
    near = torch.cdist(surfels.positions, person.vertices[np.unique(person.faces)]).argmin(1)
    vertices = posed.vertices[:, np.unique(person.faces)][:, near]
    assert float((means - vertices).norm(dim=-1).median()) < 0.02


def test_parts_are_found_from_the_template() -> None:
    person = painted_teacher().person
    joints, part = person.parts()
    names = [person.arrays.joint_names[joint] for joint in joints]
    assert {"head", "left_knee", "right_elbow", "left_shoulder"} <= set(names)
    assert 6 <= len(names) <= 20
    assert not any(
        "index" in name or "eye" in name for name in names
    )  # fingers go with the forearm, eyes with the head
    assert part.min() == 0
    assert part.max() == len(joints) - 1
    hand = person.arrays.weights[:, person.arrays.joint_names.index("left_index2")] > 0.6
    assert set(part[hand]) == {names.index("left_elbow")}


def test_every_pass_and_their_sum() -> None:
    images = render_scene([standing(painted_avatar())], [front()], GREY, list(PASS_CHANNELS))
    inside = images["mask"][..., 0] > 0.98
    assert inside.sum() > 300
    np.testing.assert_allclose(
        images["combined"][..., :3].astype(float), images["diffuse"].astype(float) + images["specular"], atol=2e-3
    )
    teacher = painted_teacher()
    posed = standing(painted_avatar())
    truth = teacher.images(
        *(
            torch.from_numpy(np.array(part, np.float32))
            for part in (posed.rotations, posed.translations, posed.expressions)
        ),
        CameraBatch.from_cameras([front()]),
    )
    both = inside & (truth.alpha[0].numpy() > 0.5)
    assert both.sum() > 0.75 * inside.sum()  # untrained disks reach over the rim, a pixel is 2 cm
    for name, values, tolerance in (
        ("albedo", truth.albedo[0], 0.04),
        ("roughness", truth.roughness[0][..., None], 0.05),
    ):
        off = np.abs(images[name].astype(np.float32) - values.numpy())[both]
        assert np.median(off) < tolerance, name
    cosine = (images["normal"].astype(np.float32) * truth.normals[0].numpy()).sum(-1)[both]
    assert np.median(cosine) > 0.97
    occlusion = images["occlusion"][..., 0][inside]
    assert occlusion.min() > 0.05
    assert 0.75 < np.median(occlusion) <= 1.0


def test_a_lowered_arm_darkens_the_side_it_hangs_at() -> None:
    """Occlusion follows the pose: with the arm down the flank sees less of the sky than with the arm up."""
    avatar = painted_avatar()
    down, up = (render_scene([standing(avatar, arm)], [front()], GREY, ["occlusion", "mask"]) for arm in (1.3, -0.3))
    rows, columns = slice(40, 58), slice(40, 56)  # the trunk
    both = (down["mask"] > 0.98) & (up["mask"] > 0.98)
    trunk = np.zeros_like(both)
    trunk[rows, columns] = both[rows, columns]
    darker = (up["occlusion"].astype(np.float32) - down["occlusion"].astype(np.float32))[trunk]
    assert darker.max() > 0.05
    assert darker.mean() > 0.003


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_sun_lights_the_side_it_stands_on(side: float) -> None:
    light = Environment(DARK.radiance, lights=sun(np.array([side, -0.2, 0.2]), np.full(3, 3.0), 0.01)[None])
    image = render_scene([standing(painted_avatar())], [front()], light, ["combined"])["combined"].astype(np.float32)
    left, right = image[:, :48, 0].sum(), image[:, 48:, 0].sum()
    assert (right > 3 * left) if side > 0 else (left > 3 * right)


def test_the_light_stays_when_the_person_turns_and_the_captured_light_goes_along() -> None:
    avatar = painted_avatar()
    sky = np.zeros((16, 32, 3), np.float32)
    sky[:, 12:20] = 4.0  # towards +x
    lit = Environment(sky)
    faced = render_scene([standing(avatar)], [front()], lit, ["combined"])["combined"].astype(np.float32)
    turned = render_scene([standing(avatar, turn_rad=np.pi)], [front()], lit, ["combined"])["combined"].astype(
        np.float32
    )
    for image in (faced, turned):
        assert image[:, 48:, 0].sum() > 1.5 * image[:, :48, 0].sum()
    captured = RelitAvatar(avatar.surfels, avatar.probes, torch.from_numpy(sky))
    turned = render_scene([standing(captured, turn_rad=np.pi)], [front()], None, ["combined"])["combined"]
    assert turned[:, :48, 0].astype(float).sum() > 1.5 * turned[:, 48:, 0].astype(float).sum()


def test_two_people_in_one_picture_keep_their_materials() -> None:
    avatar = painted_avatar()
    moved = np.array(standing(avatar).world_from_avatar)
    moved[0, 0, 3] = 0.5
    beside = replace(standing(avatar), world_from_avatar=moved)
    both = render_scene([standing(avatar), beside], [front()], GREY, ["albedo", "id"])
    alone = render_scene([standing(avatar)], [front()], GREY, ["albedo", "mask"])
    mine = (both["id"][..., 0] == 1) & (alone["mask"][..., 0] > 0.99)
    off = np.abs(both["albedo"].astype(np.float32) - alone["albedo"].astype(np.float32))[mine]
    assert mine.sum() > 200
    assert np.median(off) < 5e-3


def test_the_folder_brings_back_the_same_pictures(tmp_path: Path) -> None:
    avatar = painted_avatar()
    save_avatar(tmp_path / "a.avatar", avatar, About("a"), np.zeros((8, 8, 4), np.uint8))
    back = load_avatar(tmp_path / "a.avatar")
    names = ["combined", "occlusion", "normal"]
    for light in (GREY, None):
        want = render_scene([standing(avatar)], [front()], light, names)
        got = render_scene([standing(back)], [front()], light, names)
        for name in names:
            np.testing.assert_allclose(got[name].astype(float), want[name].astype(float), atol=2e-3)
    assert back.rig().joint_names == avatar.rig().joint_names
    assert len(back.proxy().faces) == len(avatar.surfels.person.faces)


def test_damaged_parts_are_named() -> None:
    from avatars.relit_body.avatar import load_relit_body

    avatar = painted_avatar()
    tensors, about = dict(avatar.tensors()), dict(avatar.description())
    with pytest.raises(BadAvatar, match="roughness"):
        load_relit_body(avatar.template(), about, tensors | {"roughness": tensors["roughness"][:5]}, "cpu")
    with pytest.raises(BadAvatar, match="outside the template"):
        load_relit_body(avatar.template(), about, tensors | {"skin.joints": tensors["skin.joints"] + 999}, "cpu")
    with pytest.raises(BadAvatar, match="canonical pose"):
        load_relit_body(avatar.template(), about | {"canonical_rotations": [[0.0, 0, 0]]}, tensors, "cpu")
