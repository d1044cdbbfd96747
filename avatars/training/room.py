"""Room on the disk for checkpoints and on the device for batches: how much, waiting for it, asking for less."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from shared.errors import EnvironmentFailed
from shared.messages import NO_ROOM

TIMES_CHECKPOINT = 3
"""Room a run needs before it begins: the two that are kept, and the one that is being written."""
NOTES_BYTES, REPORT_BYTES = 1 << 20, 8 << 20
LOOK_EVERY_S = 1.0
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class Stopped(Exception):
    """A command came while a run waited for room. command: 'pause' or 'cancel'."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self.command = command


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """About what a checkpoint of these takes, its notes included."""
    return sum(value.numel() * value.element_size() for value in tensors.values()) + NOTES_BYTES


def free_bytes(folder: Path) -> int:
    """What is free where `folder` is, or will be. Raises EnvironmentFailed."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise EnvironmentFailed("The disk cannot be looked at", found=f"{place}: {error.strerror}") from error


def require_room(folder: Path, checkpoint_bytes: int) -> None:
    """Refuse to begin what could not be kept. Raises EnvironmentFailed."""
    needed, free = TIMES_CHECKPOINT * checkpoint_bytes, free_bytes(folder)
    if free < needed:
        raise EnvironmentFailed(
            f"There is too little room for checkpoints in {folder}",
            found=f"{free:,} bytes free",
            expected=f"{needed:,} bytes, {TIMES_CHECKPOINT} checkpoints",
            do="Make room on that disk, then resume",
        )


def is_full(error: EnvironmentFailed) -> bool:
    """Whether the disk refused because it, or one's share of it, is full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL


def save_when_there_is_room(
    save: Callable[[], object],
    folder: Path,
    needed_bytes: int,
    tell: Callable[[str], None],
    wanted: Callable[[], str],
    what: str = "a checkpoint",
    mends: Callable[[EnvironmentFailed], bool] = lambda error: True,
) -> str:
    """Call `save` until the disk takes it; returns '', or the 'pause' or 'cancel' that came while it waited.

    A refused write leaves what exists as it was (`write_folder_atomically`). tell: says so once a second, with the
    path, the bytes that `what` needs and the seconds waited. mends: whether waiting can mend what `save` raised.
    Raises what it cannot, and what `save` raises beside EnvironmentFailed.
    """
    begun = time.monotonic()
    while True:
        try:
            save()
            return ""
        except EnvironmentFailed as error:
            if not mends(error):
                raise
            reason = error.found or error.what
        while True:
            tell(
                f"{NO_ROOM}: {folder} needs {needed_bytes:,} bytes for {what} ({reason}); "
                f"goes on when there is room; waited {time.monotonic() - begun:.0f} s"
            )
            command = wanted()
            if command in ("pause", "cancel"):
                return command
            time.sleep(LOOK_EVERY_S)
            if free_bytes(folder) >= needed_bytes:
                break


def smaller_batch(batch: int, views: int) -> int:
    """Half a batch that was too large for the device, a multiple of `views`. Raises EnvironmentFailed."""
    together = max(views, 1)
    if batch <= together:
        raise EnvironmentFailed(
            f"The device has no memory left for a batch of {batch}",
            do="Close what else uses it, or train with smaller pictures or fewer Gaussians, then resume",
        )
    return max(together, batch // 2 // together * together)
