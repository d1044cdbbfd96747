"""Short questions the server answers by itself: what avatars are and become, logs. No torch, nothing that lasts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from avatars.avatar_facts import avatar_facts, small_preview
from backend.home import Home
from backend.library import Library
from backend.trash import Trash
from shared.desk_messages import AvatarInfo, ChangeAvatar, GetAvatarInfo, GetLog, ListTrash, LogText
from shared.errors import BadMessage, EffigyError, NotFound, nearest
from shared.messages import AvatarList, Done

QUESTIONS = (GetLog, GetAvatarInfo, ChangeAvatar, ListTrash)
ACTIONS = ("rename", "trash", "restore", "purge")
PREVIEW_PX = 256
LOG_TAIL_BYTES = 48 * 1024
SERVER_LOGS = ("server.log", "server.out.log", "render.log", "errands.log")


class FrontDesk:
    """known_job: whether there is a job of this id."""

    def __init__(self, home: Home, library: Library, trash: Trash, known_job: Callable[[str], bool]) -> None:
        self.home, self.library, self.trash, self._known_job = home, library, trash, known_job

    def answer(self, message: Any) -> Any:
        """The answer to one of QUESTIONS. Raises EffigyError."""
        match message:
            case GetLog():
                return LogText(self._log(message.job_id))
            case GetAvatarInfo():
                return self._info(message.avatar_id)
            case ListTrash():
                return AvatarList(self.trash.summaries())
            case ChangeAvatar():
                return Done(change_avatar(self.library, self.trash, message))
        raise BadMessage(f"{type(message).__name__} is not a question for the front desk")

    def _info(self, avatar_id: str) -> AvatarInfo:
        folder, summary = self.library.path(avatar_id), self.library.summary(avatar_id)
        facts: dict[str, str] = {}
        preview = np.zeros((0, 0, 4), np.uint8)
        try:
            facts = avatar_facts(folder)
            preview = np.ascontiguousarray(small_preview(folder, PREVIEW_PX))
        except EffigyError as error:  # a damaged avatar is listed with what is wrong, and has no picture
            facts["Problem"] = str(error)
        return AvatarInfo(avatar_id, summary.digest, facts, preview)

    def _log(self, job_id: str) -> str:
        if not job_id:
            return "\n\n".join(
                _tail(self.home.logs / name) for name in SERVER_LOGS if (self.home.logs / name).is_file()
            )
        if not self._known_job(job_id):
            raise NotFound(f"There is no job {job_id[:80]!r}")
        return _tail(self.home.jobs / job_id / "worker.log")


def change_avatar(library: Library, trash: Trash, asked: ChangeAvatar) -> str:
    """Do it and return the avatar's id afterwards. Raises NotFound, BadConfig, BadMessage, EnvironmentFailed."""
    match asked.action:
        case "rename":
            library.rename(asked.avatar_id, asked.name.strip())
            return asked.avatar_id
        case "trash":
            return trash.throw(library.path(asked.avatar_id))
        case "restore":
            return trash.restore(asked.avatar_id, library)
        case "purge":
            trash.purge(asked.avatar_id)
            return asked.avatar_id
    raise BadMessage(
        f"There is no action {asked.action!r}{nearest(asked.action, ACTIONS)}", expected=", ".join(ACTIONS)
    )


def _tail(path: Path) -> str:
    """The end of a log under its name, without what cannot be sent."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace").replace("\0", "")
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
    return f"--- {path.name}\n{text.strip() or 'empty'}"
