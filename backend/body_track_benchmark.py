"""`benchmark track --body`: a video of one camera of a body capture of known truth, tracked, and laid beside it."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backend.stage_times import in_words
from shared.errors import BadConfig

TURNING = "demo_relight"


def benchmark_body_track(arguments: argparse.Namespace) -> int:
    """Make the video, track it, print the table."""
    from avatars.captures.opening import open_capture
    from avatars.tracking.body_measuring import measure_body_track
    from backend.body_tracking_run import BodyTrackSettings, track_body
    from backend.cli_track_benchmark import before_wall
    from backend.clip_source import open_clip
    from backend.detector import Detector
    from backend.stage_times import StageTimes
    from backend.tracker_environment import make_tracker_environment
    from backend.video import VideoFile
    from shared.template import rest

    truth = open_capture(arguments.capture or TURNING)
    if truth.kind != "body" or not 0 <= arguments.camera < len(truth.cameras):
        raise BadConfig(
            f"camera {arguments.camera} of {truth.name} films no body",
            found=f"a {truth.kind} before {len(truth.cameras)} cameras",
            expected="demo_relight or demo_body",
        )
    images = [
        index
        for index, image in enumerate(truth.images)
        if image.camera == arguments.camera and image.light is None and image.frame % arguments.step == 0
    ]
    last = truth.training_frames()[-1] if truth.name == TURNING else len(truth.motion)  # its held-out poses are jumps
    images = [index for index in images if truth.images[index].frame <= last][: arguments.frames]
    vertices, _ = rest(truth.template.open(), preset=truth.template.preset)
    height_m = float(np.ptp(vertices[truth.template.open().group_vertices("skin"), 2]))
    python = make_tracker_environment()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.output or Path(temporary)).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with VideoFile(folder / "video.mp4", truth.motion.fps / arguments.step) as video:
            for index in images:
                video.add(before_wall(truth.rgba(index)))
        source = open_clip(folder / "video.mp4")
        settings = BodyTrackSettings(
            focal_px=float(truth.cameras[arguments.camera].K[0, 0]) if arguments.focal == "known" else 0.0,
            size_px=max(source.size_px),
            height_m=height_m if arguments.height == "known" else 0.0,
        )
        times = StageTimes()
        with Detector(python) as detector:
            result = track_body(source, folder / "capture", detector, settings, times)
        tracked = open_capture(folder / "capture")
        rows = result.verdict.kept
        pairs = [(place, images[int(result.detections.number[row])]) for place, row in enumerate(rows)]
        crop = result.report["crop"]
        report = measure_body_track(tracked, truth, pairs, (crop["left"], crop["top"]))
        report["seconds_a_picture"] = times.a_picture(len(images))
        report["processor_seconds_a_picture"] = times.processor_a_picture(len(images))
        report |= {name: result.report[name] for name in ("dropped", "focal_px", "height_m", "hands_seen")}
        report["true_height_m"] = round(height_m, 3)
        if arguments.output:
            (folder / "track.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    _show(report, len(images))
    return 0


def _show(report: dict[str, Any], pictures: int) -> None:
    console = Console()
    table = Table("", "mm around the pelvis", "degrees")
    table.add_row("all main joints", f"{report['joints_mm']:g}", f"{report['turns_deg']:g}")
    for name, part in report["by_joint"].items():
        table.add_row(name, f"{part['joints_mm']:g}", f"{part['turns_deg']:g}")
    console.print(table)
    console.print(
        f"{report['joints_after_similarity_mm']:g} mm after a similarity, {report['joints_in_camera_mm']:g} mm in the "
        f"camera; masks overlap by {report['mask_iou']:g}; height {report['height_m']:g} m, "
        f"truly {report['true_height_m']:g} m"
    )
    dropped = ", ".join(f"{count} ({why})" for why, count in report["dropped"].items()) or "none"
    console.print(f"{pictures} pictures, dropped: {dropped}; hands seen in {report['hands_seen']}")
    console.print(in_words(report))
