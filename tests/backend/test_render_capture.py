"""`render` through a capture's cameras, and avatars driven by another motion, as a user calls them."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.avatar_folder import About, save_avatar
from avatars.captures.opening import open_capture
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import measure_range, with_modes
from backend import video
from backend.cli import main
from backend.cli_render import flattened
from backend.cli_render_capture import turned
from backend.video import VideoFile
from shared.errors import BadConfig, EnvironmentFailed
from tests.tiny import front_camera, moving, tiny_capture, tiny_head

GAUSSIANS, FRAMES = 400, 4
needs_ffmpeg = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="the package imageio-ffmpeg is optional"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with tiny.avatar, the capture of the very same head with two cameras, and a result folder."""
    folder = tmp_path_factory.mktemp("render")
    model = tiny_head(GAUSSIANS)
    theta = model.theta(**moving(FRAMES, model))
    model.driving_range = with_modes(measure_range(theta), theta, model.layout)  # as if trained on that capture
    about = About("tiny", provenance={"capture": "bala"})
    save_avatar(folder / "home/library/tiny.avatar", RgbHeadAvatar(model), about, np.zeros((8, 8, 4), np.uint8))
    tiny_capture(folder / "data" / "bala", size=40, frames=FRAMES, cameras=2, gaussians=GAUSSIANS)
    result = folder / "output" / "bala" / "run1"
    result.mkdir(parents=True)
    shutil.copytree(folder / "home" / "library" / "tiny.avatar", result / "bala.avatar")
    (result / "settings.json").write_text(json.dumps({"capture": str(folder / "data" / "bala")}))
    return folder


def render(place: Path, *options: str) -> int:
    return main(["render", "tiny", "--home", str(place / "home"), "--device", "cpu", *options])


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_self_reenactment_is_the_recorded_pictures(place: Path, tmp_path: Path) -> None:
    capture = open_capture(place / "data" / "bala")
    assert render(place, "--capture", str(place / "data" / "bala"), "--output", str(tmp_path), "--batch", "3") == 0
    folder = tmp_path / "render_image"
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i:05d}.png" for i in range(2 * FRAMES)]
    drawn = pictures(folder)
    assert drawn.shape == (2 * FRAMES, 40, 40, 3)
    recorded = np.stack([capture.rgba(index)[..., :3] for index in range(2 * FRAMES)])  # premultiplied: over black
    assert np.abs(drawn.astype(int) - recorded).max() <= 2


def test_backgrounds_alpha_and_size(place: Path, tmp_path: Path) -> None:
    common = ["--capture", str(place / "data" / "bala"), "--camera", "00", "--frames", "1", "--size", "20", "20"]
    assert render(place, *common, "--output", str(tmp_path / "white"), "--white_bg") == 0
    assert render(place, *common, "--output", str(tmp_path / "black")) == 0
    assert render(place, *common, "--output", str(tmp_path / "alpha"), "--alpha") == 0
    white, black, alpha = (pictures(tmp_path / n / "render_image")[0] for n in ("white", "black", "alpha"))
    assert (white.shape, alpha.shape) == ((20, 20, 3), (20, 20, 4))
    assert (white[0, 0] == 255).all()
    assert (black[0, 0] == 0).all()
    for over, level in ((white, True), (black, False)):
        assert np.abs(flattened(alpha, white=level).astype(int) - over).max() <= 2


def test_as_the_original_is_called(place: Path) -> None:
    command = ["render", "--subject", "bala", "--work_name", "run1", "--output_dir", str(place / "output")]
    assert main([*command, "--white_bg", "--only", "test", "--device", "cpu"]) == 0
    assert len(list((place / "output" / "bala" / "run1" / "render_image").glob("*.png"))) == 2


def test_the_orbit_swings_and_comes_back(place: Path, tmp_path: Path) -> None:
    common = ["--capture", str(place / "data" / "bala"), "--camera", "00"]
    assert render(place, *common, "--output", str(tmp_path / "still")) == 0
    swing = ["--orbit-amplitude", "40", "--orbit-period", "4"]
    assert render(place, *common, *swing, "--output", str(tmp_path / "swing")) == 0
    still, moved = pictures(tmp_path / "still" / "render_image"), pictures(tmp_path / "swing" / "render_image")
    change = np.abs(still.astype(int) - moved).mean((1, 2, 3))
    assert change[0] == 0
    assert change[2] < 0.1  # half a period: through the middle again
    assert min(change[1], change[3]) > 5


