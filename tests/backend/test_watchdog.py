"""A worker that hangs while its sockets answer is noticed by its progress, told, and ended soon when that is asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from backend import render_desk, training_jobs
from backend.errands import Errands
from backend.frames import Asked
from backend.jobs import JobRecord, Journal
from backend.library import Library
from backend.online_jobs import LiveDesk, OnlineJobs
from backend.online_run import LEARNING
from backend.render_desk import RenderDesk
from backend.training_jobs import TrainingJobs
from backend.watchdog import LEAST_S, LOADING_S, TIMES_MEDIAN, Watchdog
from backend.workers import Worker
from shared import wire
from shared.desk_messages import StartCheck
from shared.messages import ChangeJob, Failure, GetAvatar, JobInfo, StartTraining
from tests.shared.samples import samples


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def trained(clock: Clock, step_s: float, steps: int = 20) -> Watchdog:
    dog = Watchdog(clock)
    dog.heard(0, "Preparing")
    for step in range(steps):
        clock.now_s += step_s
        dog.heard(step + 1, "Training")
    return dog


@pytest.mark.parametrize("step_s", [0.01, 0.2, 1.4, 5.0, 60.0])
def test_no_step_for_30_s_or_20_usual_steps_is_a_stall(step_s: float) -> None:
    clock = Clock()
    dog = trained(clock, step_s)
    assert dog.median_step_s() == pytest.approx(step_s)
    clock.now_s += max(LEAST_S, TIMES_MEDIAN * step_s) - 0.1
    assert dog.stalled_s() == 0
    clock.now_s += 0.2
    assert dog.stalled_s() == pytest.approx(max(LEAST_S, TIMES_MEDIAN * step_s) + 0.1)
    dog.heard(21, "Training")
    assert dog.stalled_s() == 0


def test_one_slow_step_does_not_change_what_is_usual_and_several_in_one_word_count_each() -> None:
    clock = Clock()
    dog = trained(clock, 1.0)
    clock.now_s += 25
    dog.heard(21, "Training")
    assert dog.median_step_s() == 1
    for step in range(31, 1001, 10):
        clock.now_s += 5
        dog.heard(step, "Training")
    assert dog.median_step_s() == 0.5


def test_saying_the_same_again_is_no_progress_and_saying_something_else_is() -> None:
    clock = Clock()
    dog = trained(clock, 0.1)
    for _ in range(40):
        clock.now_s += 1
        dog.heard(20, "Training")
    assert dog.stalled_s() == pytest.approx(40)
    dog.heard(20, "Evaluating")
    assert dog.stalled_s() == 0


def test_loading_may_take_longer() -> None:
    clock = Clock()
    dog = Watchdog(clock)
    clock.now_s += LOADING_S - 1
    assert dog.stalled_s() == 0
    clock.now_s += 2
    assert dog.stalled_s() > 0
    dog.begin()
    assert dog.stalled_s() == 0


@pytest.fixture
def hung(tmp_path: Path) -> tuple[TrainingJobs, Clock, list[JobInfo], str]:
    """A queue whose worker is a real process that hangs after 20 steps."""
    published: list[JobInfo] = []

    def start(record: JobRecord) -> Worker:
        return Worker("tests.backend.hung_worker", record.name, "", [], tmp_path / "worker.log")

    jobs = TrainingJobs(Journal(tmp_path / "journal.jsonl"), start, lambda *_: None, published.append)
    clock = Clock()
    job_id = jobs.start(StartTraining("k", "Anna", "demo_head", "tiny")).job_id
    jobs.tick()
    jobs.watchdog = trained(clock, 0.1)
    jobs.received(JobInfo(job_id, "train", "Anna", "running", 20, 100, message="Training"))
    return jobs, clock, published, job_id


def is_flagged_once_and_cancelled(jobs: Any, clock: Clock, published: list[JobInfo], job_id: str) -> None:
    """A job whose last step took .1 s and that does nothing any more."""
    jobs.tick()
    assert jobs.info(job_id).stalled_s == 0
    published.clear()
    clock.now_s += 42
    for _ in range(3):
        jobs.tick()
    (told,) = published
    assert (told.job_id, told.state) == (job_id, "running")
    assert told.stalled_s == pytest.approx(42)
    assert told.message == "No step for 42 s, where one takes 0.1 s: it may hang. Cancel it, or wait"
    begin = time.monotonic()
    jobs.change(ChangeJob(job_id, "cancel"))
    while jobs.worker is not None:
        jobs.tick()
        time.sleep(0.01)
    assert time.monotonic() - begin < 10  # 2 s are promised; a busy machine may take longer
    ended = jobs.info(job_id)
    assert (ended.state, ended.stalled_s) == ("cancelled", 0)


def test_a_worker_that_hangs_is_flagged_once_and_cancelled_within_two_seconds(
    hung: tuple[TrainingJobs, Clock, list[JobInfo], str],
) -> None:
    is_flagged_once_and_cancelled(*hung)


def test_one_that_still_moves_has_longer_to_write_its_last_checkpoint(
    hung: tuple[TrainingJobs, Clock, list[JobInfo], str],
) -> None:
    jobs, _, _, job_id = hung
    try:
        jobs.change(ChangeJob(job_id, "cancel"))
        now = time.monotonic()
        assert not jobs._overdue(now + training_jobs.CANCEL_GRACE_S - 1)
        assert jobs._overdue(now + training_jobs.CANCEL_GRACE_S + 1)
    finally:
        assert jobs.worker is not None
        jobs.worker.stop(wait_s=0.0)


def hung_errands(tmp_path: Path, published: list[JobInfo]) -> tuple[Errands, str]:
    errands = Errands(
        Journal(tmp_path / "journal.jsonl"),
        lambda: Worker("tests.backend.hung_worker", "errands", "", [], tmp_path / "errands.log"),
        lambda *_: None,
        published.append,
    )
    return errands, errands.start(StartCheck("k", "demo_head", 2)).job_id


def hung_learner(tmp_path: Path, published: list[JobInfo]) -> tuple[OnlineJobs, str]:
    learners = OnlineJobs(
        Journal(tmp_path / "journal.jsonl"),
        Library(tmp_path / "library"),
        tmp_path / "jobs",
        LiveDesk(lambda: None, lambda *_: None, lambda *_: None, lambda *_: None),  # type: ignore[arg-type, return-value]
        lambda record: Worker("tests.backend.hung_worker", "online", "", [], tmp_path / "online.log"),
        lambda *_: None,
        published.append,
    )
    return learners, learners.start(samples()["StartOnline"]).job_id


@pytest.mark.parametrize("made", [hung_errands, hung_learner], ids=["errand", "live training"])
def test_errands_and_live_trainings_that_hang_are_flagged_once_and_cancelled_within_two_seconds(
    made: Any, tmp_path: Path
) -> None:
    """Real processes that hang; what they said before that is said for them."""
    published: list[JobInfo] = []
    jobs, job_id = made(tmp_path, published)
    clock = Clock()
    jobs.watchdog = trained(clock, 0.1)
    said = JobInfo(job_id, "", "Anna", "running", 20, 100, message=f"{LEARNING}: 3 frames, 20 images learned")
    jobs.received(said)
    is_flagged_once_and_cancelled(jobs, clock, published, job_id)


def test_a_live_training_without_frames_is_no_stall_but_one_that_says_nothing_is(tmp_path: Path) -> None:
    jobs, job_id = hung_learner(tmp_path, [])
    try:
        clock = Clock()
        jobs.watchdog = trained(clock, 0.1)
        for text in (["Waiting for frames: 3 frames, 20 images learned"] * 90) + ["Paused: 20 images learned"] * 90:
            clock.now_s += 1
            jobs.received(JobInfo(job_id, "online", "Anna", "running", 20, message=text))
            assert jobs.info(job_id).stalled_s == 0
        clock.now_s += 31
        assert jobs.info(job_id).stalled_s == pytest.approx(31)
        for frames in range(40):  # more frames come, but nothing is learned from them
            clock.now_s += 1
            jobs.received(JobInfo(job_id, "online", "Anna", "running", 20, message=f"{LEARNING}: {frames} frames"))
        assert jobs.info(job_id).stalled_s > 30
    finally:
        assert jobs.worker is not None
        jobs.worker.stop(wait_s=0.0)


def test_a_render_worker_that_hangs_is_ended_and_its_client_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Failure] = []
    desk = RenderDesk(
        lambda: Worker("tests.backend.hung_worker", "render", "", [], tmp_path / "render.log"),
        lambda *_: None,
        lambda _, answer: told.append(answer),
        lambda *_: None,
    )
    desk.tick()
    parts = wire.encode(samples()["Welcome"])
    desk.received(wire.open_header(parts, wire.FROM_SERVER), parts)
    desk.ask(Asked("control", b"1", 1, GetAvatar("anna")))
    desk.tick()
    assert told == []
    monkeypatch.setattr(render_desk, "LONGEST_REQUEST_S", 0.0)
    while not told:
        desk.tick()
        time.sleep(0.01)
    assert told[0].code == "worker_failed"
    assert "GetAvatar" in told[0].what
    desk.stop()
