"""Look at a recording before anyone trains on it: does the template lie on the person, and what is never shown?

The template is drawn over a few pictures in every way the camera numbers could be meant, and compared with the masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avatars.captures.body_coverage import coverage_of
from avatars.captures.capture import Capture
from avatars.captures.coverage import Coverage
from avatars.captures.insta import read_insta
from avatars.captures.laid_over import LaidOver, PosedCapture, View, varied_images
from avatars.captures.opening import open_capture
from avatars.captures.options import OPTIONS
from avatars.captures.overlay import brightness, overlaid, projected, sheet
from avatars.captures.pairing import ShiftedNames
from avatars.captures.reading import Reading, camera_from_flame, candidates, intrinsic_candidates, intrinsics
from shared.errors import BadCapture

State = Literal["ok", "doubtful", "bad"]
COARSE_PX, FINE_PX = 160, 512
BETTER, SAME, HALF_PIXEL_GAIN, SHIFT_GAIN = 0.03, 0.01, 0.002, 0.01
FITS, LAID_OVER, EXACT = 0.55, 0.3, 0.95
"""Overlap above which template and mask surely belong together, above which they may, and with no hair at all."""
FULL_MASK, EMPTY_MASK = 0.97, 0.01
WIDEST_DEG, NARROWEST_DEG = 75.0, 5.0
NEAREST_M, FARTHEST_M = 0.15, 6.0
SHEET_PICTURES = 6
KINDS_OF_K = {
    "as_is": "as it is",
    "transposed": "transposed",
    "swapped": "with x and y exchanged",
    "half_pixel": "half a pixel off",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    state: ok, doubtful (training is possible) or bad (mend it first). options: what effigy.json should say to mend it.
    """

    name: str
    state: State
    found: str
    do: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CaptureCheck:
    """What was found.

    fits: every reading that was tried and its mean overlap, as read first. sheet: [H, W, 3] uint8.
    """

    capture: str
    layout: str
    pictures: tuple[str, ...]
    findings: tuple[Finding, ...]
    fits: tuple[tuple[Reading, float], ...]
    coverage: Coverage
    sheet: NDArray[np.uint8]

    def state(self) -> State:
        """The worst of the findings."""
        states = [finding.state for finding in self.findings]
        return "bad" if "bad" in states else "doubtful" if "doubtful" in states else "ok"

    def options(self) -> dict[str, Any]:
        """What effigy.json should say so that the findings are mended, all of them together."""
        found: dict[str, Any] = {}
        for finding in self.findings:
            for key, value in finding.options.items():
                found[key] = found.get(key, {}) | value if isinstance(value, Mapping) else value
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything but the sheet."""
        return {
            "capture": self.capture,
            "layout": self.layout,
            "state": self.state(),
            "pictures": list(self.pictures),
            "findings": [asdict(finding) for finding in self.findings],
            "readings": [{**asdict(reading), "overlap": round(value, 4)} for reading, value in self.fits],
            "coverage": asdict(self.coverage),
        }


def check_folder(name_or_folder: str | Path, frames: int = 8) -> CaptureCheck:
    """Examine a recording, also one whose pictures and frames are named off by one: both ways to pair them are tried.

    Raises BadCapture for what cannot be read at all, BadTemplate.
    """
    try:
        return check_capture(open_capture(name_or_folder), frames)
    except ShiftedNames as shifted:
        return _paired_both_ways(Path(name_or_folder).expanduser(), shifted, frames)


def _paired_both_ways(folder: Path, shifted: ShiftedNames, frames: int) -> CaptureCheck:
    ways: tuple[Literal["order", "name"], ...] = ("order", "name")
    checks: dict[str, CaptureCheck] = {}
    for way in ways:
        try:
            checks[way] = check_capture(read_insta(folder, way), frames)
        except ShiftedNames:
            continue
        except BadCapture:
            if way == "name" and not checks:
                raise
    best = max(checks, key=lambda way: checks[way].fits[0][1])
    overlaps = ", ".join(f"by {way} {check.fits[0][1]:.3f}" for way, check in checks.items())
    rest = [finding for finding in checks[best].findings if finding.name != "pairing"]
    own = next(finding for finding in checks[best].findings if finding.name == "pairing")
    text = f"{shifted.what}; overlap when paired {overlaps}"
    if own.state == "bad":
        pairing = Finding("pairing", "bad", text, shifted.do)
    else:
        pairing = Finding("pairing", "bad", text, *_advice(checks[best].layout, {"pairing": best}))
    return replace(checks[best], findings=(pairing, *rest))


def check_capture(capture: Capture, frames: int = 8) -> CaptureCheck:
    """Examine `frames` pictures of a capture, at least two.

    Raises BadCapture for a picture that cannot be read, BadTemplate.
    """
    chosen = varied_images(capture, max(2, frames))
    posed = PosedCapture(capture)
    views = [posed.view(index) for index in chosen]
    findings = [_notes(capture)]
    findings += [_focal(capture, views), _distance(capture, views), _masks(capture, chosen)]
    laid = [LaidOver(capture, posed.faces, view, COARSE_PX) for view in views]
    coarse = [(one, _mean([item.overlap(one) for item in laid])) for one in candidates(capture.reading)]
    findings.append(_axes(capture, coarse))
    best = max(coarse, key=lambda pair: pair[1])[0] if findings[-1].state == "bad" else capture.reading
    fine = [LaidOver(capture, posed.faces, view, FINE_PX) for view in views]
    inner = [(one, _mean([item.overlap(one) for item in fine])) for one in intrinsic_candidates(best)]
    findings += [_lens(capture, best, inner), _pairing(capture, posed, fine, best)]
    coverage = coverage_of(capture)
    findings.append(_shown(coverage, wrong_cameras=best != capture.reading))
    best = max(inner, key=lambda pair: pair[1])[0] if findings[-3].state == "bad" else best
    fits = tuple(dict(coarse + inner).items())
    drawn = _sheet(capture, posed, views[:SHEET_PICTURES], best, dict(fits), findings)
    names = tuple(f"{capture.images[i].file.parent.name}/{capture.images[i].file.name}" for i in chosen)
    return CaptureCheck(capture.name, capture.layout, names, tuple(findings), fits, coverage, drawn)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _notes(capture: Capture) -> Finding:
    counts = ", ".join(f"{len(capture.split(name))} {name}" for name in ("train", "val", "test") if capture.split(name))
    first = f"{len(capture.images)} pictures ({counts}), {len(capture.motion)} moments, {capture.template.template_id}"
    doubts = [note for note in capture.notes if "no partner" in note]
    return Finding("recording", "doubtful" if doubts else "ok", ". ".join((first, *capture.notes)))


def _focal(capture: Capture, views: Sequence[View]) -> Finding:
    """Whether K could belong to a real lens."""
    worst: list[str] = []
    angles = []
    for camera in {id(c): c for c in (capture.cameras[capture.images[v.image].camera] for v in views)}.values():
        wide = float(np.degrees(2 * np.arctan(max(camera.width_px, camera.height_px) / (2 * camera.K[0, 0]))))
        angles.append(wide)
        off = np.abs(camera.K[:2, 2] / (camera.width_px, camera.height_px) - 0.5).max()
        if not NARROWEST_DEG < wide < WIDEST_DEG:
            worst.append(f"an angle of view of {wide:.0f} degrees")
        if abs(camera.K[0, 0] / camera.K[1, 1] - 1) > 0.03:
            worst.append(f"focal lengths of {camera.K[0, 0]:.0f} and {camera.K[1, 1]:.0f} px")
        if off > 0.2:
            worst.append(f"an optical axis at {camera.K[0, 2]:.0f}, {camera.K[1, 2]:.0f} px")
    found = f"angle of view {min(angles):.1f} to {max(angles):.1f} degrees"
    if worst:
        return Finding(
            "focal length", "doubtful", f"{found}; unusual: {worst[0]}", "Check K and the size of the pictures"
        )
    return Finding("focal length", "ok", found)


def _distance(capture: Capture, views: Sequence[View]) -> Finding:
    depths, sizes = [], []
    for view in views:
        pixels = projected(
            view.vertices, camera_from_flame(view.matrix, capture.reading), intrinsics(view.K, capture.reading)
        )
        depths.append(float(np.median(pixels[:, 2])))
        inside = pixels[(pixels[:, 2] > 0) & np.isfinite(pixels).all(1), :2]
        sizes.append(float(np.ptp(inside[:, 1])) / view.size[1] if len(inside) else 0.0)
    high = f"{min(sizes):.0%} to {max(sizes):.0%} of the picture's height"
    who = "body" if capture.kind == "body" else "head"
    found = f"{who} at {min(depths):.2f} to {max(depths):.2f} m, {high}"
    if min(depths) <= 0:
        return Finding("distance", "bad", found, f"The {who} lies behind the camera: see the axes")
    if min(depths) < NEAREST_M or max(depths) > FARTHEST_M:
        return Finding("distance", "doubtful", found, "Are translations in metres?")
    return Finding("distance", "ok", found)


def _masks(capture: Capture, chosen: Sequence[int]) -> Finding:
    shares, soft = [], []
    for index in chosen:
        size = capture.cameras[capture.images[index].camera]
        factor = min(1.0, COARSE_PX / max(size.width_px, size.height_px))
        small = max(1, round(size.width_px * factor)), max(1, round(size.height_px * factor))
        alpha = capture.rgba(index, small)[..., 3]
        shares.append(float((alpha > 127).mean()))
        soft.append(float(((alpha > 12) & (alpha < 243)).mean()))
    found = f"covers {min(shares):.0%} to {max(shares):.0%} of the pictures, {_mean(soft):.1%} half transparent"
    bad = [i for i, share in zip(chosen, shares, strict=True) if not EMPTY_MASK < share < FULL_MASK]
    if bad:
        name = capture.images[bad[0]].file.name
        what = "is empty" if shares[list(chosen).index(bad[0])] <= EMPTY_MASK else "covers everything"
        return Finding("mask", "bad", f"{found}; that of {name} {what}", "Mask the pictures first")
    return Finding("mask", "ok", found)


def _axes(capture: Capture, fits: Sequence[tuple[Reading, float]]) -> Finding:
    """The verdict over readings of the matrix; the first is as read."""
    own, value = fits[0]
    best, most = max(fits, key=lambda pair: pair[1])
    if most - value > BETTER:
        return Finding(
            "camera axes",
            "bad",
            f"read as {own.sentence()} the template covers {value:.2f} of the masks, as {best.sentence()} {most:.2f}",
            *_advice(capture.layout, {"reading": {"matrix": best.matrix, "axes": best.axes, "up": best.up}}),
        )
    if value < LAID_OVER:
        return Finding(
            "camera axes",
            "bad",
            f"in no reading does the template lie over the masks (at most {most:.2f})",
            "Look at the sheet: are pictures, tracking and template of one person and one run?",
        )
    alike = [reading.sentence() for reading, other in fits[1:] if value - other < SAME]
    found = (
        f"{own.sentence()}: overlap {value:.2f}, the next best reading {max((v for _, v in fits[1:]), default=0):.2f}"
    )
    if alike:
        return Finding(
            "camera axes", "doubtful", f"{found}; these pictures do not tell it from {alike[0]}", "Check more pictures"
        )
    if value < FITS:
        return Finding("camera axes", "doubtful", found, "Look at the sheet: hair and clothes may explain it")
    return Finding("camera axes", "ok", found)


def _advice(layout: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What to do, in words and as options."""
    if layout == "effigy":
        return "Export the capture again with cameras as docs/formats.md says", {}
    return f"Put {json.dumps(options)} into {OPTIONS} (or check again with --fix)", options


