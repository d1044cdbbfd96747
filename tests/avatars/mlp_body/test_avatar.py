"""A body on disk and in a scene: the folder's round trip, damaged parts, the clamp, and pictures of several avatars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import About, load_avatar, save_avatar
from avatars.mlp_body.avatar import MlpBodyAvatar, load_mlp_body
from avatars.mlp_body.storage import body_description, body_tensors
from avatars.scene import SceneInstance, render_scene
from shared.errors import BadAvatar
from tests.tiny import tiny_avatar
from tests.tiny_body import body_camera, body_motion, body_reference, tiny_body


def test_a_saved_body_comes_back_bit_for_bit(tmp_path: Path) -> None:
    avatar = MlpBodyAvatar(tiny_body())
    save_avatar(tmp_path / "a.avatar", avatar, About("a"), np.zeros((2, 2, 4), np.uint8))
    again = load_avatar(tmp_path / "a.avatar")
    assert again.method == "mlp_body"
    parts = [torch.from_numpy(value) for value in body_motion(2).values()]
    first, second = avatar.pose(*parts), again.pose(*parts)
    for name in ("means", "quats", "scales", "opacities", "normals"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert torch.equal(first.view_colours.coefficients, second.view_colours.coefficients)
    rig, proxy = again.rig(), again.proxy()
    assert len(rig.joint_names) == 55
    assert {"left_index3", "jaw", "right_eye"} <= set(rig.joint_names)
    assert proxy.vertices[:, 2].max() - proxy.vertices[:, 2].min() > 1.4
    assert proxy.colour.std() > 0.01


def test_half_precision_halves_what_was_trained(tmp_path: Path) -> None:
    model = tiny_body()
    whole, half = body_tensors(model), body_tensors(model, half=True)
    for name, _ in model.named_parameters():
        assert half[name].element_size() * 2 == whole[name].element_size()
    assert torch.equal(half["points.xyz"], whole["points.xyz"])
    again = load_mlp_body(body_reference(), body_description(model), half, "cpu")
    assert again.half
    parts = [torch.from_numpy(value) for value in body_motion(1).values()]
    torch.testing.assert_close(again.pose(*parts).means, MlpBodyAvatar(model).pose(*parts).means, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("bases", lambda value: value[:-1], "another form"),
        ("gaussian_controls.index", lambda value: value + 1000, "outside"),
        ("points.control_pairs", lambda value: value - 1, "outside"),
        ("wiggle", lambda value: value * float("nan"), "not finite"),
        ("points.xyz", None, "lack"),
    ],
)
def test_damaged_weights_are_refused(name: str, change, expected: str) -> None:
    model = tiny_body()
    tensors = dict(body_tensors(model))
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    with pytest.raises(BadAvatar, match=expected):
        load_mlp_body(body_reference(), body_description(model), tensors, "cpu")


def test_a_damaged_description_is_refused() -> None:
    model = tiny_body()
    tensors = body_tensors(model)
    for change in ({"gaussians": "many"}, {"widths": []}, {"anchors": 1 << 40}, {"driving": None}, {"basis": -1}):
        with pytest.raises(BadAvatar):
            load_mlp_body(body_reference(), body_description(model) | change, tensors, "cpu")


def test_wild_poses_are_clamped_for_the_networks_only() -> None:
    avatar = MlpBodyAvatar(tiny_body())
    parts = [torch.from_numpy(value) for value in body_motion(1).values()]
    parts[0][0, avatar.model.canonical.arrays.joint_names.index("left_elbow"), 2] = 2.5
    held = avatar.pose(*parts)
    avatar.clamped = False
    free = avatar.pose(*parts)
    assert not torch.allclose(held.scales, free.scales)
    mean_gap = (held.means - free.means).norm(dim=-1).mean()
    assert 0 < mean_gap < 0.01  # the arm itself follows in both


def test_a_body_and_a_head_stand_in_one_scene(tmp_path: Path) -> None:
    body = MlpBodyAvatar(tiny_body())
    head = load_avatar(tiny_avatar(tmp_path, gaussians=400))
    motion = body_motion(1)
    place = np.eye(4)[None].copy()
    beside = place.copy()
    beside[0, 0, 3] = 0.9
    rig = head.rig()
    still = (np.zeros((1, len(rig.joint_names), 3)), np.zeros((1, 3)), np.zeros((1, len(rig.expression_names))))
    actors = [
        SceneInstance(body, place, motion["rotations"], motion["translations"], motion["expressions"]),
        SceneInstance(head, beside, *still),
    ]
    passes = ("combined", "depth", "normal", "id")
    found = render_scene(actors, [body_camera(96)], None, passes, quality="final", device="cpu")
    owners = set(np.unique(found["id"]).tolist())
    assert owners == {0, 1, 2}
    covered = found["combined"][..., 3] > 0.5
    assert 2 < np.median(found["depth"][..., 0][covered]) < 4
    lengths = np.linalg.norm(found["normal"][covered].astype(np.float32), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=0.01)
    alone = render_scene(actors[:1], [body_camera(96)], None, ("mask",), quality="final", device="cpu")["mask"]
    assert alone[48, 48, 0] > 0.9  # the middle of the body
    assert alone[2, 2, 0] == 0
