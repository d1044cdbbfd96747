"""INSTA folders: the head lies where the tracker saw it, the neck carries its motion, bad folders are one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.flame_axes import to_flame
from avatars.captures.insta import neck_retarget, still_camera
from avatars.captures.opening import layout_of, open_capture
from avatars.rgb_head.driving import rgbavatar_layout
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.template import Template
from avatars.training.config import load_config
from avatars.training.loop import train
from shared.errors import BadCapture
from shared.rotations import axis_angles_from_matrices
from shared.template import rotation_matrices
from tests.insta_files import FLIP, Truth, frame_document, rows_of, turn


@pytest.fixture
def folder(insta: tuple[Path, Truth], tmp_path: Path) -> Path:
    return Path(shutil.copytree(insta[0], tmp_path / "bala"))


def posed(capture: Capture, correctives: bool = True) -> np.ndarray:
    """[T, V, 3] m in model axes."""
    offset = None if capture.vertex_offset is None else torch.from_numpy(np.array(capture.vertex_offset))
    template = Template(capture.template.open())
    if not correctives:
        template.pose_dirs.zero_()
    head = HeadTemplate.make(template, "", capture.template.shape, offset)
    motion = capture.motion
    drive = (torch.from_numpy(np.array(a)) for a in (motion.rotations, motion.translations, motion.expressions))
    return head.posed_vertices(*drive).double().numpy()


def test_the_whole_folder_is_read(insta: tuple[Path, Truth]) -> None:
    folder, truth = insta
    assert layout_of(folder) == "insta"
    capture = open_capture(folder)
    assert (capture.layout, capture.name, capture.template.template_id) == ("insta", "bala", "flame2020_rgbavatar")
    assert (len(capture.images), len(capture.cameras), len(capture.motion)) == (6, 1, 6)
    assert (capture.split("train"), capture.split("test")) == ((0, 1, 2, 3, 4), (5,))
    assert (capture.cameras[0].width_px, capture.cameras[0].height_px) == (64, 48)
    np.testing.assert_allclose(capture.cameras[0].K, truth.K, rtol=1e-6)
    np.testing.assert_allclose(capture.template.shape, truth.shape, atol=1e-6)
    assert capture.rgba(0).shape == (48, 64, 4)
    assert "INSTA folder: 6 pictures" in capture.notes[0]
    assert "6 are too few to hold out 350" in " ".join(capture.notes)


def test_the_template_lies_on_the_pictures(insta: tuple[Path, Truth]) -> None:
    """Vertices rigged to the neck and below it project to where the tracker's own numbers put them."""
    folder, truth = insta
    capture = open_capture(folder)
    arrays = capture.template.open()
    rigged = arrays.weights[:, 0] < 1e-6
    assert 0.5 < rigged.mean() < 1
    camera = capture.cameras[0]
    to_camera = camera.camera_from_world()
    seen = posed(capture) @ to_camera[:3, :3].T + to_camera[:3, 3]
    wanted = truth.vertices @ truth.R.transpose(0, 2, 1) + truth.t[:, None]
    # The tracker leaves the neck straight, so its mesh lacks the neck's pose correctives, below a millimetre here.
    assert np.abs(seen - wanted)[:, rigged].max() < 2e-3
    assert np.abs(seen - wanted)[:, rigged].mean() < 2e-4


def test_the_shoulders_stay(insta: tuple[Path, Truth]) -> None:
    capture = open_capture(insta[0])
    rooted = capture.template.open().weights[:, 0] > 0.99
    vertices = posed(capture, correctives=False)[:, rooted]
    assert rooted.any()
    moved = vertices - vertices[:1]
    spread = moved - moved.mean(1, keepdims=True)  # without the common shift only expressions are left, and no turn
    assert np.abs(spread).max() < 3e-3
    assert np.abs(capture.motion.rotations[:, 0]).max() == 0


