"""`benchmark track`: a video is made of a capture of known truth, tracked, and laid beside that truth."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from backend.cli_track import add_without, refine_settings
from backend.stage_times import in_words
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.captures.capture import Capture

ROWS = (
    ("pictures", "pictures"),
    ("landmarks_px", "landmarks, px"),
    ("rotation_deg", "head rotation, deg"),
    ("rotation_less_constant_deg", "  less a constant"),
    ("jaw_deg", "jaw, deg"),
    ("jaw_r", "jaw, r"),
    ("gaze_deg", "gaze less a constant, deg"),
    ("gaze_yaw_r", "  sideways, r"),
    ("gaze_pitch_r", "  up and down, r"),
    ("expression_r", "expressions, mean r"),
    ("expressions_above_0.7", "  of them above 0.7"),
    ("face_mm", "face, mm"),
    ("mask_iou", "mask, overlap"),
)


def add_track_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the benchmarks."""
    parser = kinds.add_parser("track", help="`capture track` on a video of known truth: errors by head turn, seconds")
    parser.add_argument("--capture", default="", help="exact (default: talking_head)")
    parser.add_argument("--frames", type=int, default=600, help="only so many from the first on (default: all)")
    parser.add_argument("--step", type=int, default=0, help="every so manieth frame (default: 2, with --body 1)")
    parser.add_argument("--focal", choices=("known", "guessed"), default="known", help="tell the lens or not")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the video, `capture`, its pictures with true parameters (`exact`), track.json",
    )
    add_without(parser)
    parser.add_argument("--body", action="store_true", help="a whole person (default capture: demo_relight, turning)")
    parser.add_argument("--camera", type=int, default=0, help="with --body: which camera films (default: %(default)s)")
    parser.add_argument("--height", choices=("known", "unknown"), default="unknown", help="with --body: tell it or not")
    parser.set_defaults(run=benchmark_track)


def benchmark_track(arguments: argparse.Namespace) -> int:
    """Make the video, track it, print the table."""
    arguments.step = arguments.step or (1 if arguments.body else 2)
    if arguments.body:
        from backend.body_track_benchmark import benchmark_body_track

        return benchmark_body_track(arguments)
    from avatars.captures.opening import open_capture
    from avatars.tracking.correspondences import embedded_correspondences
    from avatars.tracking.measuring import measure_track
    from backend.clip_source import open_clip
    from backend.detector import Detector
    from backend.stage_times import StageTimes
    from backend.tracker_environment import make_tracker_environment
    from backend.tracking_run import TrackSettings, track_clip

    truth = open_capture(arguments.capture or "talking_head")
    if len(truth.cameras) != 1:
        raise BadConfig(
            f"{arguments.capture} is no recording of one camera", found=f"{len(truth.cameras)}", expected="talking_head"
        )
    if arguments.step < 1 or arguments.frames < arguments.step:
        raise BadConfig("--step must be at least 1 and below --frames")
    python = make_tracker_environment()
    images = list(range(0, min(arguments.frames, len(truth.images)), arguments.step))
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.output or Path(temporary)).expanduser()
        video = folder / "video.mp4"
        film(truth, images, video, truth.motion.fps / arguments.step)
        source = open_clip(video)
        focal_px = float(truth.cameras[0].K[0, 0]) if arguments.focal == "known" else 0.0
        # the whole picture is kept, so that masks can be compared
        settings = TrackSettings(
            focal_px=focal_px, size_px=max(source.size_px), refine=refine_settings(arguments.without)
        )
        times = StageTimes()
        with Detector(python) as detector:
            result = track_clip(source, folder / "capture", detector, settings, times)
        tracked = open_capture(folder / "capture")
        rows = result.verdict.kept
        pairs = [(place, images[int(result.detections.number[row])]) for place, row in enumerate(rows)]
        landmarks = {images[int(result.detections.number[row])]: result.detections.landmarks[row] for row in rows}
        report = measure_track(tracked, truth, pairs, landmarks, embedded_correspondences()[0])
        report["seconds_a_picture"] = times.a_picture(len(images))
        report["processor_seconds_a_picture"] = times.processor_a_picture(len(images))
        report["dropped"] = result.report["dropped"]
        report["focal_px"] = result.report["focal_px"]
        if arguments.output:
            write_exact_twin(folder / "capture", folder / "exact", truth, [other for _, other in pairs])
            (folder / "track.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    _show(console, report, len(images))
    return 0


def write_exact_twin(tracked: Path, target: Path, truth: Capture, images: Sequence[int]) -> None:
    """A capture of the same pictures and masks as `tracked` (whole ones, not cropped), with the true parameters.

    images: of `truth`, in the order of the tracked frames.
    """
    document = json.loads((tracked / "capture.json").read_text(encoding="utf-8"))
    document |= {"template": truth.template.as_json(), "tracked": False, "name": target.name}
    frames, camera = [truth.images[index].frame for index in images], truth.cameras[0]
    factor = document["width_px"] / camera.width_px
    K = camera.K.copy()
    K[:2] *= factor
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tracked / "images", target / "images", dirs_exist_ok=True)
    motion = truth.motion
    np.savez_compressed(
        target / "parameters.npz",
        rotations=motion.rotations[frames],
        translations=motion.translations[frames],
        expressions=motion.expressions[frames],
        K=K[None],
        world_from_camera=camera.world_from_camera[None],
    )
    (target / "capture.json").write_text(json.dumps(document), encoding="utf-8")


def film(truth: Capture, images: list[int], path: Path, fps: float) -> None:
    """A video of pictures of a capture before a coloured wall, at their own speed."""
    from backend.video import VideoFile

    with VideoFile(path, fps) as video:
        for index in images:
            video.add(before_wall(truth.rgba(index)))


def before_wall(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A premultiplied picture [H, W, 4] before a wall with soft stripes, [H, W, 3]."""
    height, width = rgba.shape[:2]
    down, across = np.mgrid[:height, :width] / height
    wall = np.stack([150 + 40 * np.sin(7 * across), 140 + 30 * np.cos(5 * down + 3 * across), 120 + 50 * down], axis=-1)
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.clip(rgba[..., :3] + wall * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)


def _show(console: Console, report: dict[str, Any], pictures: int) -> None:
    table = Table("", "all", *(f"turned {name}°" for name in report["by_yaw"]))
    for key, title in ROWS:
        columns = [report, *report["by_yaw"].values()]
        table.add_row(title, *("" if key not in column else f"{column[key]:g}" for column in columns))
    console.print(table)
    dropped = ", ".join(f"{count} ({why})" for why, count in report["dropped"].items()) or "none"
    console.print(f"{pictures} pictures, dropped: {dropped}; focal length {report['focal_px']:g} px")
    console.print(in_words(report))
    console.print(
        "Expressions, r: " + ", ".join(f"{name} {value:.2f}" for name, value in report["expressions"].items()),
        highlight=False,
    )
