"""From a video to a capture: detect, fit, judge, cut out, report. Each stage keeps what it made and can be resumed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from avatars.files import disk_failure, write_atomically
from avatars.templates.opening import embedded_template, reference_of
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.detections import NO_HANDS, Detections
from avatars.tracking.fitting import ClipFit, ClipFitter, FitSettings
from avatars.tracking.judging import REASONS, Verdict, before_fit, confidence, find_cuts, judge, stretches
from avatars.tracking.landmark_model import LandmarkModel
from avatars.tracking.refining import Framing, RefineSettings, refine_clip
from avatars.tracking.tracked_capture import (
    Crop,
    capture_files,
    choose_crop,
    splits,
    template_shape,
    tracked_motion,
)
from backend.clip_source import FULL_FRAME_MM, ClipSource
from backend.detector import Detector
from backend.track_report import about_of, report_of, spread_deg
from shared.errors import BadCapture, BadConfig, Cancelled

CHUNK = 64
FEWEST = 10
MOST_EXAMPLES, EXAMPLE_PX = 6, 256
USUAL_35MM = 32.0
"""A phone's main camera when it films: 26 mm, less the margin that its steadying cuts off."""
FILM_FACE = "Film one person's face from the front to half sideways, close and in even light"
FILM_BODY = "Film one person from head to feet, the camera still, in even light"
TRACKING, SOURCE, REPORT = "tracking", "source.json", "report.json"
STAGES = {
    "detect": "Finding the face",
    "fit": "Fitting the head",
    "cut out": "Cutting the person out",
    "refine": "Laying the head to the pictures",
}
Tell = Callable[[str, int, int], None]
Kept = TypeVar("Kept", Detections, BodyDetections)


@dataclass(frozen=True)
class TrackSettings:
    """How a clip becomes a capture. focal_px: 0 for what the file says, else a guess. size_px: longest side stored.
    identity_modes: shape of the head from landmarks, which are poor at it. refine: how the fit is laid to the pictures
    then. Names go into the capture."""

    name: str = ""
    subject: str = ""
    licence: str = "not stated"
    focal_px: float = 0.0
    size_px: int = 512
    identity_modes: int = 8
    webp_quality: int = 92
    fit: FitSettings = field(default_factory=FitSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)


@dataclass(frozen=True, eq=False)
class TrackResult:
    """What a run left. detections, fit and verdict are of all pictures of the clip, kept or not."""

    folder: Path
    report: dict[str, Any]
    detections: Detections
    fit: ClipFit
    verdict: Verdict
    model: LandmarkModel


def track_clip(
    source: ClipSource,
    output: Path,
    detector: Detector,
    settings: TrackSettings = TrackSettings(),
    tell: Tell = lambda stage, done, of: None,
    stop: threading.Event | None = None,
) -> TrackResult:
    """Track a clip into the capture folder `output`, the detector being asked for every picture.

    tell hears (stage, done, of). Running again with the same clip goes on where it stopped. Raises BadCapture where too
    few pictures can be used, BadConfig for a folder that holds something else, Cancelled once `stop` is set.
    """
    work = output / TRACKING
    prepare_output(output, source, settings)

    check = stops_when(stop)

    def look(number: int, picture: NDArray[np.uint8]) -> Detections:
        faces = detector.faces(picture)
        return Detections.of_picture(number, picture, faces, detector.hands(picture) if len(faces) else NO_HANDS)

    found = detected(source, work / "detections", Detections, look, tell, check)
    focal_px, how, known = focal_of(source, settings)
    where, response = embedded_correspondences()
    body, bust = embedded_template("body"), embedded_template("bust")
    model = LandmarkModel(body, where, identity_modes=settings.identity_modes, response=response)
    centre_px = (source.size_px[0] / 2, source.size_px[1] / 2)
    reasons = before_fit(found, source.size_px)
    usable = np.array([not reason for reason in reasons])
    enough(usable.sum(), reasons)
    landmarks = np.where(usable[:, None, None], found.landmarks, np.nan).astype(np.float64)
    cuts = find_cuts(found)
    fitter = ClipFitter(
        model,
        landmarks,
        centre_px,
        focal_px,
        found.number / (source.fps * source.step),
        focal_known=known,
        cuts=cuts,
        settings=settings.fit,
    )

    def fitting(share: float) -> None:
        tell("fit", round(share * len(found)), len(found))
        check()

    with threadpool_limits(1, "blas"):  # many small matrices: more threads wait for each other more than they compute
        fit = fitter.run(fitting)
    verdict = judge(found, fit, source.size_px)
    rows = verdict.kept
    enough(len(rows), verdict.reason)
    crop = choose_crop(found.landmarks[rows], source.size_px, settings.size_px)
    cut_out(
        source,
        output,
        crop,
        found.number[rows],
        examples_of(found.number, verdict.reason),
        detector,
        settings,
        tell,
        check,
    )

    def refining(share: float) -> None:
        tell("refine", round(share * len(rows)), len(rows))
        check()

    framing = Framing(crop.left, crop.top, crop.stored_px / crop.side_px)
    with threadpool_limits(1, "blas"):
        fit = refine_clip(
            fitter, rows, lambda row: read_cut_out(output, int(found.number[row])), framing, settings.refine, refining
        )
    reference = reference_of(body.template_id, shape=template_shape(model, fit))
    turned = {
        "yaw_deg": spread_deg(verdict.yaw_deg[rows], (1, 99)),
        "pitch_deg": spread_deg(verdict.pitch_deg[rows], (1, 99)),
    }
    report = report_of(source, found, fit, verdict, cuts, crop, how, settings, turned)
    about, images = about_of(source, output, settings, "effigy-track"), images_of(found.number[rows])
    motion = tracked_motion(fit, rows, bust, reference)
    trust = confidence(fit.residual_m[rows], verdict.yaw_deg[rows])
    files = capture_files(motion, bust, reference, crop, fit.focal_px, centre_px, images, about, trust)
    write_track(output, files, report)
    return TrackResult(output, report, found, fit, verdict, model)


