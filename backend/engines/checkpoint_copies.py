"""Checkpoints that were written on another machine, brought to the job's own folder and verified there."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path

from avatars.files import write_folder_atomically
from avatars.training.checkpoint_files import KEPT, checkpoints, verified_notes
from backend.engines.packing import pack, pack_folder, unpack, write_parcel
from shared.errors import EffigyError

FOLDER = "checkpoints"
"""Of a job; the training loop's own name for it."""
_NAME = re.compile(r"images_\d{10}")

log = logging.getLogger("effigy.ray")


def newest_name(job_folder: Path) -> str:
    """The checkpoint written last, by name; empty where there is none."""
    found = checkpoints(job_folder / FOLDER)
    return found[-1].name if found else ""


def packed(job_folder: Path, name: str) -> bytes:
    """A checkpoint as a bundle of its name, a digest of both, and its parcel; empty where it is gone meanwhile."""
    path = job_folder / FOLDER / name
    if not _NAME.fullmatch(name) or not path.is_dir():
        return b""
    try:
        parcel = pack_folder(path)
        return pack([name.encode(), _digest(name, parcel), parcel])
    except OSError:
        return b""  # the training dropped it just now: there is a newer one


def newest_packed(job_folder: Path) -> bytes:
    """The newest checkpoint that is intact, packed; empty where there is none."""
    for path in reversed(checkpoints(job_folder / FOLDER)):
        try:
            verified_notes(path)
            return packed(job_folder, path.name)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("a damaged checkpoint was passed over: %s: %s", path.name, error)
    return b""


def put(job_folder: Path, bundle: bytes) -> str:
    """Write a packed checkpoint, if it is intact, keep the newest two, and return its name; empty where it is not.

    Raises EnvironmentFailed where the disk refuses.
    """
    try:
        head, digest, parcel = unpack(bundle)
        name = bytes(head).decode()
        if not _NAME.fullmatch(name) or bytes(digest) != _digest(name, parcel):
            raise ValueError("its digest is another")

        def fill(place: Path) -> None:
            write_parcel(bytes(parcel), place)
            try:
                verified_notes(place)
            except OSError as error:  # a file is missing: not the disk's fault
                raise ValueError(str(error)) from error

        write_folder_atomically(job_folder / FOLDER / name, fill)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("a checkpoint arrived damaged: %s", error)
        return ""
    except EffigyError as error:
        if error.code != "bad_message":
            raise
        log.warning("a checkpoint arrived damaged: %s", error)
        return ""
    for path in checkpoints(job_folder / FOLDER)[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
    return name


def _digest(name: str, parcel: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(parcel)
    return digest.digest()
