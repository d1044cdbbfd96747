"""Templates the user has added from files of their own: one ID.npz each in $EFFIGY_HOME/templates."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from avatars.files import disk_failure, write_atomically
from avatars.templates.stored import as_stored
from shared.errors import BadTemplate, EnvironmentFailed, nearest
from shared.file_names import is_device
from shared.template import TemplateArrays, load_template

NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


def templates_folder() -> Path:
    """Where they lie: $EFFIGY_HOME/templates, or ~/.effigy/templates."""
    return Path(os.environ.get("EFFIGY_HOME") or Path.home() / ".effigy").expanduser() / "templates"


def installed_names() -> tuple[str, ...]:
    """Ids of the templates that were added, sorted."""
    folder = templates_folder()
    found = folder.glob("*.npz") if folder.is_dir() else ()
    return tuple(sorted(path.stem for path in found if NAME.fullmatch(path.stem)))


def installed_arrays(template_id: str) -> TemplateArrays:
    """The template of that id. Raises BadTemplate where there is none or its file is damaged."""
    path = _path(template_id)
    try:
        state = path.stat()
    except OSError as error:
        known = installed_names()
        raise BadTemplate(
            f"the template {template_id!r} is not known here{nearest(template_id, known)}",
            found=", ".join(known) or "none added yet",
            do="Add it from its files with: effigy template add",
        ) from error
    arrays = _load(path, state.st_mtime_ns, state.st_size)
    if arrays.template_id != template_id:
        raise BadTemplate(f"{path.name} holds another template", found=arrays.template_id, expected=template_id)
    return arrays


def install(arrays: TemplateArrays, *, replace: bool = False) -> Path:
    """Store a template, in one step, and return its file. The same again is no error.

    Raises BadTemplate where another template of that id is there and `replace` is not given: captures and avatars made
    with the other one would no longer open. Raises EnvironmentFailed where the disk refuses.
    """
    path = _path(arrays.template_id)
    stored, content = as_stored(arrays)
    if path.is_file() and not replace:
        try:
            there = installed_arrays(arrays.template_id).digest
        except BadTemplate:
            there = ""  # damaged: nothing is lost by writing it anew
        if there not in ("", stored.digest):
            raise BadTemplate(
                f"another template {arrays.template_id!r} is there already",
                found=f"digest {there[:12]}",
                expected=f"digest {stored.digest[:12]}",
                do="Give --replace if nothing made with the old one is needed any more",
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_failure(path.parent, error) from error
    write_atomically(path, content)
    return path


def remove(template_id: str) -> Path:
    """Delete an added template. Raises BadTemplate where there is none, EnvironmentFailed where the disk refuses."""
    path = _path(template_id)
    if template_id not in installed_names():
        known = installed_names()
        raise BadTemplate(
            f"no template {template_id!r} was added{nearest(template_id, known)}", found=", ".join(known) or "none"
        )
    try:
        path.unlink()
    except OSError as error:
        raise EnvironmentFailed(f"{path} cannot be removed", found=error.strerror or str(error)) from error
    return path


def _path(template_id: str) -> Path:
    if not NAME.fullmatch(template_id) or is_device(template_id):
        raise BadTemplate(f"{template_id[:80]!r} is no template's id", expected="small letters, digits and _")
    return templates_folder() / f"{template_id}.npz"


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int, size: int) -> TemplateArrays:
    return load_template(path)
