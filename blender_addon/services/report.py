"""Collects what a report needs from Blender."""

from __future__ import annotations

import platform
import sys
from typing import Any

import bpy

from .._shared import messages, shared_module
from ..logic import report
from ..logic.faults import GUARDS
from .connection import CONNECTION
from .preferences import settings


def versions() -> dict[str, str]:
    """Name -> version of what runs here."""
    found = {
        "Effigy add-on": f"{shared_module('client').__version__}, protocol {messages.PROTOCOL_VERSION}",
        "Blender": f"{bpy.app.version_string} ({bpy.app.build_platform.decode(errors='replace')})",
        "Python": sys.version.split()[0],
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    graphics = _graphics()
    return found | ({"Graphics": graphics} if graphics else {})


def text(scene: Any) -> str:
    """The report."""
    wanted = settings(scene)
    return report.report_text(versions(), wanted.address, CONNECTION.state, GUARDS.log.newest(), [wanted.key])


def _graphics() -> str:
    if bpy.app.background:
        return ""
    import gpu

    return f"{gpu.platform.renderer_get()}, {gpu.platform.version_get()}"
