"""RGBAvatar's file as a head: every pose against the published formulas in plain numpy, and back to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatars.formats.rgbavatar_head import export_rgbavatar, import_rgbavatar, settings_without_config
from avatars.formats.rgbavatar_network import RgbAvatarSettings
from avatars.formats.rgbavatar_ply import RgbAvatarFile, read_rgbavatar_ply, write_rgbavatar_ply
from avatars.rgb_head.avatar import RgbHeadAvatar, load_rgb_head
from avatars.rgb_head.driving import DrivingField, DrivingLayout, DrivingRange, rgbavatar_layout
from avatars.rgb_head.model import RgbHead
from avatars.templates.opening import TemplateReference, reference_of
from avatars.templates.template import template_triangles
from shared.errors import BadAvatar
from tests.avatars.formats.rgbavatar_files import network_numbers, random_fields, write_fields

FLAME_FROM_MODEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
JOINTS = ("neck", "jaw", "left_eye", "right_eye")
SHAPE = (0.5, -1.0, 0.3)
FACES = 10032
Pose = dict[str, NDArray[np.float64]]


def written(
    folder: Path, inputs: int = 129, blendshapes: int = 5, count: int = 0, *, mlp: bool = True, proj: bool = True
) -> tuple[Path, dict[str, NDArray[Any]], NDArray[np.float32]]:
    packed = network_numbers(inputs, blendshapes, mlp=mlp) if proj else np.zeros(0, np.float32)
    fields = random_fields(count or len(packed) + 40, blendshapes, FACES, packed)
    return write_fields(folder / "model.ply", fields), fields, packed


def flame_pose(seed: int) -> Pose:
    """FLAME parameters as RGBAvatar takes them: its own axes, the global rotation folded into the neck."""
    generator = np.random.default_rng(seed)
    pose = {name: generator.normal(0, 0.3, 3) for name in JOINTS}
    return pose | {
        "expr": generator.normal(0, 1, 100),
        "lids": generator.random(2),
        "translation": generator.normal(0, 0.2, 3),
    }


def theta_of(pose: Pose) -> NDArray[np.float64]:
    """The 129 numbers, written out (method page 2.3)."""
    rows = [Rotation.from_rotvec(pose[name]).as_matrix()[:2].ravel() for name in JOINTS]
    return np.concatenate([pose["expr"], *rows, pose["lids"], pose["translation"]])


def driven(head: RgbHead, pose: Pose) -> dict[str, torch.Tensor]:
    """The same pose for Effigy: model axes, by name."""
    arrays = head.head.template.arrays
    rotations = np.zeros((1, len(arrays.joint_names), 3))
    for name in JOINTS:
        rotations[0, arrays.joint_names.index(name)] = FLAME_FROM_MODEL.T @ pose[name]
    expressions = np.concatenate((pose["expr"], pose["lids"]))[None]
    assert arrays.expression_names[-2:] == ("eyelid_left", "eyelid_right")
    translation = (FLAME_FROM_MODEL.T @ pose["translation"])[None]
    values = {"rotations": rotations, "translations": translation, "expressions": expressions}
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}


def network(theta: NDArray[np.float64], packed: NDArray[np.float32], inputs: int, blendshapes: int) -> NDArray[Any]:
    at, value = 0, theta[:inputs]
    widths = (inputs, 128, 128, blendshapes)
    for layer in range(3):
        before, after = widths[layer], widths[layer + 1]
        weight = packed[at : at + before * after].reshape(after, before).astype(np.float64)
        bias = packed[at + before * after : at + (before + 1) * after]
        at += (before + 1) * after
        value = weight @ value + bias
        value = np.maximum(value, 0) if layer < 2 else value
    return value


def quaternion_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """wxyz by the largest of four, also of matrices that are no rotations."""
    trace = np.trace(matrix)
    choice = int(np.argmax([*np.diag(matrix), trace]))
    out = np.zeros(4)  # xyzw
    if choice == 3:
        out[:3] = [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
        out[3] = 1 + trace
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        out[i] = 1 - trace + 2 * matrix[i, i]
        out[j] = matrix[j, i] + matrix[i, j]
        out[k] = matrix[k, i] + matrix[i, k]
        out[3] = matrix[k, j] - matrix[j, k]
    out /= np.linalg.norm(out)
    return out[[3, 0, 1, 2]]


def product(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.concatenate(([w], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])))


def published(
    fields: dict[str, NDArray[Any]], psi: NDArray[np.float64], head: RgbHead, vertices: NDArray[np.float64], row: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """World position, rotation matrix and colour of one Gaussian in FLAME's axes (method page 2.1, 2.5, 2.6)."""

    def blended(base: list[str], prefix: str) -> NDArray[np.float64]:
        width = len(base)
        start = np.array([fields[name][row] for name in base], np.float64)
        deltas = [[fields[f"{prefix}_{width * k + c}"][row] for c in range(width)] for k in range(len(psi))]
        return start + psi @ np.array(deltas, np.float64)

    local = blended(["x", "y", "z"], "xyz_b")
    rotation = blended([f"rot_{n}" for n in range(4)], "rot_b")
    colour = blended([f"f_dc_{n}" for n in range(3)], "f_dc_b")
    arrays = head.head.template.arrays
    faces, uv_faces, _ = template_triangles(arrays)
    face = fields["face_id"][row]
    v0, v1, v2 = vertices[faces[face]]
    uv = arrays.uv[uv_faces[face]].astype(np.float64)
    (du1, dv1), (du2, dv2) = uv[1] - uv[0], uv[2] - uv[0]
    e1, e2 = v1 - v0, v2 - v0
    f = 1 / (du1 * dv2 - dv1 * du2)
    axes = [f * (dv2 * e1 - dv1 * e2), f * (du1 * e2 - du2 * e1), np.cross(e1, e2)]
    frame = np.stack([axis / np.linalg.norm(axis) for axis in axes], 1)
    u, v = fields["face_bary_0"][row], fields["face_bary_1"][row]
    centre = u * v0 + v * v1 + (1 - u - v) * v2
    turn = product(quaternion_of(frame), rotation / np.linalg.norm(rotation))
    matrix = Rotation.from_quat(turn[[1, 2, 3, 0]]).as_matrix()
    return frame @ local + centre, matrix, np.maximum(0.28209479177387814 * colour + 0.5, 0)


