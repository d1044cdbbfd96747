"""`benchmark growth`: what a curve says, what is measured, and that a second call goes on from the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatars.avatar_folder import avatar_digest
from avatars.captures.opening import open_capture
from backend import rendering
from backend.cli import main
from backend.growth import scenes
from backend.growth.fit import fitted
from backend.growth.learning import fewer, first_at
from backend.growth.run import curve, fits
from backend.growth.scenes import bottleneck
from backend.growth.timing import Memory, grouped, timed
from backend.library import Library
from shared.errors import BadConfig
from shared.messages import AvatarInstance, RenderRequest
from tests.tiny import front_camera, tiny_avatar, tiny_capture

SMALL = ["--device", "cpu", "--gaussians", "150", "--size", "32", "--seconds", "0.001"]


def test_a_line_and_a_power_are_found_again() -> None:
    x = [1.0, 2, 4, 8, 16]
    line = fitted(x, [3 + 0.5 * value for value in x])
    assert line is not None
    assert (line.fixed, line.slope) == pytest.approx((3, 0.5))
    assert line.worst == pytest.approx(0, abs=1e-9)
    assert line.at(100) == pytest.approx(53)
    assert 0 < line.power < line.end_power < 1
    square = fitted(x, [value**2 for value in x])
    assert square is not None
    assert (square.power, square.end_power) == pytest.approx((2, 2))
    assert square.fixed >= 0
    assert square.worst > 0.1
    falling = fitted(x, [10 / value for value in x])
    assert falling is not None
    assert falling.slope == 0
    assert fitted([2.0, 2.0], [1.0, 3.0]) is None
    assert fitted([1.0, 2.0], [0.0, 3.0]) is None


def test_a_target_is_reached_between_two_looks_or_never() -> None:
    curve_db = [(1.0, 10, 20.0), (2.0, 20, 24.0), (3.0, 30, 23.0), (4.0, 40, 26.0)]
    assert first_at(curve_db, 19.0) == 1.0
    assert first_at(curve_db, 22.0) == 1.5
    assert first_at(curve_db, 25.0) == pytest.approx(3.667, abs=1e-3)
    assert first_at(curve_db, 30.0) is None
    assert first_at([], 1.0) is None


def test_fewer_pictures_are_spread_and_held_out_ones_stay(tmp_path: Path) -> None:
    capture = open_capture(tiny_capture(tmp_path / "tiny", size=32, frames=12, cameras=1, gaussians=100))
    training, held_out = capture.split("train"), capture.split("test")
    some = fewer(capture, 3)
    frames = [some.images[index].frame for index in some.split("train")]
    ends = (capture.images[training[0]].frame, capture.images[training[-1]].frame)
    assert (frames[0], frames[-1], len(frames)) == (*ends, 3)
    assert len(some.split("test")) == len(held_out) > 0
    assert fewer(capture, len(training)).images == capture.images
    with pytest.raises(BadConfig, match="more pictures"):
        fewer(capture, len(training) + 1)


def test_who_bounds_a_frame() -> None:
    one: dict[str, Any] = {"frame_ms": 10.0, "pose_ms": 2.0, "draw_ms": 7.0}
    assert bottleneck(one).startswith("blending (70 %")
    waiting = {**one, "device_ms": 3.0, "kernels": 400.0, "groups_ms": {"sorting": 2.0, "blending": 1.0}}
    assert bottleneck(waiting).startswith("the host: the device computes 30 %")
    assert "400 launches" in bottleneck(waiting)
    busy = {**waiting, "device_ms": 9.0}
    assert bottleneck(busy).startswith("the device, 90 % busy: sorting (22 %)")
    kernels = [("radix_sort_onesweep", 1.0), ("rasterize_to_pixels_3dgs_fwd", 4.0), ("vectorized_add", 0.5)]
    assert list(grouped(kernels).items()) == [("blending", 4.0), ("sorting", 1.0), ("other arithmetic", 0.5)]


def test_memory_and_time_are_those_of_the_call() -> None:
    calls: list[int] = []
    found = timed(lambda: calls.append(1), 0.0, "cpu")
    assert (found.calls, len(calls)) == (3, 5)
    assert found.best_ms <= found.median_ms
    memory = Memory("cpu")
    memory.begin()
    peak = memory.peak_mib()
    big = np.ones(8 << 20)
    held = memory.held_mib()
    del big
    assert held > 50
    if peak is not None:
        most = memory.peak_mib()
        assert most is not None
        assert most > 50 > peak


def test_points_are_measured_once_printed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["--counts", "150", "300", "--sizes", "32", "--crowds", "1", "3", "--batches", "2"]
    words = ["benchmark", "growth", *SMALL, *sizes, "--output", str(tmp_path)]
    assert main([*words, "--parts", "gaussians", "resolution", "avatars", "lit", "batch"]) == 0
    figures = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    assert [point["size_px"] for point in curve(figures, "resolution")] == [32]
    crowd = curve(figures, "lit")
    assert [point["avatars"] for point in crowd] == [1, 3]
    assert all(point["frame_ms"] >= point["best_ms"] > 0 for point in crowd)
    assert set(figures["fits"]) == set(fits(figures)) >= {"gaussians time", "lit time"}
    rows = (tmp_path / "growth.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 9
    assert "| avatars in the scene, lit |" in capsys.readouterr().out
    assert (tmp_path / "curves.png").stat().st_size < 80_000
    monkeypatch.setattr(scenes, "FILM_FRAMES", 2)
    monkeypatch.setattr(scenes, "scene_point", None)  # whoever measured again would fail
    assert main([*words, "--parts", "files", "where", "gaussians"]) == 0
    figures = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    (files,) = figures["files"].values()
    assert files["avatar_mib"] > 0 < files["png_mib"]
    assert {one["avatars"] for one in figures["where"].values()} == {1, 3}
    assert "Where the time goes" in capsys.readouterr().out


def test_training_says_when_a_target_was_reached_and_when_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_capture(tmp_path / "tiny", size=32, frames=8, cameras=1, gaussians=200)
    training = ["--capture", str(folder), "--preset", "tiny", "--train-seconds", "0.5", "--look", "0.1"]
    changes = [part for key in ("size_px=32", "schedule.sizes_px=[32, 32]") for part in ("--set", key)]
    words = ["benchmark", "growth", *SMALL, *training, *changes, "--frames", "2", "4", "--held-out", "2"]
    assert main([*words, "--targets-db", "5", "90", "--parts", "training", "--output", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "growth.json").read_text(encoding="utf-8"))
    for one in figures["training"].values():
        assert one["reached_s"]["5"] is not None
        assert one["reached_s"]["90"] is None
        assert one["curve"][-1][2] <= one["best_db"]
    assert "never" in capsys.readouterr().out
    assert (tmp_path / "out" / "training.png").is_file()


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "growth", *SMALL, "--output", str(tmp_path)]
    assert main([*words, "--parts", "nothing"]) == 2
    assert main([*words, "--crowds", "0"]) == 2
    (tmp_path / "growth.json").write_text('{"device": "another"}', encoding="utf-8")
    assert main([*words, "--parts", "files"]) == 2
    told = capsys.readouterr().err
    assert "unknown part" in told
    assert "--crowds is out of range" in told
    assert "figures of another device" in told


def test_a_crowd_of_many_avatars_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are kept otherwise: they used to push each other out in every frame."""
    names = [f"a{number}" for number in range(rendering.KEPT_AVATARS + 2)]
    folders = [tiny_avatar(tmp_path, name, gaussians=60) for name in names]
    read: list[Path] = []
    load = rendering.load_avatar
    monkeypatch.setattr(rendering, "load_avatar", lambda folder, device: (read.append(folder), load(folder, device))[1])
    studio, camera = rendering.Studio(Library(tmp_path), "cpu"), front_camera(16)
    rig = studio.avatar(names[0]).rig()

    def picture(shown: list[str]) -> RenderRequest:
        joints, expressions = np.zeros((1, len(rig.joint_names), 3)), np.zeros((1, len(rig.expression_names)))
        place = np.eye(4)[None]
        people = tuple(
            AvatarInstance(name, avatar_digest(folder), place, joints, np.zeros((1, 3)), expressions)
            for name, folder in zip(names, folders, strict=True)
            if name in shown
        )
        lens = (camera.K[None], camera.world_from_camera[None])
        return RenderRequest("crowd", people, 16, 16, *lens, 0.05, 10.0, passes=("mask",))

    for _ in range(2):
        studio.render(picture(names))
    assert len(read) == len(names)
    studio.render(picture(names[-1:]))
    studio.avatar(names[-1])
    studio.render(picture(names[:1]))
    assert len(read) == len(names) + 1, "a small scene lets go of the crowd"