def _lens(capture: Capture, own: Reading, fits: Sequence[tuple[Reading, float]]) -> Finding:
    """The verdict over readings of K."""
    value = fits[0][1]
    best, most = max(fits, key=lambda pair: pair[1])
    plain = {
        "as_is": "as it is",
        "transposed": "transposed",
        "swapped": "with x and y exchanged",
        "half_pixel": "half a pixel off",
    }
    found = f"K {plain[own.intrinsics]}: overlap {value:.3f}"
    subtle = "half_pixel" in (best.intrinsics, own.intrinsics)  # hair on one side alone gains as much
    if most - value > (HALF_PIXEL_GAIN if subtle else BETTER) and (not subtle or most > EXACT):
        state: State = "doubtful" if best.intrinsics == "half_pixel" else "bad"
        return Finding(
            "camera matrix K",
            state,
            f"{found}; {KINDS_OF_K[best.intrinsics]} {most:.3f}",
            *_advice(capture.layout, {"reading": {"intrinsics": best.intrinsics}}),
        )
    return Finding("camera matrix K", "ok", found)


def _pairing(capture: Capture, posed: PosedCapture, laid: Sequence[LaidOver], reading: Reading) -> Finding:
    """Whether pictures fit the moment before or after better than their own."""
    gains: dict[int, list[float]] = {-1: [], 1: []}
    for item in laid:
        index = item.view.image
        own = item.overlap(reading)
        for step, found in gains.items():
            at = capture.images[index].frame + step
            if 0 <= at < len(capture.motion) and _same_recording(capture, index, at):
                found.append(item.overlap(reading, posed.view(index, at)) - own)
    means = {step: _mean(found) for step, found in gains.items() if found}
    if not means:
        return Finding("pairing", "ok", "one moment only")
    step, gain = max(means.items(), key=lambda pair: pair[1])
    when = "after" if step > 0 else "before"
    if gain > SHIFT_GAIN and float(np.mean(np.array(gains[step]) > 0)) > 0.75:
        return Finding(
            "pairing",
            "bad",
            f"pictures fit the moment {when} their own better, by {gain:.3f} of overlap: names are off by one",
            "Rename the pictures, or pair them in order with effigy.json",
        )
    return Finding("pairing", "ok", f"each picture fits its own moment; the one {when} it {-gain:.3f} less")


