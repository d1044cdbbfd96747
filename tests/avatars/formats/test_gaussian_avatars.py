"""GaussianAvatars' files: every pose against the published formulas in plain numpy, files back to the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatars.formats.flame_params import flame_params_bytes, motion_of, offset_for, params_of, read_flame_params
from avatars.formats.gaussian_avatars import (
    cameras_text,
    cfg_args_text,
    find_point_cloud,
    local_splats,
    read_cameras,
    read_cfg_args,
    read_point_cloud,
    write_point_cloud,
)
from avatars.formats.importing import import_avatar
from avatars.gaussian_head.avatar import GaussianHeadAvatar, load_gaussian_head
from avatars.gaussians.spherical_harmonics import sh_basis
from avatars.methods import find_method, find_trainer
from avatars.templates.template import template_triangles
from shared.errors import BadAvatar
from shared.types import Motion
from tests.avatars.formats.gaussian_avatars_files import flame_param, random_cloud, write_model_folder
from tests.avatars.formats.rgbavatar_files import write_fields

FLAME_FROM_MODEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def tensors(motion: Motion) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(np.array(getattr(motion, name))) for name in ("rotations", "translations", "expressions")
    }


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.usefixtures("flame_home")
def test_a_head_poses_and_shines_exactly_as_published(tmp_path: Path, degree: int) -> None:
    made = write_model_folder(tmp_path / "306", degree=degree)
    imported = import_avatar(tmp_path / "306")
    avatar = imported.avatar
    assert isinstance(avatar, GaussianHeadAvatar)
    assert avatar.template().template_id == "flame2020_gaussian_avatars"
    motion = motion_of(read_flame_params(made["ply"].with_name("flame_param.npz")), avatar.rig())
    values = tensors(motion)
    vertices = avatar.model.head.posed_vertices(**values).double().numpy() @ FLAME_FROM_MODEL.T
    posed = avatar.pose(**values)
    camera = np.array([0.3, 0.1, 1.4])  # in FLAME's axes
    frames = len(motion)
    seen = posed.seen_from(torch.from_numpy((FLAME_FROM_MODEL.T @ camera).astype(np.float32)).expand(frames, 3))
    faces, _, _ = template_triangles(avatar.model.head.template.arrays)
    cloud = {name: value.astype(np.float64) for name, value in made["cloud"].items()}
    for frame in (0, frames - 1):
        for row in range(0, 300, 7):
            v0, v1, v2 = vertices[frame, faces[int(cloud["binding_0"][row])]]
            a0 = (v1 - v0) / np.linalg.norm(v1 - v0)
            a1 = np.cross(a0, v2 - v0)
            a1 /= np.linalg.norm(a1)
            a2 = -np.cross(a1, a0)
            frame_axes = np.stack((a0, a1, a2), 1)
            k = 0.5 * (np.linalg.norm(v1 - v0) + abs(a2 @ (v2 - v0)))
            local = np.array([cloud[name][row] for name in "xyz"])
            position = k * frame_axes @ local + (v0 + v1 + v2) / 3
            np.testing.assert_allclose(FLAME_FROM_MODEL @ posed.means[frame, row].numpy(), position, atol=2e-6)
            scales = k * np.exp([cloud[f"scale_{axis}"][row] for axis in range(3)])
            np.testing.assert_allclose(posed.scales[frame, row].numpy(), scales, rtol=1e-4)
            turn = frame_axes @ Rotation.from_quat([cloud[f"rot_{n}"][row] for n in (1, 2, 3, 0)]).as_matrix()
            quat = posed.quats[frame, row].double().numpy()
            ours = FLAME_FROM_MODEL @ Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix()
            np.testing.assert_allclose(ours, turn, atol=2e-4)
            rest = np.array([cloud[f"f_rest_{n}"][row] for n in range(3 * ((degree + 1) ** 2 - 1))])
            coefficients = np.concatenate(
                (np.array([[cloud[f"f_dc_{c}"][row] for c in range(3)]]), rest.reshape(3, -1).T)
            )
            away = position - camera
            basis = sh_basis(torch.from_numpy(away / np.linalg.norm(away)), degree).numpy()
            colour = np.maximum(basis @ coefficients + 0.5, 0)
            np.testing.assert_allclose(seen.colours[frame, row].numpy(), colour, atol=2e-4)
    np.testing.assert_allclose(posed.opacities[0].numpy(), 1 / (1 + np.exp(-cloud["opacity"])), atol=1e-6)


@pytest.mark.usefixtures("flame_home")
def test_files_come_back_to_the_same_bytes_and_say_what_they_are(tmp_path: Path) -> None:
    made = write_model_folder(tmp_path / "306")
    imported = import_avatar(tmp_path / "306")
    assert isinstance(imported.avatar, GaussianHeadAvatar)
    assert imported.provenance["cameras"] == 1
    assert imported.provenance["options"] == {
        "sh_degree": 3,
        "bind_to_mesh": True,
        "white_background": True,
        "lambda_xyz": 0.01,
        "select_camera_id": -1,
    }
    assert find_point_cloud(tmp_path / "306") == made["ply"]  # of two iterations the later
    model = imported.avatar.model
    write_point_cloud(tmp_path / "again.ply", local_splats(model), model.faces())
    assert (tmp_path / "again.ply").read_bytes() == made["ply"].read_bytes()


@pytest.mark.usefixtures("flame_home")
def test_an_imported_head_is_stored_loaded_and_described(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "306")
    avatar = import_avatar(tmp_path / "306").avatar
    loaded = load_gaussian_head(avatar.template(), avatar.description(), avatar.tensors(), "cpu")
    still = {name: torch.zeros(shape) for name, shape in (("rotations", (1, 5, 3)), ("translations", (1, 3)))}
    still["expressions"] = torch.zeros(1, 100)
    for name in ("means", "quats", "scales", "opacities", "colours", "normals"):
        assert torch.equal(getattr(avatar.pose(**still), name), getattr(loaded.pose(**still), name))
    proxy = avatar.proxy()
    assert proxy.group_names == ("skin", "teeth")
    assert np.ptp(proxy.colour) > 0.1
    tensors_, description = dict(avatar.tensors()), dict(avatar.description())
    bad_face = {**tensors_, "face": tensors_["face"] + 10144}
    for broken in ({**description, "sh_coefficients": 5}, {**description, "frame": "uv"}, {}):
        with pytest.raises(BadAvatar, match="does not describe a Gaussian head"):
            load_gaussian_head(avatar.template(), broken, tensors_, "cpu")
    with pytest.raises(BadAvatar, match=r"faces that the template .* lacks"):
        load_gaussian_head(avatar.template(), description, bad_face, "cpu")
    assert find_method("gaussian_head").load is load_gaussian_head
    with pytest.raises(BadAvatar, match="imported, not trained"):
        find_trainer("gaussian_head")


@pytest.mark.usefixtures("flame_home")
def test_motion_and_person_come_back_from_flame_param(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "306")
    avatar = import_avatar(tmp_path / "306").avatar
    arrays = avatar.template().open()
    source = next(tmp_path.rglob("iteration_600000/flame_param.npz"))
    params = read_flame_params(source)
    motion = motion_of(params, avatar.rig())
    jaw = Rotation.from_rotvec(motion.rotations[2, 2]).as_matrix()
    flame_jaw = Rotation.from_rotvec(params.jaw_pose[2]).as_matrix()
    np.testing.assert_allclose(FLAME_FROM_MODEL @ jaw @ FLAME_FROM_MODEL.T, flame_jaw, atol=1e-6)
    offset = offset_for(params, arrays, source)
    assert offset is not None
    back = params_of(motion, avatar.rig(), offset)
    (tmp_path / "back.npz").write_bytes(flame_params_bytes(back))
    again = read_flame_params(tmp_path / "back.npz")
    for name in ("shape", "expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation", "static_offset"):
        np.testing.assert_array_equal(getattr(again, name), getattr(params, name))
    with np.load(tmp_path / "back.npz") as stored:
        assert stored["static_offset"].shape == (1, 5143, 3)
        assert stored["dynamic_offset"].shape == (4, 5143, 3)
        assert not stored["dynamic_offset"].any()


@pytest.mark.usefixtures("flame_home")
def test_offsets_of_flame_alone_are_padded_and_other_meshes_refused(tmp_path: Path) -> None:
    from avatars.templates.opening import reference_of

    arrays = reference_of("flame2020_gaussian_avatars").open()
    values = flame_param(1)
    for rows in (5023, 5083, 5143, 5000):
        values["static_offset"] = np.ones((1, rows, 3), np.float32)
        np.savez(tmp_path / "p.npz", **values)
        params = read_flame_params(tmp_path / "p.npz")
        if rows == 5000:
            with pytest.raises(BadAvatar, match=r"static offset of another mesh .*found 5000"):
                offset_for(params, arrays, tmp_path / "p.npz")
            continue
        offset = offset_for(params, arrays, tmp_path / "p.npz")
        assert offset is not None
        assert (offset[:5023] == [1, -1, 1]).all()
        assert offset[5023:].any() == (rows == 5143)


def test_broken_parameters_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "flame_param.npz"
    whole = flame_param(3)
    changes = {
        "holds no numbers 'expr'": {"expr": None},
        "holds no numbers 'jaw_pose'": {"jaw_pose": np.array(["x"])},
        "holds 'eyes_pose' in another form": {"eyes_pose": whole["eyes_pose"][:, :3]},
        "holds 'translation' in another form": {"translation": whole["translation"][:2]},
        "values of 'expr' that are not finite": {"expr": np.full((3, 100), np.nan, np.float32)},
        "holds 'static_offset' in another form": {"static_offset": np.zeros((2, 5143, 3))},
    }
    for sentence, change in changes.items():
        np.savez(path, **{key: value for key, value in (whole | change).items() if value is not None})
        with pytest.raises(BadAvatar, match=r"flame_param\.npz .*" + sentence):
            read_flame_params(path)
    path.write_bytes(b"PK no")
    with pytest.raises(BadAvatar, match="is damaged"):
        read_flame_params(path)


def test_clouds_that_hang_on_nothing_are_refused(tmp_path: Path) -> None:
    fields = random_cloud(5, 0)
    path = tmp_path / "point_cloud.ply"
    plain = {name: value for name, value in fields.items() if name != "binding_0"}
    with pytest.raises(BadAvatar, match=r"point_cloud\.ply is a plain splat file"):
        read_point_cloud(write_fields(path, plain))
    with pytest.raises(BadAvatar, match=r"point_cloud\.ply is no avatar.*bound to nothing"):
        import_avatar(path)
    for wrong in (0.5, -1.0):
        with pytest.raises(BadAvatar, match="no face numbers"):
            read_point_cloud(write_fields(path, fields | {"binding_0": np.full(5, wrong, np.float32)}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadAvatar, match=r"holds no avatar Effigy can read .*model\.ply"):
        import_avatar(tmp_path / "empty")
    with pytest.raises(BadAvatar, match=r"gone cannot be read"):
        import_avatar(tmp_path / "gone")


def test_options_are_parsed_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "cfg_args"
    options = {"sh_degree": 3, "eval": True, "source_path": "a 'quoted' path", "resolution": -1, "nothing": None}
    path.write_text(cfg_args_text(options))
    assert read_cfg_args(path) == options
    for bad in ("Namespace(a=__import__('os').getcwd())", "print(1)", "Namespace(1)", "Namespace(**{})", "Names(", ""):
        path.write_text(bad)
        with pytest.raises(BadAvatar, match=r"cfg_args is no list of options"):
            read_cfg_args(path)


def test_cameras_are_turned_into_our_axes_and_back(tmp_path: Path) -> None:
    write_model_folder(tmp_path)
    path = tmp_path / "cameras.json"
    ((name, camera),) = read_cameras(path)
    assert name == "00000_08"
    assert (camera.width_px, camera.height_px) == (550, 802)
    np.testing.assert_allclose(camera.world_from_camera[:3, 3], [0.1, -1.5, 0.2])
    np.testing.assert_allclose(camera.world_from_camera[:3, 2], [0, 1, 0])  # it looks at the face, along +y
    np.testing.assert_allclose(camera.world_from_camera[:3, 1], [0, 0, -1])  # its y points down
    path.write_text(cameras_text([(name, camera)]))
    ((_, again),) = read_cameras(path)
    np.testing.assert_allclose(again.world_from_camera, camera.world_from_camera, atol=1e-12)
    np.testing.assert_allclose(again.K, camera.K)
    for bad in ("{}", "[{}]", "[3]", "[", '[{"width": 1e9, "height": 2, "rotation": 1, "position": 2}]'):
        path.write_text(bad)
        with pytest.raises(BadAvatar, match=r"cameras\.json"):
            read_cameras(path)
