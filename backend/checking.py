"""Checking a capture and leaving the sheet and the report: the same for the command line and for errands."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avatars.captures.check import CaptureCheck

SHEET, REPORT = "capture_check.png", "capture_check.json"


def check_and_report(
    capture: str, frames: int, output: Path, *, fix: bool = False
) -> tuple[CaptureCheck, dict[str, Any], dict[str, Any]]:
    """Examine a capture (a name or a folder) and write SHEET and REPORT into `output`.

    frames: pictures looked at, at least 1. fix: write the reading that fits into the capture's own options and check
    again. Returns the check, its report as it was written, and the options that were. Raises BadConfig, BadCapture,
    BadTemplate, EnvironmentFailed.
    """
    from PIL import Image

    from avatars.captures.check import check_folder
    from avatars.captures.options import amend_options
    from avatars.files import disk_failure, write_atomically
    from shared.errors import BadConfig

    if frames < 1:
        raise BadConfig("--frames is too small", found=str(frames), expected="at least 1")
    checked = check_folder(capture, frames)
    written: dict[str, Any] = {}
    while fix and checked.options() and checked.options() != written:
        written = checked.options()
        amend_options(Path(capture).expanduser(), written)
        checked = check_folder(capture, frames)
    document = checked.as_json()
    document["sheet"] = os.fspath((output / SHEET).absolute())
    picture = io.BytesIO()
    Image.fromarray(checked.sheet).save(picture, format="PNG")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_failure(output, error) from error
    write_atomically(output / SHEET, picture.getvalue())
    write_atomically(output / REPORT, json.dumps(document, indent=1).encode())
    return checked, document, written


def recognised(capture: str) -> str:
    """What a capture is, in a sentence. Raises BadCapture.

    `INSTA folder with metrical-tracker frames: 500 pictures of 1 camera, 512 x 512 px, flame2020`.
    """
    from avatars.captures.opening import LAYOUTS, open_capture

    opened = open_capture(capture)
    cameras, first = len(set(opened.camera_names)), opened.cameras[0]
    title = LAYOUTS[opened.layout].title if opened.layout in LAYOUTS else opened.layout
    counts = f"{len(opened.images)} pictures of {cameras} camera{'s' if cameras != 1 else ''}"
    return f"{title}: {counts}, {first.width_px} x {first.height_px} px, {opened.template.template_id}"