def test_a_carried_camera_keeps_its_distance_and_its_middle() -> None:
    camera, centre = front_camera(64), np.array([0.1, 0.2, 0.3])
    moved = turned(camera, centre, math.radians(30))
    for one in (camera, moved):
        assert np.allclose(one.world_from_camera[:3, :3] @ one.world_from_camera[:3, :3].T, np.eye(3))
    before, after = (
        one.camera_from_world()[:3, :3] @ centre + one.camera_from_world()[:3, 3] for one in (camera, moved)
    )
    assert np.allclose(before, after)
    assert not np.allclose(camera.world_from_camera, moved.world_from_camera)


def test_its_own_capture_drives_it_to_the_same_pictures(place: Path, tmp_path: Path) -> None:
    bala = str(place / "data" / "bala")
    assert render(place, "--capture", bala, "--camera", "00", "--output", str(tmp_path / "self")) == 0
    driven = ["--motion", bala, "--clip", "0", "--output", str(tmp_path / "driven")]
    assert render(place, "--capture", bala, "--camera", "00", *driven) == 0
    one, other = (pictures(tmp_path / n / "render_image") for n in ("self", "driven"))
    assert one.shape == other.shape
    assert np.abs(one.astype(int) - other).max() <= 3


def test_a_capture_drives_a_free_camera(place: Path, tmp_path: Path) -> None:
    common = ["--motion", str(place / "data" / "bala"), "--size", "32", "32"]
    for strength in ("0", "1"):
        assert render(place, *common, "--strength", strength, "--output", str(tmp_path / strength)) == 0
    calm, moved = (pictures(tmp_path / strength) for strength in ("0", "1"))
    assert len(calm) == FRAMES + 1  # and the still
    assert np.ptp(calm.astype(int), axis=0).max() <= 1
    assert np.ptp(moved.astype(int), axis=0).max() > 20


def test_a_flame_track_does_not_speak_this_rig(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "flame_param.npz", expr=np.zeros((2, 100)), jaw_pose=np.zeros((2, 3)))
    assert render(place, "--motion", str(tmp_path / "flame_param.npz"), "--output", str(tmp_path)) == 2
    assert "another expression model" in failed(capsys)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--capture", "BALA"], "--output is missing"),
        (["--capture", "BALA", "--output", "OUT", "--alpha", "--white_bg"], "Give one of them"),
        (["--capture", "BALA", "--output", "OUT", "--server"], "free cameras only"),
        (["--capture", "BALA", "--output", "OUT", "--camera", "09"], "no camera '09'"),
        (["--capture", "BALA", "--output", "OUT", "--batch", "0"], "--batch is too small"),
        (["--capture", "BALA", "--output", "OUT", "--size", "4", "4"], "--size is out of range"),
        (["--capture", "BALA", "--output", "OUT", "--video", "film.avi"], "MP4 only"),
        (["--capture", "BALA", "--output", "OUT", "--strength", "2"], "belong to --motion"),
        (["--output", "OUT", "--motion", "BALA", "--clip", "-1"], "--clip is out of range"),
        (["--output", "OUT", "--motion", "BALA", "--neutral", "99"], "neutral frame is not in the source"),
        (["--output", "OUT", "--only", "test"], "belongs to --capture"),
        (["--output", "OUT", "--orbit-period", "0"], "--orbit-period is too small"),
        ([], "--output is missing"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence(
    place: Path, tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"BALA": str(place / "data" / "bala"), "OUT": str(tmp_path / "out")}
    assert render(place, *(names.get(option, option) for option in options)) == 2
    assert told in failed(capsys)


@needs_ffmpeg
def test_a_video_has_every_frame(place: Path, tmp_path: Path) -> None:
    import imageio_ffmpeg

    film = tmp_path / "film.mp4"
    options = ["--capture", str(place / "data" / "bala"), "--size", "31", "31", "--white_bg", "--video", str(film)]
    assert render(place, *options, "--output", str(tmp_path)) == 0
    reader = imageio_ffmpeg.read_frames(str(film))
    about = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(32, 32, 3) for frame in reader]
    assert (about["size"], about["fps"]) == ((32, 32), 25.0)
    assert len(frames) == 2 * FRAMES
    first = pictures(tmp_path / "render_image")[0].astype(int)
    assert np.abs(frames[0][:31, :31].astype(int) - first).mean() < 12
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["film.mp4"]


@needs_ffmpeg
def test_a_broken_render_leaves_no_video(tmp_path: Path) -> None:
    def broken() -> None:
        with VideoFile(tmp_path / "film.mp4", 25) as film:
            film.add(np.zeros((32, 32, 3), np.uint8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert not list(tmp_path.iterdir())


def test_without_the_package_a_video_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfig, match="MP4 only"):
        video.check_video(Path("film.gif"))
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match=r"effigy\[video\]"):
        video.check_video(Path("film.mp4"))
