"""Imported heads and exported frames as pictures: by view, beside other avatars, out of a splat file, on the GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.formats.exporting import export_frame, rest_motion
from avatars.formats.importing import import_avatar
from avatars.formats.splat_ply import read_splat_ply
from avatars.formats.splats import FROM_Z_UP, Splats
from avatars.formats.spz import read_spz
from avatars.gaussian_head.avatar import GaussianHeadAvatar
from avatars.gaussians.posed import PosedGaussians, ViewColours
from avatars.gaussians.spherical_harmonics import SH0
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.scene import SceneInstance, render_scene
from avatars.templates.rotations import matrices_from_axis_angle
from shared.types import Camera
from tests.avatars.formats.gaussian_avatars_files import write_model_folder
from tests.avatars.formats.rgbavatar_files import config_text
from tests.avatars.formats.test_rgbavatar_head import written
from tests.tiny import tiny_head

SIZE = 96


@pytest.fixture
def shining(tmp_path: Path, flame_home: Path) -> GaussianHeadAvatar:
    """A head of GaussianAvatars' whose colours differ from every side, made to be seen."""
    del flame_home
    write_model_folder(tmp_path / "306", count=2500, degree=2)
    avatar = import_avatar(tmp_path / "306", mean_shape=True).avatar
    assert isinstance(avatar, GaussianHeadAvatar)
    return avatar


def camera_at(turn_rad: float, distance_m: float = 0.9) -> Camera:
    position = distance_m * np.array([np.sin(turn_rad), -np.cos(turn_rad), 0.1])
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(forward, right), forward), 1)
    pose[:3, 3] = position
    focal = 1.6 * SIZE
    return Camera(SIZE, SIZE, np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]]), pose)


def instance(avatar: GaussianHeadAvatar | RgbHeadAvatar, place: np.ndarray | None = None) -> SceneInstance:
    rest = rest_motion(avatar)
    world = np.eye(4) if place is None else place
    return SceneInstance(avatar, world[None], rest.rotations, rest.translations, rest.expressions)


def test_colours_follow_the_view_and_turn_with_the_object(shining: GaussianHeadAvatar) -> None:
    """Camera and head turned together show the same picture; the camera alone another one, in colour only."""
    place = np.eye(4)
    place[:3, :3] = matrices_from_axis_angle(torch.tensor([0.0, 0, 0.8])).numpy()
    (first,) = render_scene([instance(shining)], [camera_at(0.0)], None, ("combined",)).values()
    (turned,) = render_scene([instance(shining, place)], [camera_at(0.8)], None, ("combined",)).values()
    np.testing.assert_allclose(turned.astype(float), first.astype(float), atol=0.02)
    plain = shining.pose(*(torch.zeros(1, *shape) for shape in ((5, 3), (3,), (100,))))
    seen = plain.seen_from(torch.tensor(camera_at(0.0).world_from_camera[None, :3, 3]).float())
    assert (seen.colours - plain.colours).abs().mean() > 0.05


def test_it_stands_beside_another_avatar(shining: GaussianHeadAvatar) -> None:
    other = RgbHeadAvatar(tiny_head(400))
    passes = ("combined", "id", "depth", "normal")
    images = render_scene([instance(shining), instance(other)], [camera_at(0.0)], None, passes)
    assert images["combined"].shape == (SIZE, SIZE, 4)
    assert (images["id"] == 1).any()
    assert np.isfinite(images["normal"].astype(float)).all()


def drawn(splats: Splats, camera: Camera) -> torch.Tensor:
    """A splat file as a viewer shows it, in model axes."""
    count = len(splats)
    back = splats.turned(FROM_Z_UP["y-up"].T)
    posed = PosedGaussians(
        means=torch.from_numpy(back.positions)[None],
        quats=torch.nn.functional.normalize(torch.from_numpy(back.rotations), dim=-1)[None],
        scales=torch.from_numpy(back.log_scales).exp()[None],
        opacities=torch.sigmoid(torch.from_numpy(back.logits))[None],
        colours=torch.zeros(1, count, 3),
        view_colours=ViewColours(torch.from_numpy(back.sh)[None], torch.eye(3)[None]),
    )
    lens = CameraBatch.from_cameras([camera])
    posed = posed.seen_from(lens.positions())
    return rasterise(posed, lens, posed.colours).features[0]


