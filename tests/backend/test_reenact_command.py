"""`reenact` as a user of GaussianAvatars calls it: options, folders, whose shape and whose motion."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar_folder import About, load_avatar, read_description, save_avatar
from avatars.captures.opening import open_capture
from avatars.evaluation.frames import Shot, render_shots
from avatars.formats.flame_params import motion_of, read_flame_params
from avatars.formats.importing import import_avatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import measure_range, with_modes
from avatars.rgb_head.reenact import Transfer, reenacted, taken_over
from avatars.rgb_head.sources import capture_source
from avatars.templates.opening import reference_of
from backend.cli import main
from shared.types import Motion
from tests.avatars.formats.gaussian_avatars_files import person_cloud, write_model_folder
from tests.flame_installed import flame_home
from tests.nersemble_files import write_nersemble
from tests.tiny import moving, tiny_capture, tiny_head
from tests.tiny_editors import tiny_ip2p

GAUSSIANS, FRAMES, SIZE = 300, 4, 32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with tiny.avatar, and the recording of that very head by two cameras."""
    folder = tmp_path_factory.mktemp("reenact")
    model = tiny_head(GAUSSIANS)
    theta = model.theta(**moving(FRAMES, model))
    model.driving_range = with_modes(measure_range(theta), theta, model.layout)
    about = About("tiny", training={"metrics": {"images": 70}})
    save_avatar(folder / "home/library/tiny.avatar", RgbHeadAvatar(model), about, np.zeros((8, 8, 4), np.uint8))
    tiny_capture(folder / "bala", size=SIZE, frames=FRAMES, cameras=2, gaussians=GAUSSIANS)
    return folder


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """FLAME 2023, which exports for GaussianAvatars are tracked with."""
    with flame_home(tmp_path_factory, tmp_path_factory.mktemp("flame"), ("2023",)) as home:
        yield home


def reenact(*words: object) -> int:
    return main(["reenact", "--device", "cpu", *map(str, words)])


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]).astype(int)


