"""`test` and `benchmark body` as typed: pictures beside the truth, novel poses, speed, one-sentence errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.avatar_folder import About, save_avatar
from avatars.mlp_body import benchmark
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.mlp_body.benchmark import gain_time_s
from avatars.mlp_body.settings import MlpBodyConfig
from backend.cli import main
from shared.camera_files import path_json
from tests.tiny import tiny_avatar
from tests.tiny_body import body_camera, tiny_body, tiny_body_capture


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "tiny.avatar"
    save_avatar(folder, MlpBodyAvatar(tiny_body()), About("tiny"), np.zeros((2, 2, 4), np.uint8))
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_body_capture(tmp_path_factory.mktemp("capture") / "tiny_body", frames=3, cameras=3)


def test_the_capture_beside_the_truth(
    avatar: Path, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["test", "--model_dir", str(avatar), "--data_dir", str(capture), "--out_dir", str(tmp_path)]
    assert main([*asked, "--only", "train", "--cam_ids", "01", "--device", "cpu", "--test_speed"]) == 0
    names = {kind: sorted(path.name for path in (tmp_path / kind).iterdir()) for kind in ("gt", "result", "mask")}
    assert names["gt"] == names["result"] == names["mask"] == ["00000000.png", "00000001.png"]
    told = capsys.readouterr().out
    psnr = float(told.split("psnr_db ")[1].split()[0])
    assert psnr > 35  # the capture was rendered from this very body; unclamped poses reproduce it
    truth, result = (np.asarray(Image.open(tmp_path / kind / "00000001.png"), int) for kind in ("gt", "result"))
    assert np.abs(truth - result).mean() < 2
    assert "2 frames in " in told
    assert " FPS" in told
    assert main([*asked, "--cam_ids", "77"]) == 2
    assert "has no camera '77'" in capsys.readouterr().err


@pytest.mark.parametrize("width", [156, 165])
def test_novel_poses_of_any_width_through_a_camera_file(avatar: Path, tmp_path: Path, width: int) -> None:
    poses = np.zeros((4, width))
    poses[:, 0] = np.pi / 2  # AMASS stands its y-up body in a z-up world
    poses[:, 50] = np.linspace(0, -1.2, 4)
    poses[:, 53] = np.linspace(0, 1.2, 4)
    np.savez(tmp_path / "amass.npz", poses=poses, trans=np.zeros((4, 3)), mocap_framerate=30.0)
    (tmp_path / "camera.json").write_text(path_json([body_camera(64)], [0], 25.0), encoding="utf-8")
    asked = [
        "test",
        "--model_dir",
        str(avatar),
        "--pose_path",
        str(tmp_path / "amass.npz"),
        "--test",
        "--device",
        "cpu",
    ]
    out = tmp_path / "out"
    assert main([*asked, "--cam_path", str(tmp_path / "camera.json"), "--out_dir", str(out)]) == 0
    pictures = [np.asarray(Image.open(path), int) for path in sorted(out.iterdir())]
    assert [path.name for path in sorted(out.iterdir())] == [f"{index:08d}.png" for index in range(4)]
    assert pictures[0].shape == (64, 64, 3)
    covered = [(picture.min(-1) < 200).any(0).nonzero()[0] for picture in pictures]
    assert np.ptp(covered[0]) > np.ptp(covered[-1]) + 8  # the arms come down
    assert main([*asked, "--out_dir", str(tmp_path / "free"), "--size", "48", "80", "--frame_interval", "3"]) == 0
    free = sorted((tmp_path / "free").iterdir())
    assert len(free) == 2
    shown = np.asarray(Image.open(free[0]), int).min(-1) < 200
    rows = shown.any(1).nonzero()[0]
    assert 2 <= rows[0] < rows[-1] <= 77  # all of the person is in the picture
    assert np.ptp(rows) > 40


def test_what_goes_wrong_is_one_sentence(
    avatar: Path, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["test", "--model_dir", str(avatar), "--device", "cpu"]
    np.savez(tmp_path / "short.npz", poses=np.zeros((2, 40)), trans=np.zeros((2, 3)))
    (tmp_path / "camera.json").write_text("{}", encoding="utf-8")
    np.savez(tmp_path / "good.npz", poses=np.zeros((2, 165)), trans=np.zeros((2, 3)))
    out = ["--out_dir", str(tmp_path / "out")]
    for more, expected in (
        ([*out], "Name what to render"),
        (["--pose_path", str(tmp_path / "good.npz")], "--out_dir is missing"),
        (["--pose_path", str(tmp_path / "short.npz"), *out], "another width"),
        (["--pose_path", str(tmp_path / "good.npz"), "--cam_path", str(tmp_path / "camera.json"), *out], "no camera"),
        (["--data_dir", str(capture), "--up", "y", *out], "--up belongs to --pose_path"),
    ):
        assert main([*asked, *more]) == 2
        told = capsys.readouterr().err
        assert expected in told
        assert len(told.strip().splitlines()) == 1
    head = tiny_avatar(tmp_path, gaussians=300)
    assert main(["test", "--model_dir", str(head), "--data_dir", str(capture), *out, "--device", "cpu"]) == 2
    assert "no body" in capsys.readouterr().err


def test_the_benchmark_tells_ratios_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published networks have 91 million numbers, which say nothing here.
    small = MlpBodyConfig(controls=60, anchors=10, widths=(16,))
    monkeypatch.setattr(benchmark, "MlpBodyConfig", lambda: small)
    file = tmp_path / "speed.json"
    asked = ["benchmark", "body", "--device", "cpu", "--gaussians", "600", "--sizes", "32", "--views", "2"]
    assert main([*asked, "--seconds", "0.02", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert row["step_ratio"] == pytest.approx(row["step_ms"] / row["raw_forward_backward_ms"])
    assert row["images_per_s"] == pytest.approx(2 * row["steps_per_s"])
    assert row["render_ms"] > 0
    assert "steps/s" in capsys.readouterr().out
    assert main([*asked, "--profile"]) == 0
    told = capsys.readouterr().out
    for title in ("training step, 2 views", "bare", "posing", "pose to pixels"):
        assert f"== {title}" in told
    assert "_Express" in told


def test_the_time_to_most_of_the_gain_is_read_off_the_curve() -> None:
    assert gain_time_s([(0, 10.0), (10, 20.0), (20, 30.0)]) == pytest.approx(19.0)
    assert gain_time_s([(5, 10.0), (10, 30.0), (20, 29.0)]) == pytest.approx(9.75)
    assert gain_time_s([(3, 10.0), (9, 10.0)]) == 3
    assert gain_time_s([(3, 10.0)]) == 0
