"""Start a training job on a server, or take it up again, and watch it to its end: for the command line and the demo."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.client import BackendClient
from shared.messages import ChangeJob, JobInfo, JobList, ListJobs, StartTraining

REQUEST_S = 60.0
POLL_S = 0.3
LIST_EVERY_S = 2.0
PAUSE_WAIT_S = 15.0
ACTIVE = ("queued", "running")


def begin_job(client: BackendClient, asked: StartTraining) -> JobInfo:
    """The job of that key, started or going on; one that is done stays so. Raises what the server says is wrong."""
    client.events()  # subscribes, so that nothing of the job is missed
    job = _job(client.request(asked, timeout_s=REQUEST_S))
    if job.state not in (*ACTIVE, "done"):
        job = _job(client.request(ChangeJob(job.job_id, "resume"), timeout_s=REQUEST_S))
    return job


def follow_job(client: BackendClient, job: JobInfo, show: Callable[[JobInfo], None]) -> JobInfo:
    """The job as it ended: done, failed, cancelled or paused. show: called with each news of it."""
    while job.state in ACTIVE:
        show(job)
        job = newest_job(client, job)
    show(job)
    return job


def pause_job(client: BackendClient, job: JobInfo) -> JobInfo:
    """Ask for a pause and wait a little for the checkpoint."""
    job = _job(client.request(ChangeJob(job.job_id, "pause")))
    until = time.monotonic() + PAUSE_WAIT_S
    while job.state == "running" and time.monotonic() < until:
        job = newest_job(client, job)
    return job


def newest_job(client: BackendClient, job: JobInfo) -> JobInfo:
    """The job as events tell it, or as the list does when none came for a while or some were lost."""
    until = time.monotonic() + LIST_EVERY_S
    while time.monotonic() < until:
        told = [event.job for event in client.events(POLL_S) if event.job.job_id == job.job_id]
        if told:
            return told[-1]
    listed = client.request(ListJobs(), timeout_s=REQUEST_S)
    assert isinstance(listed, JobList)
    return next((item for item in listed.jobs if item.job_id == job.job_id), job)


def _job(answer: object) -> JobInfo:
    assert isinstance(answer, JobInfo)
    return answer