def test_neck_retarget_is_exact_for_any_motion(insta: tuple[Path, Truth]) -> None:
    """x -> R x + t of the whole mesh equals a turn of the neck and a shift of the root (method page 2.6)."""
    rng = np.random.default_rng(0)
    capture = open_capture(insta[0])
    arrays = capture.template.open()
    template = Template(arrays)
    template.pose_dirs.zero_()
    head = HeadTemplate.make(template, "", capture.template.shape)
    R = rotation_matrices(rng.normal(size=(4, 3)))
    t = rng.normal(size=(4, 3))
    expressions = torch.from_numpy(rng.normal(size=(4, len(arrays.expression_names))).astype(np.float32))
    still = torch.zeros(4, 5, 3)
    rest_head = head.posed_vertices(still, torch.zeros(4, 3), expressions).double().numpy()
    directions = head.template.joint_expression_dirs[:, 1].double().numpy()
    necks = head.joints[1].double().numpy() + expressions.double().numpy() @ directions
    turned, shift = neck_retarget(R, t, necks)
    still[:, 1] = torch.from_numpy(axis_angles_from_matrices(turned)).float()
    found = head.posed_vertices(still, torch.from_numpy(shift).float(), expressions).double().numpy()
    rigged = arrays.weights[:, 0] < 1e-6
    wanted = rest_head @ R.transpose(0, 2, 1) + t[:, None]
    np.testing.assert_allclose(found[:, rigged], wanted[:, rigged], atol=2e-5)
    assert np.abs(found - wanted)[:, ~rigged].max() > 0.01  # the stump does not follow


def test_the_camera_stands_where_the_first_frame_puts_it() -> None:
    rng = np.random.default_rng(1)
    R, t = rotation_matrices(rng.normal(size=(5, 3))), rng.normal(size=(5, 3))
    E, own_R, own_t = still_camera(R, t, t[0])
    np.testing.assert_array_equal(E[:3, :3], FLIP)
    np.testing.assert_array_equal(E[:3, 3], t[0])
    x = rng.normal(size=3)
    for frame in range(5):
        moved = own_R[frame] @ x + own_t[frame]
        np.testing.assert_allclose(E[:3, :3] @ moved + E[:3, 3], R[frame] @ x + t[frame], atol=1e-12)


def test_theta_is_what_rgbavatar_would_read(insta: tuple[Path, Truth]) -> None:
    folder, truth = insta
    capture = open_capture(folder)
    motion = capture.motion
    layout = rgbavatar_layout(capture.joint_names, capture.expression_names)
    drive = (torch.from_numpy(np.array(a)) for a in (motion.rotations, motion.translations, motion.expressions))
    theta = layout.vector(*drive, capture.joint_names, capture.expression_names).numpy()
    assert theta.shape == (6, 129)
    E = np.eye(4)
    E[:3, :3], E[:3, 3] = FLIP, truth.t[0]
    for frame in range(len(motion)):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = truth.R[frame], truth.t[frame]
        own = np.linalg.inv(E) @ matrix
        np.testing.assert_allclose(theta[frame, :100], truth.expression[frame], atol=1e-6)
        np.testing.assert_allclose(theta[frame, 100:106], own[:2, :3].ravel(), atol=1e-5)
        np.testing.assert_allclose(theta[frame, 106:112], rows_of(truth.jaw[frame]), atol=1e-6)
        np.testing.assert_allclose(theta[frame, 112:118], rows_of(truth.left_eye[frame]), atol=1e-6)
        np.testing.assert_allclose(theta[frame, 118:124], rows_of(truth.right_eye[frame]), atol=1e-6)
        np.testing.assert_allclose(theta[frame, 124:126], truth.lids[frame], atol=1e-6)
    np.testing.assert_allclose(theta[:, 126:], to_flame(motion.translations), atol=1e-6)


def test_the_larger_pictures_double_the_camera(folder: Path, insta: tuple[Path, Truth]) -> None:
    (folder / "effigy.json").write_text('{"images": "images.HQ"}')
    large = open_capture(folder)
    assert (large.cameras[0].width_px, large.cameras[0].height_px) == (128, 96)
    np.testing.assert_allclose(large.cameras[0].K[:2], 2 * insta[1].K[:2], rtol=1e-6)
    assert large.rgba(0).shape == (96, 128, 4)
    shutil.rmtree(folder / "images")
    (folder / "effigy.json").unlink()
    assert open_capture(folder).cameras[0].width_px == 128


def test_options_choose_split_rate_and_names(folder: Path) -> None:
    options = {"test_frames": 2, "fps": 30, "subject": "Bala", "licence": "INSTA, research only"}
    (folder / "effigy.json").write_text(json.dumps(options))
    capture = open_capture(folder)
    assert (capture.split("test"), capture.motion.fps) == ((4, 5), 30)
    assert (capture.subject, capture.licence) == ("Bala", "INSTA, research only")


