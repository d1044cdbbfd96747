"""Taking avatars into the library: the same for the command line and for errands."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from backend.cli_render import straight_srgb
from backend.exporting import front_view
from backend.home import Home
from backend.library import SUFFIX, Library, check_name
from shared.desk_messages import StartImport
from shared.errors import BadAvatar, EnvironmentFailed

PREVIEW_PX = 256
LEFT_OVER_S = 24 * 3600


def import_into_library(home: Home, asked: StartImport, device: str) -> tuple[str, Sequence[str]]:
    """Read, check, and put it into the library; its new id and notes for the user, in sentences.

    A NAME.avatar folder is copied after its weights were read; of foreign files a preview is rendered.
    Raises BadAvatar, BadConfig, BadCapture, BadTemplate, EnvironmentFailed.
    """
    source = Path(asked.source).expanduser()
    if source.name == "avatar.json":
        source = source.parent
    for left in home.root.glob(f".import-*{SUFFIX}"):  # of an import that was ended by force
        if time.time() - left.stat().st_mtime > LEFT_OVER_S:
            shutil.rmtree(left, ignore_errors=True)
    waiting = home.root / f".import-{uuid.uuid4().hex[:8]}{SUFFIX}"
    try:
        if (source / "avatar.json").is_file():
            return _copied(home, source, waiting, asked.name)
        return _converted(home, source, waiting, asked, device)
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _copied(home: Home, source: Path, waiting: Path, name: str) -> tuple[str, Sequence[str]]:
    from avatars.avatar_folder import (
        LABEL,
        LIMITS,
        load_avatar,
        load_preview,
        read_description,
        rename_avatar,
        shown_name,
    )

    own = read_description(source)
    shown = name or shown_name(source, own)
    check_name(shown)
    try:
        waiting.mkdir()
        for file in ("avatar.json", *LIMITS, LABEL):
            if (source / file).is_file():
                shutil.copyfile(source / file, waiting / file)
    except OSError as error:
        raise EnvironmentFailed(
            "The avatar could not be copied", found=f"{source}: {error.strerror}", do="Make room on the disk"
        ) from error
    load_avatar(waiting)  # what does not load here never will: say so now
    load_preview(waiting)
    if name:
        rename_avatar(waiting, name)
    return Library(home.library).adopt(waiting, shown), ()


def _converted(home: Home, source: Path, waiting: Path, asked: StartImport, device: str) -> tuple[str, Sequence[str]]:
    from avatars.avatar_folder import About, save_avatar
    from avatars.formats.importing import import_avatar

    if not source.exists():
        raise BadAvatar(f"there is nothing at {source}", do="Check the path; it is one of the backend's machine")
    name = asked.name or default_name(source)
    check_name(name)
    imported = import_avatar(
        source,
        config=Path(asked.config).expanduser() if asked.config else None,
        flame_param=Path(asked.person).expanduser() if asked.person else None,
        template=asked.template,
        mean_shape=asked.mean_shape,
    )
    preview = straight_srgb(front_view(imported.avatar, PREVIEW_PX, device))
    about = About(name=name, licence=asked.licence, consent=asked.consent, provenance=imported.provenance)
    save_avatar(waiting, imported.avatar, about, preview)
    return Library(home.library).adopt(waiting, name), imported.notes


def default_name(source: Path) -> str:
    """A name for what lies at `source`: its folder's, or the model folder's of GaussianAvatars."""
    folder = source.absolute() if source.is_dir() else source.absolute().parent
    if folder.name.startswith("iteration_"):
        folder = folder.parent.parent
    return folder.name or "imported"
