"""Live training on FLAME: an INSTA folder replayed, and a FLAME track laid beside a video."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import load_avatar
from avatars.captures.opening import open_capture
from avatars.formats.exporting import export_rgbavatar_folder
from avatars.online.config import load_online_config
from avatars.online.replay import CaptureReplay
from avatars.online.session import Session
from avatars.online.track import read_track
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.opening import reference_of
from avatars.templates.template import Template
from shared.errors import BadCapture
from tests.flame_installed import flame_home
from tests.insta_files import write_insta_folder
from tests.nersemble_files import Truth, write_nersemble


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with flame_home(tmp_path_factory, tmp_path_factory.mktemp("home")) as folder:
        yield folder


def test_an_insta_folder_is_learned_as_it_is_replayed(home: Path, tmp_path: Path) -> None:
    write_insta_folder(tmp_path / "bala", reference_of("flame2020_rgbavatar"), frames=8, size=(48, 48))
    capture = open_capture(tmp_path / "bala")
    changes = {"training.model.theta": "rgbavatar", "training.model.frame": "uv", "post_process_images": "8"}
    changes |= {"training.model.standardised": "false"}
    config = load_online_config("online_tiny", changes)
    session = Session(CaptureReplay(capture, fps=50.0, longest_px=40), config, "cpu")
    session.start()
    until = time.monotonic() + 150
    while not session.over() and time.monotonic() < until:
        time.sleep(0.02)
    status = session.status
    assert session.failure is None
    assert status.learner.frames == status.expected, status
    assert status.left_out == {}
    session.save(tmp_path / "bala.avatar", "bala")
    session.close()
    avatar = load_avatar(tmp_path / "bala.avatar")
    assert avatar.template().template_id == "flame2020_rgbavatar"
    assert avatar.description()["gaussians"] > 50
    assert isinstance(avatar, RgbHeadAvatar)
    found = avatar.model.driving_range
    assert (found.mean == 0).all(), "the network takes θ as it is, as RGBAvatar's does"
    assert (found.low < -1e30).all()
    assert found.modes is not None
    assert export_rgbavatar_folder(avatar, tmp_path / "theirs") is not None


def flame_track(folder: Path, truth: Truth, **change: np.ndarray) -> Path:
    """The frames of one sequence as a single track, in front of one of the cameras (OpenCV axes, FLAME's world)."""
    folder.mkdir()
    frames = truth.parameters["EMO-1"]
    arrays = {
        name: np.concatenate([frame[name] for frame in frames])
        for name in ("expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation")
    }
    camera, K = next(iter(truth.cameras.values()))
    arrays |= {"shape": frames[0]["shape"], "static_offset": frames[0]["static_offset"]}
    arrays |= {"K": K[None], "world_from_camera": (camera @ np.diag([1.0, -1, -1, 1]))[None]}
    np.savez(folder / "flame.npz", **(arrays | change))
    size = {"width_px": truth.size[0], "height_px": truth.size[1], "fps": 25}
    (folder / "flame.json").write_text(json.dumps(size), encoding="utf-8")
    return folder / "flame.npz"


def test_a_flame_track_poses_the_head_that_was_tracked(home: Path, tmp_path: Path) -> None:
    truth = write_nersemble(tmp_path / "data", reference_of("flame2023_gaussian_avatars"))
    track = read_track(flame_track(tmp_path / "track", truth))
    assert track.subject.template.template_id == "flame2023_gaussian_avatars"
    assert track.subject.vertex_offset is not None
    offset = torch.from_numpy(np.array(track.subject.vertex_offset))
    reference = track.subject.template
    head = HeadTemplate.make(Template(reference.open()), "", reference.shape, offset)
    motion = track.motion
    drive = [torch.from_numpy(np.array(a)) for a in (motion.rotations, motion.translations, motion.expressions)]
    vertices = head.posed_vertices(*drive).numpy()
    camera = track.camera(1)
    for frame, written in enumerate(truth.vertices["EMO-1"]):
        seen = (vertices[frame] - camera.world_from_camera[:3, 3]) @ camera.world_from_camera[:3, :3]
        place, _ = next(iter(truth.cameras.values()))
        wanted = (written - place[:3, 3]) @ place[:3, :3] * (1, -1, -1)
        assert np.abs(seen - wanted).max() < 1e-4, "the head lies in the camera as it was written"


def test_a_damaged_flame_track_is_one_sentence(home: Path, tmp_path: Path) -> None:
    truth = write_nersemble(tmp_path / "data", reference_of("flame2023_gaussian_avatars"))
    cases = {
        "eyes_pose of the track flame.npz has the wrong shape": {"eyes_pose": np.zeros((3, 3), np.float32)},
        "static_offset of the track flame.npz does not fit": {"static_offset": np.zeros((1, 77, 3), np.float32)},
        "K of the track flame.npz has the wrong shape": {"K": np.full((1, 3, 3), np.nan)},
    }
    for number, (sentence, change) in enumerate(cases.items()):
        with pytest.raises(BadCapture, match=sentence) as caught:
            read_track(flame_track(tmp_path / f"track{number}", truth, **change))
        assert "\n" not in str(caught.value)