def _same_recording(capture: Capture, index: int, frame: int) -> bool:
    own = capture.images[index].parameters
    if own is None:
        return True
    other = next((image.parameters for image in capture.images if image.frame == frame), None)
    return other is None or other.parent == own.parent


def _shown(coverage: Coverage, *, wrong_cameras: bool) -> Finding:
    if wrong_cameras:
        return Finding("coverage", "doubtful", "not known while the cameras are read wrongly", "Check again afterwards")
    yaw = f"yaw {min(coverage.yaw, default=0)} to {max(coverage.yaw, default=0) + 15}"
    pitch = f"pitch {min(coverage.pitch, default=0)} to {max(coverage.pitch, default=0) + 15} degrees"
    moving = "joints" if "twist_deg" in coverage.ranges else "expressions"
    found = f"{yaw}, {pitch}, {coverage.active} {moving} move"
    if "jaw_deg" in coverage.ranges:
        found += f", the jaw opens to {coverage.ranges['jaw_deg'][1]:.0f} degrees"
    if coverage.held_out_beyond > 0.02:
        found += f", {coverage.held_out_beyond:.0%} of the held-out numbers lie beyond those of training"
    if coverage.missing:
        return Finding("coverage", "doubtful", f"{found}; {'; '.join(coverage.missing)}", "Record what is missing")
    return Finding("coverage", "ok", found)


