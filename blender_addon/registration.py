"""The one list of everything the add-on registers, in order; taken down in reverse."""

from __future__ import annotations

from . import batch, engine
from .services import (
    auto_check,
    backend,
    composite,
    connection,
    frame_files,
    log_text,
    look_ahead,
    native_splats,
    panel_properties,
    performing,
    pictures,
    preferences,
    properties,
    synthesis,
    tracking,
)
from .ui import classes
from .viewport import overlay

PARTS = (
    log_text,
    properties,
    panel_properties,
    preferences,
    backend,
    engine,
    frame_files,
    look_ahead,
    composite,
    native_splats,
    batch,
    connection,
    auto_check,
    tracking,
    performing,
    synthesis,
    overlay,
    pictures,
    classes,
)


def register() -> None:
    """Register all parts; a part that fails takes the earlier ones down again, so a second try starts clean."""
    done = []
    try:
        for part in PARTS:
            part.register()
            done.append(part)
    except Exception:
        for part in reversed(done):
            part.unregister()
        raise


def unregister() -> None:
    """Unregister all parts in reverse."""
    for part in reversed(PARTS):
        part.unregister()