def stops_when(stop: threading.Event | None) -> Callable[[], None]:
    """What raises Cancelled once `stop` is set."""

    def check() -> None:
        if stop is not None and stop.is_set():
            raise Cancelled("Tracking was stopped", do="Run the same command to go on")

    return check


def prepare_output(output: Path, source: ClipSource, settings: TrackSettings) -> None:
    """Make the folder, or go on in one of the same clip."""
    note = output / TRACKING / SOURCE
    if settings.size_px < 64:
        raise BadConfig("--size is too small", found=str(settings.size_px), expected="at least 64 px")
    try:
        if output.is_dir() and any(output.iterdir()):
            held = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
            if held.get("identity") != source.identity():
                raise BadConfig(
                    f"{output} holds {'the track of another clip' if held else 'other files'}",
                    do="Choose another --output, or delete that folder",
                )
        (output / TRACKING / "detections").mkdir(parents=True, exist_ok=True)
        (output / "images").mkdir(exist_ok=True)
    except OSError as error:
        raise disk_failure(output, error) from error
    except ValueError as error:
        raise BadConfig(f"{note} is damaged", found=str(error), do="Delete that folder and track again") from error
    write_atomically(note, json.dumps({"identity": source.identity(), "source": str(source.path)}).encode())


def detected(
    source: ClipSource,
    folder: Path,
    kind: type[Kept],
    look: Callable[[int, NDArray[np.uint8]], Kept],
    tell: Tell,
    check: Callable[[], None],
) -> Kept:
    """Detections of the whole clip, those of earlier runs read from their files. look: what a picture of the video, by
    its number, shows. Raises BadCapture for a clip without pictures, and what `look` and `check` raise."""
    folder.mkdir(exist_ok=True)
    parts: list[Kept] = [kind.read(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    if (folder / "complete").is_file():
        return kind.joined(parts)
    done = sum(len(part) for part in parts)
    fresh: list[Kept] = []

    def keep() -> None:
        parts.append(kind.joined(fresh))
        parts[-1].write(folder / f"{len(parts) - 1:05d}.npz")
        fresh.clear()

    for number, picture in source.pictures_from(done):
        check()
        fresh.append(look(number, picture))
        done += 1
        tell("detect", done, max(done, source.pictures))
        if len(fresh) == CHUNK:
            keep()
    if fresh:
        keep()
    if not parts:
        raise BadCapture(f"there is no picture in {source.path.name}")
    (folder / "complete").touch()
    return kind.joined(parts)


def focal_of(source: ClipSource, settings: TrackSettings) -> tuple[float, str, bool]:
    """Focal length px, where it is from, and whether it is known."""
    longest = max(source.size_px)
    if settings.focal_px > 0:
        return settings.focal_px, "given", True
    if source.focal_35mm > 0:
        return source.focal_35mm / FULL_FRAME_MM * longest, f"the file says {source.focal_35mm:g} mm", True
    guess = USUAL_35MM / FULL_FRAME_MM * longest
    return guess, f"guessed from a phone's usual {USUAL_35MM:g} mm: give --focal-mm if you know it", False


def enough(count: int, reasons: tuple[str, ...], *, whole_body: bool = False) -> None:
    """Raise BadCapture with the commonest reasons where too few pictures are left."""
    if count >= FEWEST:
        return
    worst = Counter(reason for reason in reasons if reason).most_common(2)
    raise BadCapture(
        f"Only {count} of {len(reasons)} pictures can be used",
        found="; ".join(f"{REASONS[name]} in {times}" for name, times in worst),
        expected=f"at least {FEWEST}",
        do=FILM_BODY if whole_body else FILM_FACE,
    )


def picture_name(number: int) -> str:
    """Where a picture is stored in the capture."""
    return f"images/{number:06d}.webp"


def read_cut_out(output: Path, number: int) -> NDArray[np.uint8]:
    """A picture that `cut_out` wrote, [H, W, 4] with straight colours. Raises BadCapture for one that is damaged."""
    from PIL import Image

    path = output / picture_name(number)
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise BadCapture(f"{path.name} cannot be read", found=str(error), do="Delete it and track again") from error


def examples_of(numbers: NDArray[np.int64], reason: tuple[str, ...]) -> dict[int, str]:
    """A few dropped pictures, number in the video -> why: the middle one of the longest of each reason, then others."""
    chosen: dict[int, str] = {}
    runs = stretches(numbers, reason, int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1)
    runs.sort(key=lambda run: -int(str(run["pictures"])))
    first = [run for place, run in enumerate(runs) if run["why"] not in [other["why"] for other in runs[:place]]]
    for run in first + [run for run in runs if run not in first]:
        middle = (int(str(run["from"])) + int(str(run["to"]))) // 2
        number = int(numbers[np.abs(numbers - middle).argmin()])
        chosen[number] = str(run["why"])
        if len(chosen) == MOST_EXAMPLES:
            break
    return chosen


def cut_out(
    source: ClipSource,
    output: Path,
    crop: Crop,
    numbers: NDArray[np.int64],
    examples: dict[int, str],
    detector: Detector,
    settings: TrackSettings,
    tell: Tell,
    check: Callable[[], None],
    *,
    whole_body: bool = False,
) -> None:
    """Write the kept pictures, cropped and with the person's mask as alpha; those there from the same crop stay."""
    from PIL import Image

    note = output / TRACKING / "crop.json"
    text = json.dumps(crop.as_json() | {"webp_quality": settings.webp_quality})
    if not note.is_file() or note.read_text(encoding="utf-8") != text:
        for path in (output / "images").glob("*.webp"):
            path.unlink()
        write_atomically(note, text.encode())
    wanted = set(numbers.tolist())
    shown = output / TRACKING / "dropped"
    shown.mkdir(exist_ok=True)
    done = 0
    for number, picture in source.pictures_from():
        if number in examples:
            small = Image.fromarray(picture)
            small.thumbnail((EXAMPLE_PX, EXAMPLE_PX))
            small.save(shown / f"{number:06d}.png")
        if number not in wanted:
            continue
        check()
        path = output / picture_name(number)
        if not path.is_file():
            box = (crop.left, crop.top, crop.left + crop.side_px, crop.top + crop.height_px)
            image = Image.fromarray(picture).resize(crop.stored_size, Image.Resampling.LANCZOS, box=box)
            mask = detector.mask(np.asarray(image), **({"whole_body": True} if whole_body else {}))
            image.putalpha(Image.fromarray(mask))
            partial = path.with_suffix(".partial")
            try:
                image.save(partial, format="WEBP", quality=settings.webp_quality)
                partial.replace(path)
            except OSError as error:
                raise disk_failure(path, error) from error
        done += 1
        tell("cut out", done, len(wanted))


def images_of(numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Entries of capture.json for the kept pictures, by their numbers in the video."""
    return [
        {"file": picture_name(int(number)), "camera": 0, "frame": frame, "split": split}
        for frame, (number, split) in enumerate(zip(numbers, splits(len(numbers)), strict=True))
    ]


def write_track(output: Path, files: Mapping[str, bytes], report: Mapping[str, Any]) -> None:
    """The capture's files and the report. Raises what `write_atomically` raises."""
    for name, content in files.items():  # capture.json last: its presence means a whole capture
        write_atomically(output / name, content)
    write_atomically(output / TRACKING / REPORT, json.dumps(report, indent=1).encode())
