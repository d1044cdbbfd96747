"""The forward pass against the method page's steps done one Gaussian at a time, its gradients, and degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatars.mlp_body.express import seen_colours, turns_of
from avatars.mlp_body.model import Drive, MlpBody, posed_gaussians
from avatars.templates.big_pose import big_pose_rotations
from shared.template import joint_transforms
from tests.tiny_body import body_motion, drive_of, tiny_body

SH0, SH1 = 0.28209479177387814, 0.4886025119029199


@pytest.fixture(scope="module")
def model() -> MlpBody:
    return tiny_body()


def reference(model: MlpBody, motion: dict, row: int, eye: np.ndarray) -> dict[str, np.ndarray]:
    """Method page A.5 for one frame in float64 and loops; eye [3] m."""
    arrays, points = model.canonical.arrays, model.points
    p = {name: value.detach().numpy().astype(np.float64) for name, value in model.named_parameters()}
    theta = model.theta(*(torch.from_numpy(motion[k][row : row + 1]) for k in ("rotations", "expressions")))[0].numpy()
    said = []
    for anchor in range(len(points.anchors)):
        x = theta.astype(np.float64) * points.anchor_sees[anchor].numpy()
        for layer in range(len(model.widths) + 1):
            x = x @ p[f"networks.weights.{layer}"][anchor] + p[f"networks.biases.{layer}"][anchor, 0]
            x = np.maximum(x, 0) if layer < len(model.widths) else x
        said.append(x)
    said = np.array(said)

    def inverse_distance(point: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = np.linalg.norm(sources - point, axis=1)
        near = np.argsort(distance)[:3]
        share = 1 / (distance[near] + 1e-6)
        return near, share / share.sum()

    xyz, controls, anchors = (getattr(points, name).numpy().astype(float) for name in ("xyz", "controls", "anchors"))
    moves = []
    for v, control in enumerate(controls):
        near, share = inverse_distance(control, anchors)
        b = share @ said[near, model.basis :]
        moves.append(p["control_offsets"][v] + b @ p["control_bases"][:, v])
    moves = np.array(moves)
    joints = model.canonical.skeleton.joints.numpy() + np.tensordot(
        motion["expressions"][row], arrays.joint_expression_dirs, axes=1
    )
    turned, moved = motion["rotations"][row], motion["translations"][row]
    rest = model.canonical.skeleton.joints.numpy()
    big = joint_transforms(big_pose_rotations(arrays.joint_names), rest, arrays.parents)[0]
    bones = joint_transforms(turned, joints, arrays.parents, moved)[0] @ np.linalg.inv(big)
    expressed = np.zeros_like(xyz)
    dirs = points.expression_dirs.numpy()
    expressed[points.expression_rows.numpy()] = np.tensordot(motion["expressions"][row], dirs, axes=1)
    out: dict[str, list] = {name: [] for name in ("means", "covariance", "opacities", "colours", "quats", "scales")}
    for i in range(len(xyz)):
        near, share = inverse_distance(xyz[i], anchors)
        a = share @ said[near, : model.basis]
        near, share = inverse_distance(xyz[i], controls)
        x = xyz[i] + expressed[i] + share @ moves[near] + model.wiggle_m * np.tanh(p["wiggle"][:, i])
        values = p["neutral"][:, i] + a @ p["bases"][:, :, i]
        transform = np.tensordot(points.weights[i].numpy().astype(float), bones, axes=1)
        mean = transform[:3, :3] @ x + transform[:3, 3]
        u, _, vt = np.linalg.svd(transform[:3, :3])
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        q = values[6:10] / np.linalg.norm(values[6:10])
        local = Rotation.from_quat(q[[1, 2, 3, 0]]).as_matrix()
        scales = np.exp(values[3:6])
        axes = rotation @ local
        band = (p["sh1"][:, i] + a @ p["sh1_bases"][:, :, i]).reshape(3, 3)
        d = rotation.T @ ((mean - eye) / np.linalg.norm(mean - eye))
        basis = SH1 * np.array([-d[1], d[2], -d[0]])
        out["colours"].append(np.maximum(0.5 + SH0 * values[:3] + basis @ band, 0))
        out["means"].append(mean)
        out["covariance"].append(axes @ np.diag(scales**2) @ axes.T)
        out["opacities"].append(1 / (1 + math.exp(-values[10])))
        out["scales"].append(scales)
    return {name: np.array(values) for name, values in out.items() if values}


def test_every_gaussian_is_the_method_pages(model: MlpBody) -> None:
    motion = body_motion(2)
    eye = np.array([0.5, -2.5, 0.7])
    found, _ = model(drive_of(model, motion), active=True, view_dependent=True)
    colours = seen_colours(found, torch.tensor([1]), torch.tensor(eye, dtype=torch.float32)[None])[0]
    wanted = reference(model, motion, 1, eye)
    assert len(wanted["means"]) == 1000
    np.testing.assert_allclose(found.means[1].detach(), wanted["means"], atol=2e-5)
    np.testing.assert_allclose(found.scales[1].detach(), wanted["scales"], rtol=1e-4)
    np.testing.assert_allclose(found.opacities[1].detach(), wanted["opacities"], atol=1e-5)
    np.testing.assert_allclose(colours.detach(), wanted["colours"], atol=2e-4)
    q = found.quats[1].detach().double().numpy()
    axes = Rotation.from_quat(q[:, [1, 2, 3, 0]]).as_matrix()
    covariance = axes @ (wanted["scales"][:, :, None] ** 2 * axes.transpose(0, 2, 1))
    difference = np.abs(covariance - wanted["covariance"]).max((1, 2)) / np.abs(wanted["covariance"]).max((1, 2))
    assert np.quantile(difference, 0.99) < 2e-3
    assert difference.max() < 0.05  # three Newton steps where a joint folds


def test_in_the_big_pose_gaussians_stay_on_the_template(model: MlpBody) -> None:
    fresh = tiny_body(spread=0.0)
    with torch.no_grad():
        fresh.control_bases.zero_()
        fresh.bases.zero_()
    pose = torch.from_numpy(big_pose_rotations(model.canonical.arrays.joint_names))[None]
    still = torch.zeros(1, len(model.canonical.arrays.expression_names))
    posed = fresh.pose(pose, torch.zeros(1, 3), still, normals=True)
    torch.testing.assert_close(posed.means[0], fresh.points.xyz, atol=1e-5, rtol=0)
    torch.testing.assert_close(posed.quats[0].norm(dim=-1), torch.ones(1000))
    torch.testing.assert_close(posed.quats[0], torch.tensor([1.0, 0, 0, 0]).expand(1000, 4), atol=1e-5, rtol=0)
    assert posed.normals is not None
    torch.testing.assert_close(posed.normals[0], fresh.points.normals, atol=1e-5, rtol=0)


def test_before_the_bases_join_the_pose_changes_no_detail(model: MlpBody) -> None:
    found, controls = model(drive_of(model, body_motion(2)), active=False, view_dependent=False)
    assert found.tint is None
    torch.testing.assert_close(found.scales[0], found.scales[1])
    torch.testing.assert_close(controls[0], model.control_offsets)


def test_colours_in_world_axes_are_those_that_training_saw(model: MlpBody) -> None:
    found, _ = model(drive_of(model, body_motion(2)), active=True, view_dependent=True)
    eyes = torch.tensor([[0.3, -2.0, 0.5], [1.0, 1.0, 0.0]])
    posed = posed_gaussians(found).seen_from(eyes)
    torch.testing.assert_close(posed.colours, seen_colours(found, torch.arange(2), eyes), atol=1e-5, rtol=0)
    turn = torch.eye(4)[None].repeat(2, 1, 1)
    turn[:, :3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = posed_gaussians(found).transformed(turn).seen_from(eyes @ turn[0, :3, :3].T)
    torch.testing.assert_close(moved.colours, posed.colours, atol=1e-5, rtol=0)


def test_gradients_are_finite_differences() -> None:
    model = tiny_body().double()
    model.points = type(model.points)(
        **{
            name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in ((n, getattr(model.points, n)) for n in model.points.__dataclass_fields__)
        }
    )
    for name in ("gaussian_anchors", "control_anchors", "gaussian_controls"):
        mixing = getattr(model.points, name)
        object.__setattr__(mixing, "weight", mixing.weight.double())
        object.__setattr__(mixing, "back_weight", mixing.back_weight.double())
    model.weights_by_joint, model.xyz_rows = model.weights_by_joint.double(), model.xyz_rows.double()
    skeleton = model.canonical.skeleton
    for name in ("joints", "joint_dirs", "big_turned", "big_placed"):
        setattr(skeleton, name, getattr(skeleton, name).double())
    motion = {name: torch.from_numpy(values).double() for name, values in body_motion(2).items()}
    draw = torch.Generator().manual_seed(0)
    cotangents: list[torch.Tensor] = []

    def loss(translations: torch.Tensor) -> torch.Tensor:
        places = model.placed(motion["rotations"], translations, motion["expressions"])
        drive = Drive(model.theta(motion["rotations"], motion["expressions"]), places)
        found, controls = model(drive, active=True, view_dependent=True)
        colours = seen_colours(found, torch.tensor([0, 1, 1]), torch.tensor([[0.0, -3, 0]] * 3).double())
        parts = (found.means, found.quats, found.scales, found.opacities, colours, controls)
        if not cotangents:
            cotangents.extend(torch.randn(part.shape, generator=draw).double() for part in parts)
        return sum((part * along).sum() for part, along in zip(parts, cotangents, strict=True))

    place = motion["translations"].clone().requires_grad_()
    checked = {name: parameter for name, parameter in model.named_parameters()} | {"translations": place}
    gradients = dict(zip(checked, torch.autograd.grad(loss(place), list(checked.values())), strict=True))
    # The direction a Gaussian is seen along counts as given, so band 1 is left out where means move.
    for name, parameter in checked.items():
        if name in ("wiggle", "control_offsets", "control_bases", "translations") or name.startswith("networks"):
            continue
        check(name, parameter, gradients[name], lambda: loss(place))
    with torch.no_grad():
        model.sh1.zero_()
        model.sh1_bases.zero_()
    gradients = dict(zip(checked, torch.autograd.grad(loss(place), list(checked.values())), strict=True))
    for name, parameter in checked.items():
        check(name, parameter, gradients[name], lambda: loss(place))


def check(name: str, parameter: torch.Tensor, gradient: torch.Tensor, loss) -> None:
    draw = torch.Generator().manual_seed(3)
    direction = torch.randn(parameter.shape, generator=draw).double()
    step = 1e-6
    with torch.no_grad():
        parameter.add_(direction, alpha=step)
        above = loss()
        parameter.add_(direction, alpha=-2 * step)
        below = loss()
        parameter.add_(direction, alpha=step)
    numeric, analytic = float(above - below) / (2 * step), float((gradient * direction).sum())
    assert abs(numeric - analytic) < 1e-4 * max(abs(numeric), abs(analytic), 1), name


def test_blended_matrices_give_their_nearest_rotation_and_folded_ones_something_finite() -> None:
    turns = Rotation.random(50, random_state=0).as_matrix()
    mixed = 0.7 * turns[:25] + 0.3 * turns[:25] @ Rotation.from_rotvec([0.9, 0, 0.3]).as_matrix()
    found = turns_of(torch.from_numpy(mixed)).numpy()
    for matrix, quaternion in zip(mixed, found, strict=True):
        u, _, vt = np.linalg.svd(matrix)
        np.testing.assert_allclose(Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix(), u @ vt, atol=1e-5)
    folded = torch.stack((torch.zeros(3, 3), torch.diag(torch.tensor([1.0, -1, 1])), torch.ones(3, 3)))
    assert torch.isfinite(turns_of(folded)).all()


def test_a_zero_quaternion_is_drawn_unturned_and_has_no_gradient(model: MlpBody) -> None:
    broken = tiny_body()
    with torch.no_grad():
        broken.neutral[6:10, 3] = 0
        broken.bases[:, 6:10, 3] = 0
    found, _ = broken(drive_of(broken, body_motion(1)), active=True, view_dependent=False)
    assert torch.isfinite(found.quats).all()
    (gradient,) = torch.autograd.grad(found.quats.square().sum() + found.quats[..., 0].sum(), broken.neutral)
    assert torch.isfinite(gradient).all()
    assert (gradient[6:10, 3] == 0).all()


def test_hands_jaw_and_expressions_move_what_they_should(model: MlpBody) -> None:
    arrays = model.canonical.arrays
    still = {"rotations": np.zeros((1, 55, 3), np.float32), "translations": np.zeros((1, 3), np.float32)}
    still["expressions"] = np.zeros((1, len(arrays.expression_names)), np.float32)

    def moved(change: dict[str, np.ndarray]) -> np.ndarray:
        names = ("rotations", "translations", "expressions")
        parts = ([torch.from_numpy((still | c)[k]) for k in names] for c in ({}, change))
        first, second = (model.pose(*part, clamped=False).means[0] for part in parts)
        return (first - second).norm(dim=-1).detach().numpy()

    for joint, bone in (("left_middle1", "left_middle2"), ("jaw", "jaw")):
        turned = still["rotations"].copy()
        turned[0, arrays.joint_names.index(joint), 0] = 0.6
        turned[0, arrays.joint_names.index(joint), 1] = 0.6
        far = moved({"rotations": turned})
        own = model.points.weights[:, arrays.joint_names.index(bone)].numpy() > 0.5
        other = model.points.weights[:, arrays.joint_names.index("right_knee")].numpy() > 0.5
        if own.any():
            assert far[own].mean() > 0.004, joint
        assert far[other].max() < 0.002, joint
    smile = still["expressions"].copy()
    smile[0, arrays.expression_names.index("jawOpen")] = 1
    far = moved({"expressions": smile})
    assert far.max() > 0.005