@pytest.mark.usefixtures("flame_home")
def test_a_head_poses_exactly_as_published(tmp_path: Path) -> None:
    path, fields, packed = written(tmp_path)
    reference = reference_of("flame2020_rgbavatar", shape=SHAPE)
    offset = 0.003 * np.random.default_rng(0).normal(size=(5083, 3)).astype(np.float32)
    file = read_rgbavatar_ply(path)
    head = import_rgbavatar(file, settings_without_config(file, path), reference, path, offset)
    opacity = np.exp(-np.logaddexp(0, -fields["opacity"].astype(np.float64)))
    for seed in range(3):
        pose = flame_pose(seed)
        pose["expr"] = pose["expr"] * (1 + 9 * seed)  # far outside any training range: nothing is clipped
        motion = driven(head, pose)
        with torch.no_grad():
            vertices = head.head.posed_vertices(**motion)[0].double().numpy() @ FLAME_FROM_MODEL.T
            posed = head.pose(**motion)
        theta = theta_of(pose)
        np.testing.assert_allclose(head.theta(**motion)[0].numpy(), theta, atol=2e-6, rtol=1e-6)
        psi = network(theta, packed, 129, 5)
        for row in range(0, len(fields["x"]), len(fields["x"]) // 60):
            position, rotation, colour = published(fields, psi, head, vertices, row)
            np.testing.assert_allclose(FLAME_FROM_MODEL @ posed.means[0, row].numpy(), position, atol=1e-5)
            quat = posed.quats[0, row].double().numpy()
            ours = FLAME_FROM_MODEL @ Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix()
            np.testing.assert_allclose(ours, rotation, atol=2e-4)
            np.testing.assert_allclose(posed.colours[0, row].numpy(), colour, atol=1e-4)
        np.testing.assert_allclose(posed.opacities[0].numpy(), opacity, atol=1e-6)
        scales = np.exp(np.stack([fields[f"scale_{n}"] for n in range(3)], 1))
        np.testing.assert_allclose(posed.scales[0].numpy(), scales, rtol=1e-5)
    assert (~head.seen).sum() == (fields["opacity"] == -9999).sum() > 0


@pytest.mark.parametrize(("blendshapes", "inputs"), [(5, 129), (20, 129), (50, 100)])
@pytest.mark.usefixtures("flame_home")
def test_import_and_export_return_the_same_bytes(tmp_path: Path, blendshapes: int, inputs: int) -> None:
    path, _, _ = written(tmp_path, inputs, blendshapes)
    file = read_rgbavatar_ply(path)
    settings = settings_without_config(file, path)
    head = import_rgbavatar(file, settings, reference_of("flame2020_rgbavatar", shape=SHAPE), path)
    again, found, notes = export_rgbavatar(head)
    assert not notes
    assert found == settings
    write_rgbavatar_ply(tmp_path / "again.ply", again)
    assert (tmp_path / "again.ply").read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("flame_home")
def test_an_imported_head_is_stored_and_loaded(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    file = read_rgbavatar_ply(path)
    reference = reference_of("flame2020_rgbavatar", shape=SHAPE)
    offset = 0.003 * np.random.default_rng(0).normal(size=(5083, 3)).astype(np.float32)
    avatar = RgbHeadAvatar(import_rgbavatar(file, settings_without_config(file, path), reference, path, offset))
    again = load_rgb_head(avatar.template(), avatar.description(), avatar.tensors(), "cpu")
    motion = driven(avatar.model, flame_pose(1))
    for name in ("means", "quats", "scales", "opacities", "colours"):
        assert torch.equal(getattr(avatar.pose(**motion), name), getattr(again.pose(**motion), name))


@pytest.mark.parametrize(
    ("inputs", "blendshapes", "switches"),
    [(129, 6, {"use_mlp_proj": False}), (126, 6, {}), (109, 6, {}), (40, 6, {}), (12, 12, {"use_weight_proj": False})],
)
@pytest.mark.usefixtures("flame_home")
def test_every_switch_of_the_network_is_kept(
    tmp_path: Path, inputs: int, blendshapes: int, switches: dict[str, bool]
) -> None:
    """One layer instead of three, no network at all, and inputs cut short, also in the middle of a rotation."""
    mlp, proj = switches.get("use_mlp_proj", True), switches.get("use_weight_proj", True)
    path, _, packed = written(tmp_path, inputs, blendshapes, 1500 if not (mlp and proj) else 0, mlp=mlp, proj=proj)
    file = read_rgbavatar_ply(path)
    settings = RgbAvatarSettings(inputs=inputs, blendshapes=blendshapes, **switches)
    head = import_rgbavatar(file, settings, reference_of("flame2020_rgbavatar"), path)
    pose = flame_pose(4)
    theta = theta_of(pose)
    if not proj:
        expected = theta[:inputs]
    elif not mlp:
        weight, bias = packed[: inputs * blendshapes].reshape(blendshapes, inputs), packed[inputs * blendshapes :]
        expected = weight.astype(np.float64) @ theta[:inputs] + bias
    else:
        expected = network(theta, packed, inputs, blendshapes)
    with torch.no_grad():
        psi = head.weights(head.theta(**driven(head, pose)))[0].numpy()
    np.testing.assert_allclose(psi, expected, atol=2e-5)
    again, found, _ = export_rgbavatar(head)
    assert (found.use_mlp_proj, found.use_weight_proj) == (mlp and proj, proj)
    back = import_rgbavatar(again, found, reference_of("flame2020_rgbavatar"), path)
    with torch.no_grad():
        np.testing.assert_array_equal(back.weights(back.theta(**driven(back, pose)))[0].numpy(), psi)


@pytest.mark.usefixtures("flame_home")
def test_a_file_without_blending_keeps_its_base(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    file = read_rgbavatar_ply(path)
    settings = replace(settings_without_config(file, path), use_blend=False)
    head = import_rgbavatar(file, settings, reference_of("flame2020_rgbavatar"), path)
    still, moved = (head.pose(**driven(head, flame_pose(seed))) for seed in (1, 2))
    torch.testing.assert_close(still.colours, moved.colours)


@pytest.mark.usefixtures("flame_home")
def test_a_very_old_file_is_bound_by_its_grid(tmp_path: Path) -> None:
    from avatars.gaussians.binding import bind_uv_grid

    reference = reference_of("flame2020_rgbavatar")
    arrays = reference.open()
    grid = bind_uv_grid(arrays, arrays.vertices, 205)
    path, fields, _ = written(tmp_path, count=len(grid))
    old = {name: value for name, value in fields.items() if not name.startswith("face_")}
    file = read_rgbavatar_ply(write_fields(tmp_path / "old.ply", old))
    settings = RgbAvatarSettings(blendshapes=5, tex_size=205)
    head = import_rgbavatar(file, settings, reference, path)
    assert torch.equal(head.binding.barycentrics, grid.barycentrics)
    with pytest.raises(BadAvatar, match=r"old\.ply does not say where its Gaussians sit.*tex_size 128"):
        import_rgbavatar(file, replace(settings, tex_size=128), reference, tmp_path / "old.ply")


def own_head(
    reference: TemplateReference, frame: str, layout: DrivingLayout | None = None, hidden: int = 32
) -> RgbHead:
    """A head of ours on FLAME: standardised, clipped, a narrow network."""
    from avatars.gaussians.binding import bind_uv_grid
    from avatars.rgb_head.head_template import HeadTemplate
    from avatars.templates.template import Template

    arrays = reference.open()
    generator = torch.Generator().manual_seed(0)
    layout = layout or rgbavatar_layout(arrays.joint_names, arrays.expression_names)
    size = layout.size()
    driving = DrivingRange(
        torch.randn(size, generator=generator),
        torch.rand(size, generator=generator),
        torch.full((size,), -50.0),
        torch.full((size,), 50.0),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        head = RgbHead(
            HeadTemplate.make(Template(arrays), reference.preset, reference.shape),
            bind_uv_grid(arrays, arrays.vertices, 48),
            layout,
            blendshapes=4,
            frame=frame,
            driving_range=driving,
            rest_pose=np.zeros((len(arrays.joint_names), 3), np.float32),
            hidden=hidden,
        )
    with torch.no_grad():
        for name, scale in (("positions", 0.002), ("rotations", 0.4), ("colours", 0.5), ("scales", 0.1)):
            getattr(head, name).add_(scale * torch.randn(getattr(head, name).shape, generator=generator))
        for name, scale in (("position_deltas", 0.001), ("rotation_deltas", 0.1), ("colour_deltas", 0.2)):
            getattr(head, name).add_(scale * torch.randn(getattr(head, name).shape, generator=generator))
        head.scales.sub_(6)
        head.seen.copy_(torch.rand(len(head), generator=generator) < 0.9)
    return head


def reread(folder: Path, file: RgbAvatarFile, settings: RgbAvatarSettings, reference: TemplateReference) -> RgbHead:
    write_rgbavatar_ply(folder / "ours.ply", file)
    return import_rgbavatar(read_rgbavatar_ply(folder / "ours.ply"), settings, reference, folder / "ours.ply")


@pytest.mark.usefixtures("flame_home")
def test_a_head_of_ours_in_uv_frames_comes_out_exact(tmp_path: Path) -> None:
    reference = reference_of("flame2020_rgbavatar", shape=SHAPE)
    head = own_head(reference, "uv")
    file, settings, notes = export_rgbavatar(head)
    assert settings.inputs == 129
    assert len(file) == 33668  # as many as its network has numbers; the rest are invisible
    assert any("training range" in note for note in notes)
    back = reread(tmp_path, file, settings, reference)
    for seed in range(2):
        motion = driven(head, flame_pose(seed))
        with torch.no_grad():
            ours, theirs = head.pose(**motion), back.pose(**motion)
        count = len(head)
        torch.testing.assert_close(theirs.means[:, :count], ours.means, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.quats[:, :count], ours.quats, atol=2e-4, rtol=0)
        torch.testing.assert_close(theirs.colours[:, :count], ours.colours, atol=1e-4, rtol=0)
        torch.testing.assert_close(theirs.opacities[:, :count], ours.opacities)
        assert not theirs.opacities[:, count:].any()


@pytest.mark.usefixtures("flame_home")
def test_orthonormal_frames_come_out_exact_at_rest_and_are_said_to_differ_elsewhere(tmp_path: Path) -> None:
    reference = reference_of("flame2020_rgbavatar", shape=SHAPE)
    head = own_head(reference, "orthonormal")
    file, settings, notes = export_rgbavatar(head)
    assert any("orthonormal" in note and "mm" in note for note in notes)
    back = reread(tmp_path, file, settings, reference)
    still = {name: torch.zeros_like(value) for name, value in driven(head, flame_pose(0)).items()}
    with torch.no_grad():
        ours, theirs = head.pose(**still), back.pose(**still)
    torch.testing.assert_close(theirs.means[:, : len(head)], ours.means, atol=1e-5, rtol=0)
    turned = (theirs.quats[:, : len(head)] * ours.quats).sum(-1).abs()
    torch.testing.assert_close(turned, torch.ones_like(turned), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("flame_home")
def test_what_rgbavatar_cannot_hold_is_refused_in_a_sentence(tmp_path: Path) -> None:
    from tests.tiny import tiny_head

    reference = reference_of("flame2020_rgbavatar")
    turned = DrivingLayout((DrivingField("rotation_6d", ("jaw",)),))
    with pytest.raises(BadAvatar, match=r"rotations in Blender's axes.*theta: rgbavatar"):
        export_rgbavatar(own_head(reference, "uv", turned))
    with pytest.raises(BadAvatar, match=r"wider than RGBAvatar's .*found 200"):
        export_rgbavatar(own_head(reference, "uv", hidden=200))
    with pytest.raises(BadAvatar, match="RGBAvatar's driving vector lacks"):
        export_rgbavatar(tiny_head(300))
    path, fields, _ = written(tmp_path)
    fields["face_id"] = fields["face_id"] + FACES
    file = read_rgbavatar_ply(write_fields(path, fields))
    with pytest.raises(BadAvatar, match=r"model\.ply binds Gaussians to faces that FLAME lacks .*expected 0 to 10031"):
        import_rgbavatar(file, settings_without_config(file, path), reference, path)


@pytest.mark.usefixtures("flame_home")
def test_a_translation_in_our_axes_and_another_order_are_folded_into_the_network(tmp_path: Path) -> None:
    reference = reference_of("flame2020_rgbavatar")
    fields = (
        DrivingField("translation"),
        DrivingField("rotation_6d", ("right_eye",), "y_up"),
        DrivingField("expressions", ("eyelid_right", "exp007", "exp001")),
    )
    head = own_head(reference, "uv", DrivingLayout(fields))
    file, settings, _ = export_rgbavatar(head)
    back = reread(tmp_path, file, settings, reference)
    motion = driven(head, flame_pose(6))
    with torch.no_grad():
        ours, theirs = (one.weights(one.theta(**motion)) for one in (head, back))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)
