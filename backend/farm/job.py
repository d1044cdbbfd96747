"""A shot as a farm renders it: one folder that holds everything its tasks need, pinned when it was made.

JOB/job.json        the shot, its pictures, its avatars by digest
JOB/library/        copies of those avatars, so that a training that goes on changes nothing that waits
JOB/frames.sbatch, film.sbatch, submit.sh, logs/    for Slurm
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avatars.avatar_folder import avatar_digest
from avatars.files import write_atomically
from backend.library import Library
from shared.errors import BadAvatar, BadConfig, NotFound

FORMAT, VERSION = "effigy-farm-job", 1
JOB_FILE = "job.json"


@dataclass(frozen=True)
class FarmJob:
    """What job.json holds. shot: a .blend; scene: of it; avatars: id -> digest; frames and pictures: a file of each.

    output: as in Blender's Output Properties. chunk_size: frames of one task. film: an .mp4, or empty; fps: of it.
    """

    shot: str
    scene: str
    output: str
    frames: tuple[int, ...]
    pictures: tuple[str, ...]
    avatars: Mapping[str, str]
    chunk_size: int
    blender: str
    device: str
    film: str
    fps: float

    @property
    def tasks(self) -> int:
        """How many tasks render it."""
        return math.ceil(len(self.frames) / self.chunk_size)

    def chunk(self, task: int) -> tuple[int, ...]:
        """Frames of a task, from 1. Raises BadConfig."""
        if not 1 <= task <= self.tasks:
            raise BadConfig("The job has no such task", found=str(task), expected=f"1 to {self.tasks}")
        return self.frames[(task - 1) * self.chunk_size : task * self.chunk_size]


def write_job(folder: Path, job: FarmJob, library: Library) -> None:
    """Make the job's folder with copies of its avatars. Raises BadConfig, NotFound, BadAvatar."""
    if (folder / JOB_FILE).exists():
        raise BadConfig(
            "There is a job in this folder already",
            found=str(folder),
            do="Send it again with its submit.sh, which renders what is missing, or name another --job folder",
        )
    for avatar_id, digest in job.avatars.items():
        check_pinned(library, avatar_id, digest)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    for avatar_id, digest in job.avatars.items():
        copy = folder / "library" / library.path(avatar_id).name
        shutil.copytree(library.path(avatar_id), copy, dirs_exist_ok=True)
        check_pinned(Library(copy.parent), avatar_id, digest)
    (folder / "library").mkdir(exist_ok=True)
    document = {"format": FORMAT, "version": VERSION, **asdict(job)}
    write_atomically(folder / JOB_FILE, (json.dumps(document, indent=1) + "\n").encode())


def check_pinned(library: Library, avatar_id: str, digest: str) -> None:
    """Raises NotFound where the library lacks the avatar, BadAvatar where it holds another version."""
    found = avatar_digest(library.path(avatar_id))
    if found != digest:
        raise BadAvatar(
            f"Avatar {avatar_id} is not the one that the shot was made with",
            found=f"digest {found[:12]} in {library.folder}",
            expected=f"digest {digest[:12]}",
            do="Link the avatar again in the shot, or put the earlier one back into the library",
        )


def read_job(folder: Path) -> FarmJob:
    """The job of a folder. Raises NotFound, BadConfig."""
    path = folder / JOB_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound("There is no farm job in this folder", found=f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadConfig("The farm job cannot be read", found=f"{path}: {error}") from error
    return _job(document, path)


def _job(document: Any, path: Path) -> FarmJob:
    try:
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{document['format']} {document['version']}")
        if len(document["frames"]) != len(document["pictures"]):
            raise ValueError(f"{len(document['frames'])} frames, {len(document['pictures'])} pictures")
        texts = {name: str(document[name]) for name in ("shot", "scene", "output", "blender", "device", "film")}
        return FarmJob(
            **texts,
            frames=tuple(int(frame) for frame in document["frames"]),
            pictures=tuple(str(picture) for picture in document["pictures"]),
            avatars={str(name): str(digest) for name, digest in document["avatars"].items()},
            chunk_size=max(1, int(document["chunk_size"])),
            fps=float(document["fps"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadConfig(
            "The farm job cannot be read", found=f"{path}: {error!r}", expected="what `effigy farm slurm` wrote"
        ) from error
