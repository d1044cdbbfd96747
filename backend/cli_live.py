"""`live`: a face followed while it is filmed, pushed to a live training or recorded as a motion; `benchmark live`."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import BadConfig

if TYPE_CHECKING:
    from backend.live_tracking import LiveFrame, LiveTracker

PUSH_TO = "tcp://127.0.0.1:47620"
ENOUGH_FPS = 15.0


def add_live(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "live",
        help="follow a face in a camera or a video while it is filmed",
        description="Look at the camera with a calm face for two or three seconds; then talk. The pictures go to a "
        "live training that listens (effigy online --listen ADDRESS; `effigy online --live SOURCE` does both), or the "
        "performance is recorded as a motion that avatars take. Ctrl-C ends it. docs/tracking.md",
    )
    parser.add_argument("source", help="a camera's number (0 is the first), or a video file, played at its own speed")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--to", metavar="ADDRESS", help=f"push pictures there (default: {PUSH_TO})")
    what.add_argument("--record", type=Path, metavar="FILE.npz", help="write the performance there instead")
    parser.add_argument("--fps", type=float, default=25.0, help="of the recording (default: %(default)s)")
    parser.add_argument("--focal-mm", type=float, default=0.0, help="lens in mm of a 36 mm wide picture")
    parser.add_argument("--calm", type=float, default=2.5, help="seconds of the calm look (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so long (default: with the source)")
    parser.add_argument("--subject", default="", help="who it is")
    parser.add_argument("--licence", default="not stated", help="carried into the avatar")
    parser.add_argument("--parent-pid", type=int, default=0, help=argparse.SUPPRESS)
    parser.set_defaults(run=live)


def add_live_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare `benchmark live`."""
    parser = kinds.add_parser("live", help="pictures a second that are followed live, and what they cost in quality")
    parser.add_argument("--capture", default="talking_head", help="of one camera, exact (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=300, help="only so many from the first on (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_live)


def live(arguments: argparse.Namespace) -> int:
    """Follow, and say how it is."""
    from rich.console import Console

    from avatars.tracking.live import LiveSettings
    from backend.cli_serve import parent_watch
    from backend.clip_source import FULL_FRAME_MM
    from backend.detector import Detector
    from backend.interrupts import first_interrupt
    from backend.live_pictures import check_live, open_live
    from backend.live_tracking import LiveTracker, Pusher, video_name
    from backend.tracker_environment import make_tracker_environment

    if arguments.focal_mm < 0 or not arguments.fps > 0 or not 0.3 <= arguments.calm <= 30:
        raise BadConfig("--focal-mm and --fps must be positive, and --calm between 0.3 and 30 s")
    check_live(arguments.source)
    console = Console(stderr=True)
    python = make_tracker_environment(lambda text: console.print(f"{text} …"))
    with contextlib.ExitStack() as stack:
        source = open_live(arguments.source, python)
        stack.callback(source.close)
        detector = stack.enter_context(Detector(python))
        focal_px = arguments.focal_mm / FULL_FRAME_MM * max(source.size_px)
        calm = LiveSettings(start_s=arguments.calm)
        tracker = LiveTracker(source, detector, focal_px=focal_px, pictures=arguments.record is None, settings=calm)
        kept: list[LiveFrame] = []
        pusher = None
        if arguments.record is None:
            name = arguments.subject or video_name(arguments.source)
            pusher = stack.enter_context(Pusher(arguments.to or PUSH_TO, tracker, name, arguments.licence))
        began_s, orphaned = time.monotonic(), parent_watch(arguments.parent_pid)
        status = stack.enter_context(console.status("Looking for a face"))
        asked = stack.enter_context(first_interrupt("Ending …"))

        def take(frame: LiveFrame) -> None:
            if pusher is None:
                kept.append(frame)
            else:
                pusher(frame)

        def tell(said: str) -> None:
            status.update(said if pusher is None else f"{said}, {pusher.sent} pushed, {pusher.dropped} not taken")
            late = 0 < arguments.seconds < time.monotonic() - began_s
            if asked.is_set() or late or orphaned():
                tracker.stop.set()

        tracker.run(take, tell)
    for line in _summary(tracker):
        console.print(line, highlight=False)
    if pusher is not None:
        console.print(f"Pushed: {pusher.sent}; not taken in time: {pusher.dropped}", highlight=False)
        return 0
    return _write(arguments, tracker, kept, console)


def _write(arguments: argparse.Namespace, tracker: LiveTracker, kept: list[LiveFrame], console: Any) -> int:
    """The recording as a motion."""
    from avatars.tracking.recording import recorded_motion, write_motion
    from shared.errors import BadCapture

    if len(kept) < 2:
        raise BadCapture("Nothing was recorded: no face was followed", do="Look at the camera for three seconds first")
    motion = recorded_motion([(frame.track.time_s, frame.track.pose) for frame in kept], arguments.fps)
    write_motion(arguments.record.expanduser(), motion, tracker.bust)
    console.print(f"Recorded {len(motion)} frames at {arguments.fps:g} a second: {arguments.record}", soft_wrap=True)
    return 0


def _summary(tracker: LiveTracker) -> list[str]:
    from avatars.tracking.judging import REASONS

    reasons = dict(REASONS) | {"start": "the calm look at the start"}
    lines = [f"Followed: {tracker.followed} pictures; left out by the clock: {tracker.source.dropped}"]
    lines += [f"No pose in {count}: {reasons[reason]}" for reason, count in tracker.fitter.dropped.items()]
    return lines


def benchmark_live(arguments: argparse.Namespace) -> int:
    """Follow a video of known truth as fast as it goes, pushing to a socket; print pictures a second and errors."""
    from rich.console import Console

    from avatars.captures.opening import open_capture
    from avatars.online.push import PushSource
    from avatars.tracking.live_measuring import measure_live
    from backend.cli_track_benchmark import film
    from backend.detector import Detector
    from backend.live_pictures import VideoAtItsSpeed
    from backend.live_tracking import LiveTracker, Pusher
    from backend.tracker_environment import make_tracker_environment

    truth = open_capture(arguments.capture)
    if len(truth.cameras) != 1:
        raise BadConfig(f"{arguments.capture} is no recording of one camera", expected="talking_head")
    images = list(range(min(arguments.frames, len(truth.images))))
    python = make_tracker_environment()
    console = Console()
    kept: list[Any] = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        video = Path(temporary) / "video.mp4"
        film(truth, images, video, truth.motion.fps)
        receiver = PushSource("tcp://127.0.0.1:0")
        stack.callback(receiver.close)
        source = VideoAtItsSpeed(video, paced=False)
        stack.callback(source.close)
        detector = stack.enter_context(Detector(python))
        tracker = LiveTracker(source, detector, focal_px=float(truth.cameras[0].K[0, 0]))
        pusher = stack.enter_context(Pusher(receiver.address, tracker, "benchmark"))
        times_s: list[float] = []

        def take(frame: Any) -> None:
            pusher(frame)
            while receiver.next(0.0) is not None:
                pass
            kept.append(frame)
            times_s.append(time.perf_counter())

        tracker.run(take)
    following = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    numbers = [round(frame.track.time_s * truth.motion.fps) for frame in kept]
    report: dict[str, Any] = {
        "pictures_a_second": round(following, 1),
        "followed": len(kept),
        "dropped": dict(tracker.fitter.dropped),
        "ms_a_picture": {
            stage: round(1e3 * spent / max(1, len(images)), 1) for stage, spent in tracker.spent_s.items()
        },
        "sent": pusher.sent,
        **measure_live([frame.track for frame in kept], numbers, truth, tracker.bust),
    }
    console.print_json(json.dumps(report))
    console.print(f"{following:.1f} pictures a second, {following / ENOUGH_FPS:.1f} times the {ENOUGH_FPS:g} wanted")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0
