"""A video with its track beside it gives the same frames as the pictures it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avatars.captures.opening import open_capture
from avatars.online.video import VideoSource
from shared.errors import BadCapture
from tests.tiny import tiny_capture

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
FRAMES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of one camera, and the same as picture.mp4 with mask.mp4, and as alpha.mov."""
    made = tiny_capture(tmp_path_factory.mktemp("video") / "tiny", size=48, frames=FRAMES, cameras=1, gaussians=600)
    capture = open_capture(made)
    pictures = np.stack([capture.rgba(index) for index in range(FRAMES)])
    write(made / "picture.mp4", pictures[..., :3], "rgb24", ["-crf", "1"], "libx264", "yuv444p")
    write(made / "mask.mp4", np.repeat(pictures[..., 3:], 3, -1), "rgb24", ["-crf", "1"], "libx264", "yuv444p")
    write(made / "alpha.mov", pictures, "rgba", [], "qtrle", "argb")
    return made


def write(path: Path, pictures: np.ndarray, format_in: str, options: list[str], codec: str, format_out: str) -> None:
    size = pictures.shape[2], pictures.shape[1]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        size,
        pix_fmt_in=format_in,
        pix_fmt_out=format_out,
        fps=25,
        codec=codec,
        output_params=options,
        macro_block_size=1,
        quality=None,
    )
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture))
    writer.close()


@pytest.mark.parametrize("name", ["picture.mp4", "alpha.mov"])
def test_frames_come_with_their_poses(folder: Path, name: str) -> None:
    capture = open_capture(folder)
    mask = folder / "mask.mp4" if name == "picture.mp4" else None
    source = VideoSource(folder / name, folder, mask=mask, fps=1000.0, longest_px=64)
    frames = []
    while not source.ended():
        frame = source.next(60.0)
        if frame is not None:
            frames.append(frame)
    source.close()
    source.close()
    assert source.expected == len(frames) == FRAMES
    assert source.subject.template == capture.template
    for frame in frames:
        truth = capture.rgba(frame.number)
        error = np.abs(frame.rgba[..., 3].astype(int) - truth[..., 3])
        assert error.mean() < 3
        assert (frame.pose.rotations == capture.motion.rotations[frame.number]).all()
        assert np.allclose(frame.camera.K, capture.cameras[0].K)
    colours = np.abs(frames[0].rgba[..., :3].astype(int) - capture.rgba(0)[..., :3])[frames[0].rgba[..., 3] > 250]
    assert colours.mean() < 6


def test_a_video_that_does_not_fit_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "capture.json").read_text())
    (tmp_path / "track.json").write_text(json.dumps({**document, "width_px": 50}))
    (tmp_path / "lost.npz").write_bytes((folder / "parameters.npz").read_bytes())
    (tmp_path / "noise.mp4").write_bytes(b"no video at all")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "p.npz").write_bytes((folder / "parameters.npz").read_bytes())
    with np.load(folder / "parameters.npz") as file:
        short = dict(file)
    short["expressions"] = short["expressions"][:2]
    (tmp_path / "short").mkdir()
    np.savez(tmp_path / "short" / "parameters.npz", **short)
    (tmp_path / "short" / "track.json").write_text(json.dumps(document))
    movie = folder / "alpha.mov"
    cases = {
        "no alpha channel": (folder / "picture.mp4", folder, None),
        "another size than its track says .found 48x48; expected 50x48": (movie, tmp_path / "lost.npz", None),
        "no video": (tmp_path / "absent.mp4", folder, None),
        "no video that ffmpeg can read": (tmp_path / "noise.mp4", folder, None),
        "no JSON beside the track p.npz": (movie, tmp_path / "alone" / "p.npz", None),
        "expressions of the track parameters.npz has the wrong shape": (movie, tmp_path / "short", None),
        "absent.npz cannot be read": (movie, tmp_path / "absent.npz", None),
    }
    for sentence, (video, track, mask) in cases.items():
        with pytest.raises(BadCapture, match=sentence) as caught:
            VideoSource(video, track, mask=mask, fps=0, longest_px=64)
        assert "\n" not in str(caught.value)
