"""A finished avatar waits for room on the library's disk; it can be paused meanwhile, and nothing is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from avatars.training import room
from avatars.training.loop import CHECKPOINTS
from avatars.training.progress import TrainResult
from backend import library as library_module
from backend.library import Library
from backend.training_run import Outcome, adopted, finished_run
from shared.errors import EnvironmentFailed
from shared.messages import NO_ROOM


class Disk:
    """The library's: refuses so many renames with an error's number."""

    def __init__(self, refusals: int, number: int) -> None:
        self.refusals, self.number = refusals, number
        self.rename = os.rename

    def __call__(self, source: Path, target: Path) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(self.number, os.strerror(self.number))
        self.rename(source, target)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's folder with the avatar it made and its last checkpoint."""
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    (tmp_path / "library").mkdir()
    for name in ("Anna.avatar", CHECKPOINTS):
        (tmp_path / "job" / name).mkdir(parents=True)
    (tmp_path / "job" / "Anna.avatar" / "avatar.json").write_text("{}")
    return tmp_path / "job"


def taken(job: Path, told: list[str], wanted: str = "") -> Outcome:
    """What comes of a training in the job's folder that has just ended."""
    result = TrainResult(job / "Anna.avatar", job / "report", {"psnr_db": 30.0}, "done")
    return adopted(lambda: result, job, Library(job.parent / "library"), "Anna", told.append, lambda: wanted)


def test_it_waits_and_goes_in_when_there_is_room(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module.os, "rename", Disk(3, errno.ENOSPC))
    told: list[str] = []
    outcome = taken(job, told)
    assert (outcome.state, outcome.avatar_id) == ("done", "Anna")
    assert (job.parent / "library" / "Anna.avatar" / "avatar.json").is_file()
    assert len(told) == 3
    assert told[0].startswith(f"{NO_ROOM}: {job.parent / 'library'} needs ")
    assert "bytes for the finished avatar" in told[0]
    assert os.strerror(errno.ENOSPC) in told[0]
    assert finished_run(job, Library(job.parent / "library")) == outcome
    assert not (job / CHECKPOINTS).exists()


@pytest.mark.parametrize(("wanted", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_it_can_be_stopped_while_it_waits(job: Path, wanted: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(99, errno.ENOSPC)
    monkeypatch.setattr(library_module.os, "rename", disk)
    assert taken(job, [], wanted).state == state
    assert (job / "Anna.avatar" / "avatar.json").is_file()
    assert (job / CHECKPOINTS).is_dir()
    assert finished_run(job, Library(job.parent / "library")) is None
    disk.refusals = 0
    assert taken(job, []).state == "done"


def test_what_room_does_not_mend_is_one_sentence(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module.os, "rename", Disk(1, errno.EXDEV))
    told: list[str] = []
    with pytest.raises(EnvironmentFailed, match=r"could not be moved into the library .*It is complete at .*Anna"):
        taken(job, told)
    assert not told
    assert (job / "Anna.avatar").is_dir()
    assert (job / CHECKPOINTS).is_dir()