def test_masks_may_lie_in_a_folder_of_their_own(folder: Path) -> None:
    (folder / "parts").mkdir()
    wanted = open_capture(folder).rgba(2)
    for path in (folder / "images").iterdir():
        picture = Image.open(path)
        picture.getchannel("A").save(folder / "parts" / path.name)
        picture.convert("RGB").save(path)
    (folder / "effigy.json").write_text('{"masks": "parts"}')
    np.testing.assert_array_equal(open_capture(folder).rgba(2), wanted)
    (folder / "parts" / "00003.png").unlink()
    with pytest.raises(BadCapture, match=r"bala/parts lacks masks of 1 of 6 pictures \(found none for 00003.png"):
        open_capture(folder)
    (folder / "effigy.json").write_text('{"masks": "part"}')
    with pytest.raises(BadCapture, match="no folder part in bala"):
        open_capture(folder)


def change_frame(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "checkpoint" / name
    with torch.serialization.safe_globals([]):
        document = torch.load(path, weights_only=False)  # our own file, written above
    change(document)
    torch.save(document, path)


def all_frames(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    for path in (folder / "checkpoint").iterdir():
        change_frame(folder, path.name, change)


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


def shift_pictures(folder: Path) -> None:
    for path in sorted((folder / "images").iterdir(), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))


def opaque(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        Image.open(path).convert("RGB").save(path)


def swap_size(document: dict[str, Any]) -> None:
    document["img_size"] = document["img_size"][::-1].copy()


def longer_lens(document: dict[str, Any]) -> None:
    document["opencv"]["K"][0, 0, 0] *= 1.1


def options(text: str) -> Callable[[Path], int]:
    return lambda folder: (folder / "effigy.json").write_text(text)


def without_transforms(folder: Path) -> None:
    for path in folder.glob("transforms*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda f: (without_transforms(f), all_frames(f, swap_size)),
            "image images/00000.png has width and height the other way round (found 64x48; expected 48x64).",
        ),
        (
            lambda f: rewrite(f, "transforms.json", lambda d: d.update(w=48, h=64)),
            "transforms.json and 00000.frame of bala have width and height the other way round (found 48x64 in "
            "transforms.json; expected 64x48).",
        ),
        (
            lambda f: rewrite(f, "transforms.json", lambda d: d.update(fl_x=130.0)),
            "K of 00000.frame is unlike K of transforms.json in bala (found fl_x 110.4 px; expected 130.0 px).",
        ),
        (
            lambda f: rewrite(f, "transforms.json", lambda d: d.update(cx=20.0)),
            "K of 00000.frame is unlike K of transforms.json in bala (found cx 32.6 px; expected 20.0 px).",
        ),
        (
            lambda f: change_frame(f, "00003.frame", longer_lens),
            "00003.frame has another focal length than 00000.frame (found 121.4 px; expected 110.4 px).",
        ),
        (
            lambda f: all_frames(f, lambda d: d["opencv"].update(K=d["opencv"]["K"].transpose(0, 2, 1).copy())),
            "opencv.K of 00000.frame is no camera matrix (it looks transposed)",
        ),
        (
            lambda f: all_frames(f, lambda d: d["opencv"].update(R=d["opencv"]["R"] * 2)),
            "opencv.R of 00000.frame is no rotation (expected a 3x3 rotation matrix).",
        ),
        (
            lambda f: change_frame(f, "00001.frame", lambda d: d["flame"].update(eyes=d["flame"]["eyes"] * 0)),
            "00001.frame holds a 6D rotation that is none",
        ),
        (
            lambda f: change_frame(f, "00002.frame", lambda d: d["opencv"].update(t=np.full((1, 3), 1e60))),
            "opencv.t of 00002.frame holds values that are not finite, or beyond any measure (expected",
        ),
        (opaque, "image images/00000.png has no mask (found a picture without alpha;"),
        (shift_pictures, "bala/images and bala/checkpoint are off by 1 (found the first picture 00001.png"),
        (
            lambda f: all_frames(f, lambda d: d["flame"].update(exp=d["flame"]["exp"][:, :50])),
            "flame.exp of 00000.frame does not fit (found [1, 50] float32; expected [1, 100] numbers, as written by "
            "metrical-tracker with FLAME 2020",
        ),
        (lambda f: shutil.rmtree(f / "checkpoint"), "an INSTA folder without the tracker's checkpoint/"),
        (lambda f: (shutil.rmtree(f / "images"), shutil.rmtree(f / "images.HQ")), "run INSTA's generate.sh on it"),
        (options('{"test_frame": 2}'), "no setting 'test_frame', did you mean 'test_fra"),
        (options('{"test_frames": 0}'), "a number that makes no sense"),
        (options("[]"), "effigy.json of bala is no JSON"),
        (options('{"template": "flame2020"}'), "wants the template 'flame2020', which is"),
        (
            options('{"reading": {"axes": "opengles"}}'),
            "reading.axes cannot be 'opengles', did you mean 'opengl'?",
        ),
    ],
    ids=[
        "size swapped", "transforms swapped", "K unlike", "centre unlike", "another K", "K transposed", "no rotation",
        "no 6D", "far away", "no masks", "off by one", "other FLAME", "no checkpoint", "no images", "unknown option",
        "no frames", "no object", "no such template", "no such axes",
    ],
)  # fmt: skip
def test_bad_folders_are_one_sentence(folder: Path, change: Callable[[Path], Any], sentence: str) -> None:
    change(folder)
    with pytest.raises(BadCapture) as caught:
        open_capture(folder)
    assert sentence in str(caught.value)


