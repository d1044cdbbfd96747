"""`capture track`: from an ordinary video to a capture that can be trained on."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avatars.captures.check import CaptureCheck
    from avatars.tracking.refining import RefineSettings
    from backend.body_tracking_run import BodyTrackResult
    from backend.tracking_run import TrackResult
    from shared.template import TemplateArrays

PICTURE, FLAME = "report.png", "flame"
REFINING = ("photometric", "silhouette")


def add_track(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = actions.add_parser(
        "track",
        help="make a capture of a video of a face or a whole person, or of a folder of its pictures",
        description="Finds the face, fits the template to the whole clip, cuts the person out and says what to film "
        "again. Stopped with Ctrl-C or run again, it goes on where it was. docs/tracking.md",
    )
    parser.add_argument("video", type=Path, help="a video file, or a folder of numbered pictures")
    parser.add_argument("--output", type=Path, help="capture folder to make (default: beside the video, its name)")
    parser.add_argument("--body", action="store_true", help="a whole person who turns or walks, from head to feet")
    parser.add_argument("--height-m", type=float, help="with --body: how tall the person is (a video does not tell)")
    parser.add_argument(
        "--flame",
        metavar="TEMPLATE",
        default="",
        help="also write OUTPUT/flame with FLAME's parameters, as GaussianAvatars reads them; TEMPLATE: your installed "
        "FLAME 2023 (effigy template list)",
    )
    lens = parser.add_mutually_exclusive_group()
    lens.add_argument("--focal-mm", type=float, help="lens in mm of a 36 mm wide picture (26: a phone's main camera)")
    lens.add_argument("--focal-px", type=float, help="focal length in px of the video's pictures")
    parser.add_argument("--step", type=int, default=1, help="only every so manieth picture (default 1)")
    parser.add_argument("--size", type=int, default=512, help="longest side of the pictures stored, px (default 512)")
    add_without(parser)
    parser.add_argument("--subject", default="", help="who it is (default: the folder's name)")
    parser.add_argument("--licence", default="not stated", help="carried into the avatar")
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output instead of a table")
    parser.set_defaults(run=track_command)


def add_without(parser: argparse.ArgumentParser) -> None:
    """Declare the switch that leaves terms of the fit out."""
    parser.add_argument(
        "--without",
        action="append",
        choices=REFINING,
        default=[],
        help="leave one out of what lays a head to the pictures after the landmarks; may be given twice",
    )


def refine_settings(without: Sequence[str]) -> RefineSettings:
    """What `add_without` asks for."""
    from avatars.tracking.refining import RefineSettings

    return RefineSettings(photometric="photometric" not in without, silhouette="silhouette" not in without)


def track_command(arguments: argparse.Namespace) -> int:
    """Track with a progress bar; status 0: a capture was made and nothing of it is bad, 1: it was made, but is bad."""
    from rich.console import Console
    from rich.progress import Progress

    from backend.body_tracking_run import STAGES as BODY_STAGES
    from backend.body_tracking_run import BodyTrackSettings, track_body
    from backend.clip_source import FULL_FRAME_MM, open_clip
    from backend.detector import Detector
    from backend.interrupts import first_interrupt
    from backend.tracker_environment import make_tracker_environment
    from backend.tracking_run import STAGES, TrackSettings, track_clip
    from shared.errors import BadCapture, BadConfig

    path = arguments.video.expanduser()
    if not path.exists():
        raise BadCapture(f"there is no video {path}", do="Check the path")
    for name in ("focal_mm", "focal_px", "height_m"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise BadConfig(f"--{name.replace('_', '-')} must be positive", found=str(value))
    source = open_clip(path, arguments.step)
    output = (arguments.output or default_output(path)).expanduser()
    focal_px = arguments.focal_px or 0.0
    if arguments.focal_mm:
        focal_px = arguments.focal_mm / FULL_FRAME_MM * max(source.size_px)
    flame = flame_template(arguments.flame, body=arguments.body) if arguments.flame else None
    if arguments.height_m and not arguments.body:
        raise BadConfig("--height-m is for whole persons", do="Give --body as well")
    common: dict[str, Any] = {
        "refine": refine_settings(arguments.without),
        "subject": arguments.subject,
        "licence": arguments.licence,
        "focal_px": focal_px,
        "size_px": arguments.size,
    }
    console = Console(stderr=True)
    python = make_tracker_environment(lambda text: console.print(f"{text} …"))
    with first_interrupt("Stopping; run the same command to go on.") as asked, Progress(console=console) as bar:
        stages = BODY_STAGES if arguments.body else STAGES
        tasks = {stage: bar.add_task(title, total=None, start=False) for stage, title in stages.items()}

        def tell(stage: str, done: int, of: int) -> None:
            bar.start_task(tasks[stage])
            bar.update(tasks[stage], completed=done, total=of)

        result: TrackResult | BodyTrackResult
        with Detector(python) as detector:
            if arguments.body:
                chosen = BodyTrackSettings(**common, height_m=arguments.height_m or 0.0)
                result = track_body(source, output, detector, chosen, tell, asked)
            else:
                result = track_clip(source, output, detector, TrackSettings(**common), tell, asked)
    if flame is not None:
        result.report["flame"] = write_flame(output, flame)
    report = complete_report(result)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _show(report, output, Path(report["picture"]))
    return int(report["state"] == "bad")


def default_output(video: Path) -> Path:
    """Where the capture of a video goes, where nobody said: beside it."""
    return video.with_name(f"{video.stem}_capture")


def complete_report(result: TrackResult | BodyTrackResult) -> dict[str, Any]:
    """The report of a tracking with what its check says and its picture, as it is kept in `report.json` then."""
    from avatars.tracking.shown import never_shown
    from backend.checking import check_and_report
    from backend.tracking_run import TRACKING

    checked, _, _ = check_and_report(str(result.folder), 8, result.folder / TRACKING)
    picture = write_picture(result, checked)
    coverage = checked.coverage
    film_again = [
        *coverage.missing,
        *never_shown(coverage.ranges),
        *(f.found for f in checked.findings if f.state == "bad"),
    ]
    shown = {"yaw": coverage.yaw, "pitch": coverage.pitch, "ranges": coverage.ranges, "active": coverage.active}
    report = result.report | {
        "coverage": shown,
        "film_again": film_again,
        "state": checked.state(),
        "picture": str(picture),
    }
    (result.folder / TRACKING / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def flame_template(name: str, *, body: bool) -> TemplateArrays:
    """The user's FLAME, asked for before the work begins. Raises BadConfig, BadTemplate."""
    from avatars.templates.installed import installed_arrays
    from shared.errors import BadConfig

    if body:
        raise BadConfig("--flame is for heads", do="Leave --body or --flame out")
    if not name.startswith("flame2023"):
        raise BadConfig(
            f"--flame cannot write for {name!r}",
            expected="an installed FLAME 2023, which GaussianAvatars' folders are of",
            do="effigy template add flame2023.pkl --uv head_template_mesh.obj --teeth gaussian_avatars",
        )
    return installed_arrays(name)


