"""The order of waiting jobs, taking jobs off the list, and the curves of their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.job_curve import MAX_POINTS, Curves
from backend.jobs import JobRecord, Journal
from backend.training_jobs import TrainingJobs
from shared.errors import BadMessage
from shared.messages import ChangeJob, JobInfo, StartTraining


def table(path: Path, told: list[JobInfo] | None = None) -> TrainingJobs:
    """Training jobs that never begin: nobody ticks."""

    def never(record: JobRecord) -> Any:
        raise AssertionError("nothing is to be started")

    published = [] if told is None else told
    return TrainingJobs(Journal(path), never, lambda worker, message: None, published.append)


def order(jobs: TrainingJobs) -> list[str]:
    """Names in the order they will begin in, as `place` says."""
    infos = [jobs.info(job_id) for job_id in jobs.journal.records]
    return [info.name for info in sorted(infos, key=lambda info: info.place) if info.place]


def test_waiting_jobs_can_be_moved_and_the_order_is_kept(tmp_path: Path) -> None:
    told: list[JobInfo] = []
    jobs = table(tmp_path / "j.jsonl", told)
    ids = {name: jobs.start(StartTraining(name, name, "demo_head", "demo_cpu")).job_id for name in "abcd"}
    assert order(jobs) == ["a", "b", "c", "d"]
    jobs.change(ChangeJob(ids["d"], "up"))
    assert order(jobs) == ["a", "b", "d", "c"]
    assert {info.name: info.place for info in told[-4:]} == {"a": 1, "b": 2, "d": 3, "c": 4}
    jobs.change(ChangeJob(ids["a"], "up"))
    jobs.change(ChangeJob(ids["c"], "down"))
    assert order(jobs) == ["a", "b", "d", "c"], "nowhere to go"
    jobs.change(ChangeJob(ids["a"], "down"))
    assert order(table(tmp_path / "j.jsonl")) == ["b", "a", "d", "c"], "kept over a restart"
    jobs.change(ChangeJob(ids["a"], "pause"))
    assert order(jobs) == ["b", "d", "c"]
    assert jobs.change(ChangeJob(ids["a"], "up")).place == 0, "it does not wait"
    assert jobs.start(StartTraining("e", "e", "demo_head", "demo_cpu")).place == 4


def test_only_what_is_over_leaves_the_list(tmp_path: Path) -> None:
    told: list[JobInfo] = []
    jobs = table(tmp_path / "j.jsonl", told)
    job = jobs.start(StartTraining("k", "Anna", "demo_head", "demo_cpu"))
    assert (job.capture, job.preset) == ("demo_head", "demo_cpu"), "so that it can be asked again, changed"
    with pytest.raises(BadMessage, match=r"not over.*Cancel it first"):
        jobs.remove(job.job_id)
    jobs.change(ChangeJob(job.job_id, "cancel"))
    assert jobs.remove(job.job_id).state == "removed"
    assert told[-1].state == "removed"
    assert not jobs.journal.records
    again = Journal(tmp_path / "j.jsonl")
    assert not again.records
    assert again.damaged_lines == 0


def test_curves_keep_their_shape_however_long() -> None:
    curves = Curves()
    for step in range(5000):
        curves.note("j", step, {"l1": 1 / (1 + step)} | ({"psnr_db": 20.0 + step / 1000} if step > 2000 else {}))
    curve = curves.curve("j")
    assert curve.names == ("l1", "psnr_db")
    assert len(curve.steps) <= MAX_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (0, 4999)
    assert (np.diff(curve.steps) > 0).all()
    np.testing.assert_allclose(curve.values[:, 0], 1 / (1 + curve.steps), rtol=1e-6)
    assert np.isnan(curve.values[0, 1])
    assert curve.values[-1, 1] == pytest.approx(24.999)


def test_a_curve_goes_on_from_where_a_restart_resumes() -> None:
    curves = Curves()
    for step in (0, 10, 20, 30, 15, 25):
        curves.note("j", step, {"l1": float(step)})
    assert curves.curve("j").steps.tolist() == [0, 10, 15, 25]
    assert curves.curve("unknown").values.shape == (0, 0)
    curves.forget("j")
    assert curves.curve("j").steps.tolist() == []
    for number in range(20):
        curves.note(f"job {number}", 0, {"l1": 0.5})
    assert curves.curve("job 0").steps.tolist() == []
    assert curves.curve("job 19").steps.tolist() == [0]
