"""What the Capture & Train part describes, as the backend wants it."""

from __future__ import annotations

import os
from typing import Any

import bpy

from .._shared import errors


def chosen_capture(training: Any) -> str:
    """The capture's name, or its folder as a whole path; empty where none is chosen."""
    if training.source == "EMBEDDED":
        return str(training.capture)
    return os.path.normpath(bpy.path.abspath(training.folder)) if training.folder.strip() else ""


def checked_capture(training: Any, on_this_machine: bool) -> str:
    """The same, where there can be one. Raises BadCapture. on_this_machine: the backend sees the same folders."""
    capture = chosen_capture(training)
    if not capture:
        raise errors.BadCapture("No capture was chosen", do="Choose a folder, or a capture that comes with Effigy")
    if training.source == "FOLDER" and on_this_machine and not os.path.isdir(capture):
        raise errors.BadCapture("The capture folder does not exist", found=capture, do="Choose another")
    return capture
