"""What the errand worker does with a video to be tracked, and with a face to be followed live."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from shared.desk_messages import Finding
from shared.errors import BadCapture, BadConfig
from shared.track_messages import StartDrive, StartTrack

TALLEST_M = 3.0


class Teller(Protocol):
    """Tells the server how it goes; both words raise Cancelled once it was told to stop."""

    def say(self, message: str) -> None:
        """What is being done."""

    def count(self, done: int, total: int) -> None:
        """How much of it is done."""

    def picture(self, image: Any) -> None:
        """A picture of what was found."""

    def done(self, message: str, **more: Any) -> None:
        """The last word."""


def track_video(asked: StartTrack, teller: Teller) -> None:
    """Make the capture, as `effigy capture track` does; what was stopped goes on where it was. Raises EffigyError."""
    import numpy as np
    from PIL import Image

    from backend.body_tracking_run import STAGES as BODY_STAGES
    from backend.body_tracking_run import BodyTrackResult, BodyTrackSettings, track_body
    from backend.cli_track import complete_report, default_output
    from backend.clip_source import FULL_FRAME_MM, open_clip
    from backend.detector import Detector
    from backend.tracker_environment import make_tracker_environment
    from backend.tracking_run import STAGES, TRACKING, TrackResult, TrackSettings, track_clip

    python = make_tracker_environment(lambda text: teller.say(text.capitalize()))
    if not asked.source:
        teller.done("The face tracker is installed")
        return
    path = Path(asked.source).expanduser()
    if not path.exists():
        raise BadCapture(f"there is no video {path}", do="Check the path; it is of the backend's machine")
    if asked.height_m and not (asked.body and 0 < asked.height_m < TALLEST_M):
        raise BadConfig(
            "The height does not fit",
            found=f"{asked.height_m:g} m of a {'whole person' if asked.body else 'head'}",
            expected=f"0 to {TALLEST_M:g} m of a whole person, 0 where it is unknown",
        )
    source = open_clip(path, asked.step)
    output = Path(asked.output).expanduser() if asked.output else default_output(path)
    focal_px = asked.focal_mm / FULL_FRAME_MM * max(source.size_px)
    common: dict[str, Any] = {
        "subject": asked.subject,
        "licence": asked.licence,
        "focal_px": max(0.0, focal_px),
        "size_px": asked.size_px,
    }
    titles = BODY_STAGES if asked.body else STAGES
    stages: list[str] = []

    def tell(stage: str, done: int, of: int) -> None:
        if stage not in stages:
            stages.append(stage)
            teller.say(titles.get(stage, stage.capitalize()))
        teller.count(done, of)

    result: TrackResult | BodyTrackResult
    with Detector(python) as detector:
        if asked.body:
            chosen = BodyTrackSettings(**common, height_m=asked.height_m)
            result = track_body(source, output, detector, chosen, tell)
        else:
            result = track_clip(source, output, detector, TrackSettings(**common), tell)
    teller.say("Checking")
    report = complete_report(result)
    with Image.open(report["picture"]) as picture:
        teller.picture(np.asarray(picture.convert("RGB")))
    findings = [Finding("focal length", "ok", f"{report['focal_px']:.0f} px ({report['focal_from']})")]
    findings += [Finding("dropped", "doubtful", f"{count}: {why}") for why, count in report["dropped"].items()]
    findings += [Finding("film again", "doubtful", sentence) for sentence in report["film_again"]]
    kept = f"{report['kept']} of {report['pictures']} pictures kept"
    teller.done(kept, findings=tuple(findings), report_folder=str(output / TRACKING), capture=str(output))


def drive(asked: StartDrive, teller: Teller) -> None:
    """Follow until told to stop, or the video ends, pushing poses to the one who asked."""
    from backend.clip_source import FULL_FRAME_MM
    from backend.detector import Detector
    from backend.live_pictures import check_live, open_live
    from backend.live_tracking import LiveTracker, Pusher, video_name
    from backend.tracker_environment import make_tracker_environment

    check_live(asked.source)
    python = make_tracker_environment(lambda text: teller.say(text.capitalize()))
    teller.say("Opening the camera" if asked.source.isdecimal() else "Opening the video")
    source = open_live(asked.source, python)
    try:
        with Detector(python) as detector:
            focal_px = asked.focal_mm / FULL_FRAME_MM * max(source.size_px)
            tracker = LiveTracker(source, detector, focal_px=max(0.0, focal_px), pictures=False)
            with Pusher(asked.address, tracker, video_name(asked.source)) as push:
                tracker.run(push, teller.say)
        teller.done(f"The video is over, {tracker.followed} pictures were followed")
    finally:
        source.close()