def _sheet(
    capture: Capture,
    posed: PosedCapture,
    views: Sequence[View],
    best: Reading,
    fits: dict[Reading, float],
    findings: Sequence[Finding],
) -> NDArray[np.uint8]:
    """The template over the pictures as read, and below in the reading that fits better, where there is one."""
    laid = [LaidOver(capture, posed.faces, view, FINE_PX) for view in views]

    def row(reading: Reading) -> list[tuple[str, NDArray[np.uint8]]]:
        pictures = []
        for item in laid:
            camera = camera_from_flame(item.view.matrix, reading)
            lit = brightness(item.view.vertices, posed.faces, camera)
            name = capture.images[item.view.image].file.name
            drawn = overlaid(item.picture, item.pixels(reading), posed.faces, lit)
            pictures.append((f"{name}  {item.overlap(reading):.2f}", drawn))
        return pictures

    def heading(one: Reading) -> str:
        return f"{one.sentence()}  (overlap {fits.get(one, 0):.2f})"

    rows = [("As read: " + heading(capture.reading), row(capture.reading))]
    if best != capture.reading:
        rows.append(("Fits better: " + heading(best), row(best)))
    bad = [f"{finding.name}: {finding.found}" for finding in findings if finding.state == "bad"]
    title = [f"{capture.name}: template tinted, its edge red, the mask's edge green", *(text[:150] for text in bad[:2])]
    return sheet(title, rows)
