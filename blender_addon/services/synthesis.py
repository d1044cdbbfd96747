"""The one synthesis of a capture this Blender may have running."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import bpy

from .._shared import errors
from ..logic.capture_child import CaptureChild
from .preferences import ADDON_NAME


class Synthesis:
    """Holds the child process, if any; one instance per registered add-on."""

    def __init__(self) -> None:
        self.child: CaptureChild | None = None

    def start(self, folder: Path, options: Sequence[str]) -> CaptureChild:
        """Start one. Raises EnvironmentFailed where one runs already or Blender cannot be started."""
        if self.child is not None and self.child.running:
            raise errors.EnvironmentFailed("A capture is being synthesised already", do="Wait for it, or cancel it")
        if bpy.app.binary_path:
            blender = [bpy.app.binary_path, "--background", "--python-expr"]
        else:  # the bpy module: its Python is the program
            blender = [sys.executable, "-c"]
        self.child = CaptureChild(blender, ADDON_NAME, folder, options)
        return self.child


SYNTHESIS = Synthesis()


def register() -> None:
    """Nothing to set up."""


def unregister() -> None:
    """End a running synthesis; its pictures are kept."""
    if SYNTHESIS.child is not None:
        SYNTHESIS.child.cancel()
        SYNTHESIS.child = None