def test_a_picture_that_lost_its_mask_later_is_named_when_read(folder: Path) -> None:
    path = folder / "images" / "00004.png"
    Image.open(path).convert("RGB").save(path)
    capture = open_capture(folder)
    assert capture.rgba(3).shape == (48, 64, 4)
    with pytest.raises(BadCapture, match=r"image images/00004.png has no mask \(found a RGB picture"):
        capture.rgba(4)


def test_other_readings_of_the_same_numbers(folder: Path, insta: tuple[Path, Truth]) -> None:
    """A tracker that stores camera-to-world with OpenGL axes is read when effigy.json says so."""
    truth = insta[1]
    without_transforms(folder)
    for index in range(6):
        document = frame_document(truth, index, f"{index:05d}")
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = FLIP @ truth.R[index], FLIP @ truth.t[index]
        inverse = np.linalg.inv(matrix).astype(np.float32)
        document["opencv"] |= {"R": inverse[None, :3, :3], "t": inverse[None, :3, 3]}
        torch.save(document, folder / "checkpoint" / f"{index:05d}.frame")
    (folder / "effigy.json").write_text('{"reading": {"matrix": "world_from_camera", "axes": "opengl"}}')
    np.testing.assert_allclose(posed(open_capture(folder)), posed(open_capture(insta[0])), atol=1e-5)


def test_a_template_that_is_not_installed_is_a_command(
    insta: tuple[Path, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    with pytest.raises(BadCapture) as caught:
        open_capture(insta[0])
    text = str(caught.value)
    assert "capture 'bala' needs a template of FLAME 2020, which is not installed (found no FLAME template)" in text
    assert "effigy template add generic_model.pkl --uv flame_uv.npz --eyelids l_eyelid.npy r_eyelid.npy" in text


def test_it_trains_from_disk(insta: tuple[Path, Truth], tmp_path: Path) -> None:
    """Read, train, falling losses, an avatar: the whole way of a user's own video."""
    overrides = {"model.density": "{skin: 1.0, teeth: 2.0}", "model.fill_unseen": "false", "schedule.images": "30"}
    overrides |= {"schedule.sizes_px": "[48]", "schedule.stages_from": "[0]", "reporting.curve_points": "0"}
    events = []
    config = load_config("tiny", overrides)
    result = train(config, open_capture(insta[0]), tmp_path, name="bala", device="cpu", on_event=events.append)
    totals = [event.losses["total"] for event in events if "total" in event.losses]
    assert np.isfinite(totals).all()
    assert totals[-1] < 0.8 * totals[0]
    assert result.metrics["psnr_db"] > 12
    assert (result.avatar_folder / "weights.safetensors").is_file()


def test_helpers_agree_with_rotation_matrices() -> None:
    np.testing.assert_allclose(turn(1, 0.3), rotation_matrices((0, 0.3, 0)), atol=1e-12)
    np.testing.assert_allclose(rows_of(np.array((0.2, 0, 0))), rotation_matrices((0.2, 0, 0))[:2].ravel(), atol=1e-6)
