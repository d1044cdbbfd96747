"""Edits in the queue of trainings: what was asked for is kept with the job, sent to its worker, and refused if bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import training_jobs
from backend.edit_requests import REQUEST, WEIGHTS, check_request, read_request
from backend.edit_run import check_edit_request, edit_values, pinned_avatar
from backend.jobs import JobRecord, Journal
from backend.library import Library
from backend.render_worker import failed_at
from backend.training_jobs import TrainingJobs
from shared.edit_messages import ListEditors, StartEdit
from shared.errors import BadAvatar, BadConfig, BadMessage, EnvironmentFailed, WorkerFailed
from shared.messages import ChangeJob, GetAvatar, JobInfo, StartTraining
from tests.shared.samples import same
from tests.tiny import tiny_avatar


class Process:
    """Stands for a worker that has connected: what it is told is kept."""

    class _Child:
        pid = 1

        def __init__(self) -> None:
            self.killed = False

        def kill(self) -> None:
            self.killed = True

    def __init__(self, record: JobRecord) -> None:
        self.record, self.process, self.told = record, self._Child(), []
        self.status: int | None = None

    def ended(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.status

    def failure(self, doing: str) -> WorkerFailed:
        """What is told of its end."""
        return WorkerFailed(f"The worker process stopped while {doing}", found=f"status {self.status}")

    def last_words(self) -> str:
        """The end of its log."""
        return "its log is empty"

    def stop(self) -> None:
        """Nothing to stop."""


def table(folder: Path, begun: list[Process]) -> TrainingJobs:
    def start(record: JobRecord) -> Any:
        begun.append(Process(record))
        return begun[-1]

    return TrainingJobs(
        Journal(folder / "journal.jsonl"), start, lambda worker, message: worker.told.append(message), lambda info: None
    )


def asked(key: str = "k", **more: Any) -> StartEdit:
    return StartEdit(key, "Anna, bronze", "anna", "", "bronze", "built_in", **more)


def test_an_edit_waits_its_turn_and_its_worker_is_told_what_was_asked(tmp_path: Path) -> None:
    begun: list[Process] = []
    jobs = table(tmp_path, begun)
    first = jobs.start(StartTraining("t", "Anna", "demo_head", "demo_cpu"))
    weights = np.linspace(0, 1, 7, dtype=np.float32)
    info = jobs.start(asked(weights=weights, strength=0.5, overrides={"wabe": "mask"}))
    assert (info.kind, info.state, info.place) == ("edit", "queued", 2)
    assert jobs.start(asked()).job_id == info.job_id, "the same key is the same job"
    jobs.tick()
    assert begun[0].record.job_id == first.job_id
    jobs.change(ChangeJob(info.job_id, "pause"))
    assert jobs.change(ChangeJob(info.job_id, "resume")).state == "queued"
    jobs.received(JobInfo(first.job_id, "train", "Anna", "done"))
    # the server ends here; the next one finds the edit in the journal and takes it up
    again = table(tmp_path, begun)
    again.tick()
    assert begun[1].record.kind == "edit"
    again.greeted()
    (told,) = begun[1].told
    assert same(told, asked(info.job_id, weights=weights, strength=0.5, overrides={"wabe": "mask"}))
    again.received(JobInfo(info.job_id, "edit", "Anna, bronze", "running", 3, 40, losses={"edit": 0.5}))
    again.received(JobInfo(info.job_id, "edit", "Anna, bronze", "running", 6, 40, losses={"edit": 0.25}))
    assert again.curve(info.job_id).values[:, 0].tolist() == [0.5, 0.25]
    assert again.active()
    again.received(JobInfo(info.job_id, "edit", "Anna, bronze", "done", avatar_id="anna_bronze"))
    assert again.info(info.job_id).avatar_id == "anna_bronze"


def test_an_edit_goes_on_with_another_number_of_gpus(tmp_path: Path) -> None:
    begun: list[Process] = []
    jobs = table(tmp_path, begun)
    job = jobs.start(asked(gpus=2))
    jobs.change(ChangeJob(job.job_id, "pause"))
    assert jobs.start(asked(gpus=3)).job_id == job.job_id
    jobs.change(ChangeJob(job.job_id, "resume"))
    jobs.tick()
    jobs.greeted()
    assert begun[0].told[0].gpus == 3
    with pytest.raises(BadConfig, match="number of GPUs"):
        check_edit_request(asked(gpus=0), Library(tmp_path))


def test_an_edit_that_crashes_is_told_as_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_jobs, "RESTART_AFTER_S", ())
    begun: list[Process] = []
    jobs = table(tmp_path, begun)
    job = jobs.start(asked())
    jobs.tick()
    begun[0].status = -9
    jobs.tick()
    assert jobs.info(job.job_id).state == "failed"
    assert "stopped while editing" in jobs.info(job.job_id).message


def test_what_breaks_unforeseen_is_told_as_what_was_asked_for() -> None:
    broken = IndexError("list index out of range")
    for message, said in (
        (asked(), "The edit could not be checked, so it was not begun"),
        (StartTraining("t", "Anna", "demo_head", "demo_cpu"), "The training could not be checked"),
        (ListEditors(), "The editors could not be listed"),
        (GetAvatar("anna"), "The avatar could not be opened"),
    ):
        told = str(failed_at(message, broken, "logs/render.log").error())
        assert told.startswith(said)
        assert "list index out of range" in told
        assert "picture" not in told
        assert "smaller" not in str(failed_at(message, MemoryError(), "logs/render.log").error())


def test_a_damaged_request_fails_in_one_sentence(tmp_path: Path) -> None:
    begun: list[Process] = []
    jobs = table(tmp_path, begun)
    job = jobs.start(asked(weights=np.ones(3, np.float32)))
    folder = tmp_path / job.job_id
    assert {path.name for path in folder.iterdir()} == {REQUEST, WEIGHTS}
    (folder / REQUEST).write_text('{"key": 1}')
    jobs.tick()
    jobs.greeted()
    assert begun[0].process.killed
    assert jobs.info(job.job_id).state == "failed"
    assert "cannot be read" in jobs.info(job.job_id).message
    with pytest.raises(EnvironmentFailed, match="Ask for it again"):
        read_request(folder, job.job_id)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"weights": np.zeros(4, np.float32)}, "Nothing is painted"),
        ({"weights": np.full(4, 2, np.float32)}, "out of range"),
        ({"weights": np.full(4, np.nan, np.float32)}, "out of range"),
        ({"weights": np.zeros((2, 2), np.float32)}, r"not \[V\] float32"),
        ({"weights": np.ones(4, np.float32), "region": "hair"}, "Choose one of them"),
    ],
)
def test_what_no_edit_can_be_made_of_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadMessage, match=said):
        check_request(asked(**more))
    with pytest.raises(BadMessage, match="no words"):
        check_request(StartEdit("k", "n", "a", "", " ", "built_in"))


def test_an_edit_is_of_the_avatar_that_was_seen(tmp_path: Path) -> None:
    tiny_avatar(tmp_path, gaussians=50)
    assert pinned_avatar(StartEdit("k", "n", "tiny", "", "x", "e"), Library(tmp_path)) == tmp_path / "tiny.avatar"
    with pytest.raises(BadAvatar, match="not the one that was asked for"):
        pinned_avatar(StartEdit("k", "n", "tiny", "ab" * 32, "x", "e"), Library(tmp_path))
    values = edit_values(asked(strength=0.25, overrides={"iterations": "40"}))
    assert (values["strength"], values["iterations"], values["prompt"]) == ("0.25", "40", "bronze")
