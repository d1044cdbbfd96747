"""Cross-identity reenactment on real tiny heads: identity, names, padding, places, files that drive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.flame_axes import to_model
from avatars.captures.opening import open_capture
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import LAYOUTS, MODES, DrivingField, DrivingLayout, measure_range, open_range, with_modes
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.model import RgbHead
from avatars.rgb_head.reenact import Skeleton, Source, Transfer, head_places, motion_of, pinned, reenacted
from avatars.rgb_head.sources import capture_source, read_source
from avatars.rgb_head.storage import head_description, head_from_parts, head_tensors
from shared.errors import BadAvatar, BadCapture
from shared.types import Camera, Motion
from tests.tiny import bust_reference, front_camera, moving, tiny_capture, tiny_head

FRAMES = 40


@pytest.fixture(scope="module")
def motion() -> Motion:
    """A head that turns, opens its mouth, blinks and wanders a little."""
    parts = moving(FRAMES, tiny_head(10))
    wander = torch.linspace(-0.02, 0.02, FRAMES)[:, None] * torch.tensor([[1.0, 0.5, 0.2]])
    return Motion(parts["rotations"].numpy(), wander.numpy(), parts["expressions"].numpy(), 25.0)


@pytest.fixture(scope="module", params=["head", "rgbavatar", "expressions"])
def avatar(request: pytest.FixtureRequest, motion: Motion) -> RgbHeadAvatar:
    config = RgbHeadConfig(target_gaussians=60, blendshapes=3, hidden=8, theta=request.param)
    model = new_head(
        bust_reference(),
        config,
        seed=0,
        rotations=motion.rotations,
        translations=motion.translations,
        expressions=motion.expressions,
    )
    return RgbHeadAvatar(model)


def own(avatar: RgbHeadAvatar, motion: Motion, camera: Camera | None = None) -> Source:
    rig = avatar.rig()
    return Source("itself", motion, rig.joint_names, rig.expression_names, camera, Skeleton.of(rig))


def inside(avatar: RgbHeadAvatar, motion: Motion) -> np.ndarray:
    """Frames whose θ is within the percentiles of training in every respect."""
    model, found = avatar.model, avatar.model.driving_range
    theta = model.theta(
        *(torch.from_numpy(v.copy()) for v in (motion.rotations, motion.translations, motion.expressions))
    )
    modes = found.modes
    assert modes is not None
    standard = torch.zeros_like(theta)
    face = model.layout.face()
    standard[:, face] = ((theta - found.mean) / found.sigma.clamp_min(0.05))[:, face]
    along = standard @ modes.components.T
    beside = (standard - along @ modes.components).norm(dim=1)
    slack = 1e-5
    good = (theta >= found.low - slack).all(1) & (theta <= found.high + slack).all(1)
    good &= (along >= modes.along_low - slack).all(1) & (along <= modes.along_high + slack).all(1)
    return (good & (beside <= modes.residual + slack)).numpy()


@pytest.mark.parametrize("camera", [None, front_camera(64)])
def test_its_own_motion_comes_out_unchanged_where_in_range(
    avatar: RgbHeadAvatar, motion: Motion, camera: Camera | None
) -> None:
    found = reenacted(own(avatar, motion, camera), avatar, camera=camera).motion
    good = inside(avatar, motion)
    assert good.sum() > FRAMES / 2
    assert np.abs(found.rotations - motion.rotations)[good].max() < 1e-4
    assert np.abs(found.expressions - motion.expressions)[good].max() < 1e-4
    assert np.abs(found.translations - motion.translations)[good].max() < 1e-5


def test_what_training_never_saw_is_held(avatar: RgbHeadAvatar, motion: Motion) -> None:
    wild = Motion(motion.rotations, motion.translations, motion.expressions * 9, 25.0)
    found = reenacted(own(avatar, wild), avatar, Transfer(neutral_frame=0)).motion
    assert found.expressions.max() < motion.expressions.max() + 0.02
    free = reenacted(own(avatar, wild), avatar, Transfer(clip=0.0)).motion
    assert free.expressions.max() > 4


def test_theta_and_motion_are_inverse(avatar: RgbHeadAvatar, motion: Motion) -> None:
    model, rig = avatar.model, avatar.rig()
    parts = [torch.from_numpy(v.copy()) for v in (motion.rotations, motion.translations, motion.expressions)]
    theta = model.theta(*parts).numpy()
    turned, faces = motion_of(
        model.layout, theta, motion.rotations, motion.expressions, rig.joint_names, rig.expression_names
    )
    assert np.allclose(turned, motion.rotations, atol=1e-5)
    assert np.allclose(faces, motion.expressions, atol=1e-6)


def test_a_longer_lens_puts_the_head_farther_away(avatar: RgbHeadAvatar, motion: Motion) -> None:
    camera = front_camera(64)
    K = camera.K.copy()
    K[0, 0] *= 2
    K[1, 1] *= 2
    source, rig = own(avatar, motion, camera), avatar.rig()
    seen = replace(camera, K=K)
    found = reenacted(source, avatar, Transfer(clip=0.0), camera=seen).motion
    to_camera = camera.camera_from_world()

    def depth(moved: Motion) -> np.ndarray:
        places = head_places(Skeleton.of(rig), moved.rotations) + moved.translations
        return (places @ to_camera[:3, :3].T + to_camera[:3, 3])[:, 2]

    assert np.median(depth(found)) == pytest.approx(2 * np.median(depth(motion)), rel=5e-3)
    assert np.allclose(depth(found), 2 * depth(motion), atol=0.05)  # a head is not stretched by turning


def test_a_turned_camera_turns_the_head_with_it(avatar: RgbHeadAvatar, motion: Motion) -> None:
    front, side = front_camera(64), front_camera(64, yaw_rad=0.5)
    found = reenacted(own(avatar, motion, front), avatar, Transfer(clip=0.0), camera=side).motion
    root = avatar.rig().joint_names[0]
    assert np.allclose(found.rotations[:, avatar.rig().joint_names.index(root)], (0, 0, 0.5), atol=1e-5)


def test_other_names_are_padded_or_refused(avatar: RgbHeadAvatar, motion: Motion) -> None:
    rig = avatar.rig()
    fewer = Motion(motion.rotations, motion.translations, motion.expressions[:, :20], 25.0)
    found = reenacted(Source("emoca", fewer, rig.joint_names, rig.expression_names[:20]), avatar)
    assert "lacks" in found.notes[0]
    assert found.motion.expressions.shape == motion.expressions.shape
    other = Source("flame", fewer, rig.joint_names, tuple(f"exp{i:03d}" for i in range(20)))
    with pytest.raises(BadCapture, match="another expression model"):
        reenacted(other, avatar)
    fingers = np.concatenate((motion.rotations, motion.rotations[:, :1] + np.arange(FRAMES)[:, None, None]), 1)
    extra = Source(
        "hands",
        Motion(fingers, motion.translations, motion.expressions, 25.0),
        (*rig.joint_names, "thumb"),
        rig.expression_names,
    )
    assert any("thumb" in note for note in reenacted(extra, avatar).notes)


def test_smoothing_reaches_the_motion(avatar: RgbHeadAvatar, motion: Motion) -> None:
    random = np.random.default_rng(0)
    shaky = Motion(
        motion.rotations,
        motion.translations + random.normal(0, 0.01, (FRAMES, 3)).astype(np.float32),
        motion.expressions,
        25.0,
    )
    plain, smooth = (reenacted(own(avatar, shaky), avatar, Transfer(smooth_hz=hz)).motion for hz in (0.0, 0.5))
    assert np.diff(smooth.translations, axis=0).std() < 0.5 * np.diff(plain.translations, axis=0).std()


def test_only_a_network_that_reads_the_place_is_pinned(avatar: RgbHeadAvatar, motion: Motion) -> None:
    reads = any(part.kind == "translation" for part in avatar.model.layout.fields)
    still = pinned(avatar)
    assert (still is not avatar) == reads
    assert isinstance(still, RgbHeadAvatar)
    far = [
        torch.zeros(2, 10, 3),
        torch.tensor([[0.0, 0, 0], [0.019, 0, 0]]),
        torch.zeros(2, motion.expressions.shape[1]),
    ]
    with torch.no_grad():
        weights = still.model.weights(still.model.theta(*far))
        moved = avatar.model.weights(avatar.model.theta(*far))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(moved[0], moved[1]) != reads


def test_statistics_are_stored_and_older_avatars_do_without(avatar: RgbHeadAvatar, motion: Motion) -> None:
    model = avatar.model
    description, tensors = head_description(model), head_tensors(model)
    again = head_from_parts(avatar.template(), description, tensors, "cpu")
    kept, found = model.driving_range.modes, again.driving_range.modes
    assert kept is not None
    assert found is not None
    for name in MODES:
        assert torch.equal(getattr(kept, name), getattr(found, name)), name
    old = {name: value for name, value in tensors.items() if not name.startswith("modes.")}
    older = RgbHeadAvatar(head_from_parts(avatar.template(), description, old, "cpu"))
    assert older.model.driving_range.modes is None
    wild = Motion(motion.rotations, motion.translations, motion.expressions * 9, 25.0)
    assert reenacted(own(older, wild), older).motion.expressions.max() < motion.expressions.max() + 0.02
    with pytest.raises(BadAvatar, match=r"modes\.along_low"):
        head_from_parts(avatar.template(), description, tensors | {"modes.along_low": torch.zeros(1)}, "cpu")


def test_networks_that_read_raw_numbers_are_held_too_and_without_statistics_nothing_is(
    avatar: RgbHeadAvatar, motion: Motion
) -> None:
    model: RgbHead = head_from_parts(
        avatar.template(), head_description(avatar.model), head_tensors(avatar.model), "cpu"
    )
    known = model.driving_range
    model.driving_range = replace(open_range(model.layout.size()), modes=known.modes)
    assert model.driving_range.modes is not None
    raw = RgbHeadAvatar(model)
    wild = Motion(motion.rotations, motion.translations, motion.expressions * 9, 25.0)
    assert reenacted(own(raw, wild), raw).motion.expressions.max() < motion.expressions.max() + 0.02
    assert (pinned(raw) is not raw) == any(part.kind == "translation" for part in model.layout.fields)
    model.driving_range = open_range(model.layout.size())
    free = RgbHeadAvatar(model)
    assert pinned(free) is free
    found = reenacted(own(free, motion), free, Transfer(neutral_frame=0)).motion
    assert np.isfinite(found.expressions).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_statistics_of_very_short_captures(frames: int) -> None:
    theta = torch.arange(frames * 4.0).reshape(frames, 4)
    layout = DrivingLayout((DrivingField("expressions", ("a", "b", "c", "d")),))
    modes = with_modes(measure_range(theta), theta, layout).modes
    assert modes is not None
    assert len(modes.components) <= frames
    assert torch.isfinite(modes.components).all()


def test_principal_directions_are_those_of_the_data() -> None:
    random = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.tensor([3.0, -1.0, 2.0, 0.5]), dim=0)
    theta = torch.randn(500, 1, generator=random) * direction + 0.001 * torch.randn(500, 4, generator=random)
    layout = DrivingLayout((DrivingField("expressions", ("a", "b", "c", "d")),))
    modes = with_modes(measure_range(theta), theta, layout).modes
    assert modes is not None
    spread = theta.std(0, unbiased=False).clamp_min(0.05)
    expected = torch.nn.functional.normalize(direction / spread, dim=0)
    assert float((modes.components[0] @ expected).abs()) > 0.999


# --- files -------------------------------------------------------------------------------------------------------
def flame_track(frames: int = 5, **changed: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    return {name: random.normal(0, 0.1, (frames, size)) for name, size in sizes.items()} | changed


def test_a_flame_track_is_read_with_its_axes(tmp_path: Path) -> None:
    track = flame_track()
    np.savez(tmp_path / "flame_param.npz", **track, shape=np.zeros(300), static_offset=np.zeros((1, 5143, 3)))
    source = read_source(str(tmp_path / "flame_param.npz"), tiny_rig())
    assert source.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert (source.expression_names[0], len(source.expression_names)) == ("exp000", 100)
    assert np.allclose(source.motion.rotations[:, 2], to_model(track["jaw_pose"]), atol=1e-6)
    assert np.allclose(source.motion.rotations[:, 4], to_model(track["eyes_pose"][:, 3:]), atol=1e-6)
    assert np.allclose(source.motion.translations, to_model(track["translation"]), atol=1e-6)


def test_a_track_without_a_neck_turns_the_neck_by_its_rotation(tmp_path: Path) -> None:
    track = flame_track()
    del track["neck_pose"]
    np.savez(tmp_path / "emoca.npz", **(track | {"expr": track["expr"][:, :50]}))
    source = read_source(str(tmp_path / "emoca.npz"), tiny_rig())
    assert source.joint_names == ("neck", "jaw", "left_eye", "right_eye")
    assert len(source.expression_names) == 50
    assert "global rotation" in source.notes[0]


def tiny_rig():  # type: ignore[no-untyped-def]
    return RgbHeadAvatar(tiny_head(10)).rig()


@pytest.mark.parametrize(
    ("track", "told"),
    [
        (flame_track(jaw_pose=np.full((5, 3), np.nan)), r"jaw_pose .* not finite \(found frame 0\)"),
        (flame_track(neck_pose=np.zeros((4, 3))), "neck_pose"),
        (flame_track(eyes_pose=np.zeros((5, 3))), "eyes_pose"),
        ({"shape": np.zeros(300)}, "is no motion"),
        ({"rotations": np.zeros((2, 3, 3)), "translations": np.zeros((2, 3)), "expressions": np.zeros((2, 1))}, "rig"),
    ],
)
def test_files_that_cannot_drive(tmp_path: Path, track: dict[str, np.ndarray], told: str) -> None:
    np.savez(tmp_path / "track.npz", **track)
    with pytest.raises(BadCapture, match=told):
        read_source(str(tmp_path / "track.npz"), tiny_rig())


def test_files_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    for name, told in (("absent.npz", "cannot be read"), ("damaged.npz", "damaged")):
        with pytest.raises(BadCapture, match=told):
            read_source(str(tmp_path / name), tiny_rig())


def test_a_capture_drives_with_its_camera_and_skeleton(tmp_path: Path) -> None:
    folder = tiny_capture(tmp_path / "person", size=32, frames=4, cameras=1, gaussians=100)
    capture = open_capture(folder)
    for source in (read_source(str(folder), tiny_rig()), capture_source(capture)):
        assert source.camera is not None
        assert source.skeleton is not None
        assert source.skeleton.rest_joints.shape == (len(capture.joint_names), 3)
        avatar = RgbHeadAvatar(tiny_head(100))
        assert len(reenacted(source, avatar, camera=source.camera).motion) == 4


def test_layouts_are_all_covered() -> None:
    assert set(LAYOUTS) == {"head", "rgbavatar", "expressions"}
