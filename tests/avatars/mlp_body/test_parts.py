"""The body's parts against plain forms: neighbours, skeleton, driving pose, networks, and the clamp of poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.mlp_body.neighbours import Mixing, mix, mixing_of
from avatars.mlp_body.network import PrivateNetworks
from avatars.mlp_body.pose_range import PoseRange
from avatars.mlp_body.skeleton import BODY_JOINTS, Canonical, DrivingPose
from avatars.templates.big_pose import big_pose_rotations
from shared.errors import BadAvatar, EffigyError
from shared.template import joint_transforms
from tests.tiny_body import body_motion, body_reference


def test_neighbours_weigh_by_inverse_distance_and_a_point_on_its_neighbour_takes_it_alone() -> None:
    rng = np.random.default_rng(0)
    sources, points = rng.normal(size=(20, 3)), rng.normal(size=(50, 3))
    points[7] = sources[4]
    mixing = mixing_of(points, sources, 3)
    distances = np.linalg.norm(points[:, None] - sources[None], axis=-1)
    for row in (0, 7, 49):
        nearest = np.argsort(distances[row], kind="stable")[:3]
        share = 1 / (distances[row, nearest] + 1e-6)
        assert mixing.index[row].tolist() == nearest.tolist()
        np.testing.assert_allclose(mixing.weight[row], share / share.sum(), rtol=1e-5)
    torch.testing.assert_close(mixing.weight.sum(1), torch.ones(50))
    assert mixing.index[7, 0] == 4
    assert mixing.weight[7, 0] > 0.9999
    with pytest.raises(EffigyError, match="too few points"):
        mixing_of(points, sources[:2], 3)


def test_mixing_and_its_gradient_are_a_sparse_product() -> None:
    draw = torch.Generator().manual_seed(0)
    index = torch.randint(0, 6, (40, 3), generator=draw)
    mixing = Mixing.of(index, torch.rand(40, 3, generator=draw), 8)  # two sources that nobody takes from
    matrix = torch.zeros(40, 8).index_put_(
        (torch.arange(40)[:, None].expand(-1, 3), mixing.index), mixing.weight, accumulate=True
    )
    values = torch.randn(8, 5, generator=draw, requires_grad=True)
    cotangent = torch.randn(40, 5, generator=draw)
    torch.testing.assert_close(mix(values, mixing), matrix @ values)
    (found,) = torch.autograd.grad((mix(values, mixing) * cotangent).sum(), values)
    torch.testing.assert_close(found, matrix.T @ cotangent)


def test_the_skeleton_by_doubling_is_the_chain_and_the_big_pose_leaves_everything() -> None:
    canonical = Canonical.of(body_reference())
    arrays = canonical.arrays
    rng = np.random.default_rng(1)
    turned = rng.normal(0, 0.6, (2, 55, 3)).astype(np.float32)
    moved = rng.normal(size=(2, 3)).astype(np.float32)
    still = torch.zeros(2, len(arrays.expression_names))
    found = canonical.skeleton.skinning(torch.from_numpy(turned), torch.from_numpy(moved), still).numpy()
    joints = canonical.skeleton.joints.numpy()
    big = joint_transforms(big_pose_rotations(arrays.joint_names), joints, arrays.parents)[0]
    for row in range(2):
        wanted = joint_transforms(turned[row], joints, arrays.parents, moved[row])[0] @ np.linalg.inv(big)
        np.testing.assert_allclose(found[row], wanted[:, :3], atol=2e-5)
    pose = torch.from_numpy(big_pose_rotations(arrays.joint_names))[None]
    identity = canonical.skeleton.skinning(pose, torch.zeros(1, 3), still[:1])
    torch.testing.assert_close(identity, torch.eye(3, 4).expand(1, 55, 3, 4), atol=1e-5, rtol=0)


def test_expressions_move_the_joints_as_the_template_does() -> None:
    from avatars.templates.template import Template

    canonical = Canonical.of(body_reference())
    motion = {name: torch.from_numpy(values) for name, values in body_motion(2).items()}
    motion["expressions"][:, canonical.arrays.expression_names.index("jawOpen")] = 1
    wanted = Template(canonical.arrays)(**motion, preset="woman").skinning
    pose = torch.from_numpy(big_pose_rotations(canonical.arrays.joint_names))[None]
    big = Template(canonical.arrays)(pose, torch.zeros(1, 3), preset="woman").skinning
    found = canonical.skeleton.skinning(**motion)
    torch.testing.assert_close(found, (wanted @ torch.linalg.inv(big))[:, :, :3], atol=1e-5, rtol=0)


def test_what_drives_the_networks_and_which_anchor_sees_it() -> None:
    arrays = body_reference().open()
    plain = DrivingPose.of(arrays, hands=False, face=False)
    assert plain.joints == BODY_JOINTS
    assert plain.size() == 63
    full = DrivingPose.of(arrays, hands=True, face=True)
    assert full.size() == 63 + 90 + 9 + len(arrays.expression_names)
    turned = torch.randn(2, 55, 3)
    vector = full.vector(turned, torch.rand(2, len(arrays.expression_names)), arrays)
    at = 3 * full.joints.index("left_ring2")
    assert torch.equal(vector[:, at : at + 3], turned[:, arrays.joint_names.index("left_ring2")])
    weights = torch.zeros(3, 55)
    for row, name in enumerate(("left_index2", "head", "spine2")):
        weights[row, arrays.joint_names.index(name)] = 1
    sees = full.seen_by(weights, arrays.joint_names)
    assert sees[:, 0].tolist() == [1, 1, 1]
    assert sees[:, at].tolist() == [1, 0, 0]
    assert sees[:, -1].tolist() == [0, 1, 0]
    assert DrivingPose.from_json(json_of(full), arrays) == full
    with pytest.raises(BadAvatar, match="lacks"):
        DrivingPose.from_json({"joints": ["tail"], "expressions": []}, arrays)


def json_of(driving: DrivingPose) -> object:
    import json

    return json.loads(json.dumps(driving.as_json()))


def test_private_networks_are_each_an_ordinary_perceptron() -> None:
    torch.manual_seed(0)
    networks = PrivateNetworks(4, (5, 7, 6, 3))
    x = torch.randn(4, 2, 5)
    found = networks(x)
    for anchor in range(4):
        value = x[anchor]
        for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
            value = torch.nn.functional.linear(value, weight[anchor].T, bias[anchor, 0])
            value = value.relu() if layer < 2 else value
        torch.testing.assert_close(found[anchor], value)
    assert all(weight.abs().max() <= weight.shape[1] ** -0.5 for weight in networks.weights)


def test_novel_poses_are_held_inside_the_training_poses() -> None:
    draw = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(10, 3, generator=draw))[0].T
    poses = 0.5 + torch.randn(40, 3, generator=draw) * torch.tensor([2.0, 1.0, 0.5]) @ directions
    found = PoseRange.fit(poses, 20, 2.0)
    inside = found.mean + 0.5 * found.sigmas[0] * found.components[0]
    torch.testing.assert_close(found.clamped(inside[None])[0], inside, atol=1e-5, rtol=0)
    far = found.mean + 9 * found.sigmas[0] * found.components[0] + 3 * found.sigmas[1] * found.components[1]
    wanted = found.mean + 2 * found.sigmas[0] * found.components[0] + 2 * found.sigmas[1] * found.components[1]
    torch.testing.assert_close(found.clamped(far[None])[0], wanted, atol=1e-4, rtol=0)
    kept = PoseRange.fit(poses, 2, 2.0)
    assert kept.components.shape == (2, 10)
    spread = (poses - poses.mean(0)) @ kept.components.T
    torch.testing.assert_close(kept.sigmas, spread.std(0), rtol=1e-4, atol=1e-5)
    alone = PoseRange.fit(poses[:1], 20, 2.0)  # one pose: everything is that pose
    torch.testing.assert_close(alone.clamped(far[None])[0], poses[0], atol=1e-5, rtol=0)