def test_a_head_again_in_its_own_recording(place: Path, tmp_path: Path) -> None:
    common = ("-m", "tiny", "--home", place / "home", "-s", place / "bala", "--output", tmp_path)
    assert reenact(*common, "--render_mesh") == 0
    capture = open_capture(place / "bala")
    for part in ("train", "test"):  # there is no val
        folder = tmp_path / part / "ours_70"
        renders, truth = pictures(folder / "renders"), pictures(folder / "gt")
        assert renders.shape == (len(capture.split(part)), SIZE, SIZE, 3)
        assert np.abs(renders - truth).max() <= 2
        assert np.abs(pictures(folder / "renders_mesh") - truth).max() > 40
        if importlib.util.find_spec("imageio_ffmpeg") is not None:
            assert {path.name for path in folder.glob("*.mp4")} == {"renders.mp4", "gt.mp4", "renders_mesh.mp4"}
    assert not (tmp_path / "val").exists()
    assert reenact(*common, "--skip_train", "--select_camera_id", "1", "-r", "2", "--black_background") == 0
    (one,) = tmp_path.glob("test_1/ours_70/renders")
    tests = [capture.images[i] for i in capture.split("test")]
    assert pictures(one).shape == (sum(image.camera == 1 for image in tests), SIZE // 2, SIZE // 2, 3)
    assert (pictures(one)[:, 0, 0] == 0).all()
    assert {path.name for path in tmp_path.iterdir()} == {"train", "test", "test_1"}


def test_the_canonical_pose_is_at_rest_whatever_was_recorded_and_its_mouth_opens(place: Path, tmp_path: Path) -> None:
    common = ("-m", "tiny", "--home", place / "home", "-s", place / "bala", "--skip_train", "--output", tmp_path)
    assert reenact(*common, "--render_cano", "--vis_teeth_mask", "--render_flame_mask") == 0
    assert reenact(*common, "--cano_openmouth", "--vis_teeth_mask") == 0
    shut, wide = tmp_path / "test_cano/ours_70", tmp_path / "test_cano_openmouth/ours_70"
    assert {path.name for path in shut.iterdir()} == {"renders", "renders_flame_mask", "renders_teeth_mask"}
    capture = open_capture(place / "bala")
    rest = load_avatar(place / "home/library/tiny.avatar")
    still = pictures(shut / "renders")
    assert len(still) == 2, "one a camera, however many frames"
    expressions = len(rest.rig().expression_names)
    distances = []
    for frame in range(FRAMES):  # it stands where it stood in one of them, with nothing else of that frame
        rotations = rest.rest_pose[None].copy()
        rotations[0, 0] = capture.motion.rotations[frame, 0]
        at = capture.motion.translations[frame : frame + 1]
        motion = Motion(rotations, at, np.zeros((1, expressions), np.float32), 25.0)
        (rgba,) = render_shots(rest, motion, [Shot(0, camera) for camera in capture.cameras], "cpu", 2)
        wanted = ((rgba[..., :3] + 1 - rgba[..., 3:]).clamp(0, 1) * 255).numpy()
        distances.append(np.abs(still - wanted).max())
    assert min(distances) <= 1.01
    inside = [(pictures(folder / "renders_teeth_mask") > 0).sum() for folder in (shut, wide)]
    assert inside[1] > 2 * inside[0], "more of the inside is seen with the jaw down"
    assert (pictures(shut / "renders_flame_mask") > 0).mean() > 0.05
    assert np.abs(pictures(wide / "renders") - still).max() > 30


def test_gaussian_avatars_model_driven_by_another_person(flame: Path, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "306", count=120, degree=1, frames=6)
    truth = write_nersemble(
        tmp_path, reference_of("flame2023_gaussian_avatars"), frames=3, cameras=(8, 12), size=(24, 32)
    )
    words = ("-m", tmp_path / "306", "-t", truth.union, "--select_camera_id", 8, "--no_video")
    assert reenact(*words, "--raw") == 0
    (folder,) = (tmp_path / "306").glob(f"{truth.union.name}_8/ours_600000")
    target = open_capture(truth.union)
    seen = [i for i in range(len(target.images)) if target.camera_names[target.images[i].camera] == "08"]
    drawn = pictures(folder / "renders")
    assert len(drawn) == len(pictures(folder / "gt")) == len(seen) == 6  # val and test of camera 8, one sequence
    # shape and static offset are the model's own, everything else the target's, seen by the target's camera
    avatar = import_avatar(tmp_path / "306").avatar
    motion = taken_over(capture_source(target), avatar).motion
    assert np.allclose(motion.translations, target.motion.translations)
    shots = [Shot(target.images[i].frame, target.cameras[target.images[i].camera]) for i in seen]
    shots.sort(key=lambda shot: shot.frame)
    (rgba,) = render_shots(avatar, motion, shots, "cpu", 6)
    wanted = ((rgba[..., :3] + 1 - rgba[..., 3:]).clamp(0, 1) * 255).numpy()
    assert np.abs(drawn - wanted).max() <= 1.01
    before = {path.name: path.read_bytes() for path in folder.glob("renders/*.png")}
    assert reenact(*words) == 0  # held to what the model's own flame_param.npz shows
    assert {path.name: path.read_bytes() for path in folder.glob("renders/*.png")} != before
    assert reenact(*words[:4], "--iteration", 30000, "--no_video", "--skip_train", "--skip_val") == 0
    assert len(list((tmp_path / "306").glob(f"{truth.union.name}/ours_30000/renders/*.png"))) == 6  # two cameras
    params = tmp_path / "306/point_cloud/iteration_600000/flame_param.npz"
    assert reenact("-m", tmp_path / "306", "-s", truth.union, "-t", params, "--no_video") == 0  # through own cameras
    assert len(list((tmp_path / "306").glob("flame_param/ours_600000/renders/*.png"))) == 6


def test_a_head_without_statistics_is_held_to_the_motion_it_was_trained_on(flame: Path, tmp_path: Path) -> None:
    write_model_folder(tmp_path / "306", count=20, degree=0, frames=40)
    truth = write_nersemble(
        tmp_path, reference_of("flame2023_gaussian_avatars"), frames=2, cameras=(8, 12), size=(16, 16)
    )
    avatar = import_avatar(tmp_path / "306").avatar
    rig = avatar.rig()
    own = motion_of(read_flame_params(tmp_path / "306/point_cloud/iteration_600000/flame_param.npz"), rig)
    found = capture_source(open_capture(truth.union))
    moved = found.motion
    wild = replace(found, motion=Motion(2 * moved.rotations, moved.translations, moved.expressions, moved.fps))
    free = reenacted(wild, avatar, Transfer()).motion
    held = reenacted(wild, avatar, Transfer(), trained_on=own).motion
    jaw = rig.joint_names.index("jaw")
    low, high = np.percentile(own.rotations[:, jaw, 0], (0, 100))
    assert free.rotations[:, jaw, 0].max() > high + 0.01
    assert low - 0.02 < held.rotations[:, jaw, 0].min() <= held.rotations[:, jaw, 0].max() < high + 0.02
    still = reenacted(wild, avatar, Transfer(strength=0.0), trained_on=own).motion
    assert np.ptp(still.expressions, axis=0).max() < 1e-6
    assert torch.isfinite(torch.from_numpy(held.expressions.copy())).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-s", "BALA", "--select_camera_id", "9"), "no camera '9'"),
        (("-s", "BALA", "--strength", "2"), "belong to -t"),
        (("-t", "BALA", "--raw", "--strength", "2"), "--raw takes every number as it is"),
        (("-t", "BALA", "--own_cameras"), "expected -s"),
        (("-s", "BALA", "--skip_train", "--skip_test"), "no such pictures"),
        ((), "Name it with -s"),
        (("-s", "BALA", "-r", "0"), "--resolution is too small"),
    ],
)
def test_what_cannot_be_done_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    given = [str(place / "bala") if word == "BALA" else word for word in words]
    assert reenact("-m", "tiny", "--home", place / "home", "--output", tmp_path, *given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_gaussian_avatars_person_is_edited_as_in_the_original_and_driven(
    flame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their checkpoint's folder in, a version of the library out, its mouth as it was, then another person's motion."""
    pytest.importorskip("diffusers", reason='InstructPix2Pix needs "effigy[edit]"')
    monkeypatch.setenv("EFFIGY_HOME", str(flame))  # commands with a --home of their own set it
    reference = reference_of("flame2023_gaussian_avatars")
    write_model_folder(tmp_path / "306", frames=2, cloud=person_cloud(reference.open(), every=4))
    home, weights = tmp_path / "home", tiny_ip2p(tmp_path / "ip2p")
    shutil.copytree(flame / "templates", home / "templates")
    few = ("edit.orbit_cameras=2", "edit.instants=1", "edit.max_edit_views=2", "edit.edit_interval=3", "size_px=48")
    few += ("schedule.sizes_px=[48]", "edit.settings.size_px=64", "edit.settings.steps=1", "schedule.batch=1")
    words: tuple[object, ...] = ("train", "--use_in2n", "--text_prompt", "turn him into gold", "--model", weights)
    words += ("--start_checkpoint", tmp_path / "306/chkpnt600000.pth", "--iterations", 600_003, "--interval", 3)
    words += ("--use_grad_mask", "--use_in2nssim", "--eval", "--bind_to_mesh", "--name", "golden")
    words += ("--home", home, "--device", "cpu", "--preset", "edit_cpu", "--no-video")
    assert main([*map(str, words), *(word for one in few for word in ("--set", one))]) == 0
    folder = home / "library/golden.avatar"
    note = read_description(folder)["edit"]
    assert (note["prompt"], note["editor"], note["parent"]["avatar_id"]) == (
        "turn him into gold",
        "ip2p",
        "306_original",
    )
    assert (note["settings"]["wabe"], note["settings"]["iterations"]) == ("hard_mask", 3)
    assert (note["settings"]["steps"], note["settings"]["text_guidance"]) == (1, 7.5), "what the model was told"
    assert note["weights"] == {"model": "ip2p", "licence": "mit"}
    before, after = (load_avatar(home / f"library/{name}.avatar").model for name in ("306_original", "golden"))
    teeth = torch.from_numpy(before.faces() >= 9976)
    moved = (after.sh - before.sh).abs().amax((1, 2))
    assert moved[~teeth].max() > 0.005
    assert not moved[teeth].any()
    assert torch.equal(after.binding.face, before.binding.face)
    truth = write_nersemble(tmp_path, reference, frames=1, cameras=(3, 8), size=(48, 64))
    assert reenact("-m", "golden", "--home", home, "-t", truth.union, "--no_video", "--output", tmp_path / "out") == 0
    seen = pictures(tmp_path / "out" / truth.union.name / "ours_600003/renders")
    assert len(seen) == len(open_capture(truth.union).images)
    assert 0.1 < (seen.min(-1) < 250).mean() < 0.9, "a person before white"