def write_flame(capture_folder: Path, flame: TemplateArrays) -> dict[str, Any]:
    """FLAME's parameters of a tracked head, in its folder `flame`; what the report says of them."""
    from avatars.captures.opening import open_capture
    from avatars.tracking.flame_folder import write_flame_folder
    from avatars.tracking.flame_output import fit_flame

    capture = open_capture(capture_folder)
    fit = fit_flame(capture, flame)
    write_flame_folder(capture, fit.params, capture_folder / FLAME)
    return {
        "folder": FLAME,
        "template": flame.template_id,
        "neutral_mm": round(fit.neutral_mm, 2),
        "apart_mm": round(float(fit.apart_mm.mean()), 2),
    }


def write_picture(result: TrackResult | BodyTrackResult, checked: CaptureCheck) -> Path:
    """The report's picture: the template drawn over kept pictures, then dropped ones with the reason."""
    from PIL import Image

    from avatars.captures.overlay import sheet
    from avatars.files import write_atomically
    from avatars.tracking.judging import REASONS
    from backend.tracking_run import TRACKING

    reasons = dict(zip(result.detections.number.tolist(), result.verdict.reason, strict=True))
    folder = result.folder / TRACKING
    dropped = []
    for path in sorted((folder / "dropped").glob("*.png")):
        reason = reasons.get(int(path.stem), "")
        if reason:
            with Image.open(path) as image:
                dropped.append(
                    (f"{int(path.stem)}: {REASONS[reason].split(' (')[0][:32]}", np.asarray(image.convert("RGB")))
                )
    parts = [checked.sheet]
    if dropped:
        parts.append(sheet((), [("Dropped", dropped)]))
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=24) for part in parts]
    content = io.BytesIO()
    Image.fromarray(np.concatenate(padded)).save(content, format="PNG")
    write_atomically(folder / PICTURE, content.getvalue())
    return folder / PICTURE


def _show(report: dict[str, Any], output: Path, picture: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    from backend.tables import folding_table

    table = folding_table("what", "value")
    low, high = report["yaw_deg"]
    table.add_row(
        "pictures", f"{report['kept']} of {report['pictures']} kept: {report['train']} train, {report['test']} test"
    )
    for why, count in report["dropped"].items():
        table.add_row("dropped", f"{count}: {escape(why)}")
    for stretch in report["dropped_stretches"][:8]:
        table.add_row("", f"{stretch['from']} to {stretch['to']}: {escape(stretch['why'])}")
    if report["cuts_after"]:
        table.add_row("cuts", "after " + ", ".join(map(str, report["cuts_after"][:8])))
    table.add_row("focal length", f"{report['focal_px']:.0f} px ({escape(report['focal_from'])})")
    if "height_m" in report:
        table.add_row("seen from", f"{low:.0f} to {high:.0f} degrees around the person")
        table.add_row("height", f"{report['height_m']:.2f} m; a video does not tell: give --height-m if you know it")
        table.add_row("hands", f"left in {report['hands_seen'][0]} pictures, right in {report['hands_seen'][1]}")
    else:
        table.add_row("head turns", f"{low:.0f} to {high:.0f} degrees sideways")
    coverage = report["coverage"]
    for axis, title in (("yaw", "pictures by side"), ("pitch", "pictures by height")):
        bins = sorted((int(low), count) for low, count in coverage[axis].items())
        table.add_row(title, ", ".join(f"{low}°: {count}" for low, count in bins))
    table.add_row("moving", f"{coverage['active']} {'joints' if 'height_m' in report else 'expressions'}")
    table.add_row("landmarks", f"{report['landmark_residual_mm']} mm from the fitted template (median)")
    if "flame" in report:
        table.add_row(
            "FLAME", f"in {report['flame']['folder']}/, {report['flame']['apart_mm']} mm from the template's face"
        )
    for sentence in report["film_again"]:
        table.add_row("film again", escape(sentence))
    console = Console()
    console.print(table)
    console.print(f"Look at it: {picture}", soft_wrap=True)
    console.print(f"Train on it: effigy train --capture {output}", soft_wrap=True)
