"""From a video of a whole person to a capture: detect, fit, judge, cut out, report; stages and resume as for faces."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from avatars.templates.opening import embedded_template, reference_of
from avatars.tracking.body_capture import body_motion, body_shape, choose_body_crop
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_fitting import BodyFit, BodyFitSettings, BodyFitter
from avatars.tracking.body_judging import BodyVerdict, before_body_fit, body_cuts, judge_body
from avatars.tracking.body_landmarks import embedded_body_landmarks
from avatars.tracking.body_model import BodyModel
from avatars.tracking.tracked_capture import capture_files
from backend.clip_source import ClipSource
from backend.detector import Detector
from backend.track_report import about_of, report_of, spread_deg
from backend.tracking_run import (
    TRACKING,
    Tell,
    TrackSettings,
    cut_out,
    detected,
    enough,
    examples_of,
    focal_of,
    images_of,
    prepare_output,
    stops_when,
    write_track,
)

DETECTIONS = "bodies"
STAGES = {"detect": "Finding the body", "fit": "Fitting the body", "cut out": "Cutting the person out"}


@dataclass(frozen=True)
class BodyTrackSettings(TrackSettings):
    """As for faces. shape_modes: how many of the body's shape modes may vary. height_m: of the person, 0 unknown."""

    shape_modes: int = 8
    height_m: float = 0.0
    body_fit: BodyFitSettings = field(default_factory=BodyFitSettings)


@dataclass(frozen=True, eq=False)
class BodyTrackResult:
    """What a run left. detections, fit and verdict are of all pictures of the clip, kept or not."""

    folder: Path
    report: dict[str, Any]
    detections: BodyDetections
    fit: BodyFit
    verdict: BodyVerdict
    model: BodyModel


def track_body(
    source: ClipSource,
    output: Path,
    detector: Detector,
    settings: BodyTrackSettings = BodyTrackSettings(),
    tell: Tell = lambda stage, done, of: None,
    stop: threading.Event | None = None,
) -> BodyTrackResult:
    """Track a clip of one whole person into the capture folder `output`.

    tell hears (stage, done, of). Running again with the same clip goes on where it stopped. Raises BadCapture where too
    few pictures can be used, BadConfig for a folder that holds something else, Cancelled once `stop` is set.
    """
    prepare_output(output, source, settings)

    check = stops_when(stop)

    def look(number: int, picture: NDArray[np.uint8]) -> BodyDetections:
        body = detector.body(picture)
        if body is None:
            return BodyDetections.of_picture(number, picture, None, None, {})
        return BodyDetections.of_picture(number, picture, body.points, body.world, body.hands, body.second)

    found = detected(source, output / TRACKING / DETECTIONS, BodyDetections, look, tell, check)
    focal_px, how, _ = focal_of(source, settings)
    body = embedded_template("body")
    model = BodyModel(body, embedded_body_landmarks(), shape_modes=settings.shape_modes)
    centre_px = (source.size_px[0] / 2, source.size_px[1] / 2)
    reasons = before_body_fit(found, source.size_px)
    used = np.array([not reason for reason in reasons], np.bool_)
    enough(int(used.sum()), reasons, whole_body=True)
    cuts = body_cuts(found)
    chosen = settings.body_fit
    if settings.height_m > 0:
        chosen = BodyFitSettings(**{**asdict(chosen), "height_m": settings.height_m})
    times_s = found.number / (source.fps * source.step)
    fitter = BodyFitter(model, found, used, centre_px, focal_px, times_s, cuts=cuts, settings=chosen)

    def fitting(share: float) -> None:
        tell("fit", round(share * len(found)), len(found))
        check()

    with threadpool_limits(1, "blas"):  # as for heads
        fit = fitter.run(fitting)
    verdict = judge_body(found, fit, source.size_px)
    rows = verdict.kept
    enough(len(rows), verdict.reason, whole_body=True)
    crop = choose_body_crop(found, rows, source.size_px, settings.size_px)
    examples = examples_of(found.number, verdict.reason)
    numbers = found.number[rows]
    cut_out(source, output, crop, numbers, examples, detector, settings, tell, check, whole_body=True)
    reference = reference_of(body.template_id, view="body", shape=body_shape(model, fit))
    told = {
        "height_m": round(model.height(fit.shape)[0], 3),
        "hands_seen": [int((found.points[rows, first, 2] > 0).sum()) for first in (33, 54)],
        "yaw_deg": spread_deg(verdict.yaw_deg[rows], (0, 100)),
    }
    report = report_of(source, found, fit, verdict, cuts, crop, how, settings, told)
    about, images = about_of(source, output, settings, "effigy-track-body"), images_of(numbers)
    motion = body_motion(fit, rows, body, reference)
    files = capture_files(motion, body, reference, crop, fit.focal_px, centre_px, images, about)
    write_track(output, files, report)
    return BodyTrackResult(output, report, found, fit, verdict, model)