def test_an_exported_frame_looks_like_the_avatar(tmp_path: Path, shining: GaussianHeadAvatar) -> None:
    pose, camera = rest_motion(shining).at(0), camera_at(0.5)
    lens = CameraBatch.from_cameras([camera])
    posed = shining.pose(*(torch.zeros(1, *shape) for shape in ((5, 3), (3,), (100,)))).seen_from(lens.positions())
    expected = rasterise(posed, lens, posed.colours).features[0]
    export_frame(shining, pose, tmp_path / "a.ply", "ply", axes="y-up")
    torch.testing.assert_close(drawn(read_splat_ply(tmp_path / "a.ply"), camera), expected, atol=2e-3, rtol=0)
    export_frame(shining, pose, tmp_path / "a.spz", "spz")
    error = (drawn(read_spz(tmp_path / "a.spz"), camera) - expected).abs()
    assert error.mean() < 0.01  # SPZ keeps 4 or 5 bits of a harmonic and steps of 6 % in size
    assert expected.std() > 0.1


def test_colours_of_degree_0_are_the_same_from_everywhere(tmp_path: Path, flame_home: Path) -> None:
    del flame_home
    write_model_folder(tmp_path / "306", degree=0)
    avatar = import_avatar(tmp_path / "306").avatar
    posed = avatar.pose(*(torch.zeros(1, *shape) for shape in ((5, 3), (3,), (100,))))
    assert posed.view_colours is None
    assert isinstance(avatar, GaussianHeadAvatar)
    torch.testing.assert_close(posed.colours[0], (SH0 * avatar.model.sh[:, 0] + 0.5).clamp_min(0))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["rgbavatar", "one layer", "gaussian_avatars"])
def test_imported_heads_pose_alike_on_the_gpu(tmp_path: Path, flame_home: Path, kind: str) -> None:
    from avatars.gaussian_head.avatar import load_gaussian_head
    from avatars.rgb_head.avatar import load_rgb_head

    del flame_home
    if kind != "gaussian_avatars":
        mlp = kind == "rgbavatar"
        path, _, _ = written(tmp_path, blendshapes=5, count=0 if mlp else 1500, mlp=mlp)
        (tmp_path / "config.yaml").write_text(config_text(129, 5, mlp=mlp))
        avatar, load = import_avatar(path, mean_shape=True).avatar, load_rgb_head
    else:
        write_model_folder(tmp_path / "306")
        avatar, load = import_avatar(tmp_path / "306").avatar, load_gaussian_head
    there = load(avatar.template(), avatar.description(), avatar.tensors(), "cuda")
    generator = torch.Generator().manual_seed(0)
    expressions = len(avatar.rig().expression_names)
    for frames in (1, 3):
        drive = [0.2 * torch.randn(frames, *shape, generator=generator) for shape in ((5, 3), (3,), (expressions,))]
        ours, theirs = avatar.pose(*drive), there.pose(*(value.cuda() for value in drive))
        for name in ("means", "scales", "opacities", "colours"):
            torch.testing.assert_close(getattr(theirs, name).cpu(), getattr(ours, name), atol=2e-4, rtol=1e-3)
        turned = (theirs.quats.cpu() * ours.quats).sum(-1).abs()
        torch.testing.assert_close(turned, torch.ones_like(turned), atol=1e-3, rtol=0)
        eye = torch.tensor([[0.2, -1.0, 0.1]]).expand(frames, 3)
        seen = theirs.seen_from(eye.cuda()).colours.cpu()
        torch.testing.assert_close(seen, ours.seen_from(eye).colours, atol=1e-3, rtol=1e-3)
