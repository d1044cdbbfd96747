"""What the server owes every engine: several pictures and several trainings at a time, where there are workers."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from backend import engine_benchmark
from backend.cli import main
from backend.engine_benchmark import EngineRow
from backend.engines.local import LocalEngine
from backend.frames import Asked
from backend.home import open_home
from backend.jobs import JobRecord, Journal
from backend.many_frames import rendered_in_order
from backend.render_desk import RenderDesk
from backend.training_lanes import TrainingLanes
from shared import wire
from shared.errors import WorkerFailed
from shared.messages import ChangeJob, JobInfo, Ping, RenderRequest, StartTraining, Superseded
from tests.shared.samples import samples

REQUEST: RenderRequest = dataclasses.replace(samples()["RenderRequest"], environment="")


class Idle:
    """A worker's process that neither ends nor does anything."""

    pid = 1

    def kill(self) -> None:
        raise AssertionError("nobody may end it")


class IdleWorker:
    """The server's end of one; how many there are is counted by who makes them."""

    process, started_s, identity = Idle(), 0.0, b"1"

    def ended(self) -> int | None:
        return None

    def stop(self, wait_s: float = 1.0) -> None:
        self.stopped = True


class Desk:
    """A render desk, what it handed over (tickets and requests) and what it answered."""

    def __init__(self, workers: int) -> None:
        self.sent: list[tuple[Any, int]] = []
        self.answered: list[tuple[Any, Any]] = []
        self.forwarded: list[Any] = []
        self.desk = RenderDesk(
            IdleWorker,  # type: ignore[arg-type]
            lambda _, asked, ticket: self.sent.append((asked, ticket)),
            lambda asked, answer: self.answered.append((asked, answer)),
            lambda asked, header, parts: self.forwarded.append(asked),
        )
        self.desk.tick()
        self.receive(dataclasses.replace(samples()["Welcome"], render_workers=workers))

    def receive(self, message: Any, ticket: int = 0) -> None:
        parts = wire.encode(message, request_id=ticket)
        self.desk.received(wire.open_header(parts, wire.FROM_SERVER), parts)


def asked(view: str, number: int = 0) -> Asked:
    return Asked("frames", b"anna", number, dataclasses.replace(REQUEST, view=view, instances=()))


def test_the_desk_hands_over_as_many_pictures_as_there_are_workers_and_answers_whose_they_are() -> None:
    it = Desk(workers=3)
    frames = [asked(f"frame {number}", number) for number in range(5)]
    for frame in frames:
        it.desk.ask(frame)
    assert [one for one, _ in it.sent] == frames[:3]
    assert it.desk.waiting == 5
    it.receive(Ping(), it.sent[1][1])  # any answer with the second's ticket
    assert it.forwarded == [frames[1]]
    assert [one for one, _ in it.sent] == frames[:4]
    it.receive(Ping(), it.sent[1][1])
    assert it.forwarded == [frames[1]], "an answer that comes twice counts once"
    it.receive(dataclasses.replace(samples()["Welcome"], render_workers=1))  # two of them are gone
    it.receive(Ping(), it.sent[0][1])
    assert len(it.sent) == 4, "as many are still under way as there are workers"
    newer = asked("frame 4", 9)
    it.desk.ask(newer)
    assert [(one, type(answer)) for one, answer in it.answered] == [(frames[4], Superseded)]
    for ticket in (it.sent[2][1], it.sent[3][1]):
        it.receive(Ping(), ticket)
    assert it.sent[4][0] is newer


def lanes(path: Path, count: int) -> tuple[TrainingLanes, list[JobRecord], list[Any]]:
    """Lanes whose workers do nothing, what was begun in them, and what their workers were told."""
    begun: list[JobRecord] = []
    told: list[Any] = []

    def start(record: JobRecord) -> Any:
        begun.append(record)
        return IdleWorker()

    return (
        TrainingLanes(count, Journal(path), start, lambda _, message: told.append(message), lambda _: None),
        begun,
        told,
    )


def test_lanes_take_jobs_from_one_queue_and_each_job_keeps_its_lane(tmp_path: Path) -> None:
    jobs, begun, told = lanes(tmp_path / "j.jsonl", 2)
    ids = [jobs.start(StartTraining(name, name, "demo_head", "tiny")).job_id for name in "abc"]
    assert jobs.start(StartTraining("b", "b", "demo_head", "tiny")).job_id == ids[1], "the same key is the same job"
    jobs.tick()
    jobs.tick()
    assert [record.name for record in begun] == ["a", "b"]
    assert [jobs.info(one).state for one in ids] == ["running", "running", "queued"]
    assert jobs.info(ids[2]).place == 1
    second = jobs.of(ids[1])
    assert second is not jobs.of(ids[0])
    second.received(JobInfo(ids[1], "train", "b", "running", 7, 10, losses={"l1": 0.5}))
    assert (jobs.info(ids[1]).step, jobs.info(ids[0]).step) == (7, 0)
    assert jobs.curve(ids[1]).steps.tolist() == [7]
    jobs.change(ChangeJob(ids[1], "pause"))
    assert [(message.job_id, message.action) for message in told] == [(ids[1], "pause")]
    jobs.stop(0.0)
    assert {message.job_id for message in told} == {ids[0], ids[1]}


def test_one_host_trains_one_avatar_at_a_time(tmp_path: Path) -> None:
    engine = LocalEngine(open_home(tmp_path), "cpu")
    jobs, begun, _ = lanes(tmp_path / "j.jsonl", engine.trainings)
    for name in "ab":
        jobs.start(StartTraining(name, name, "demo_head", "tiny"))
    jobs.tick()
    assert [record.name for record in begun] == ["a"]
    engine.close()


class Asker:
    """A client of a backend with three workers, which takes a little longer for every other picture."""

    under_way, most, closed = 0, 0, 0
    lock, three = threading.Lock(), threading.Event()

    def request(self, message: Any, *, timeout_s: float) -> Any:
        return dataclasses.replace(samples()["Status"], render_workers=3)

    def render(self, request: RenderRequest, *, timeout_s: float) -> str:
        with Asker.lock:
            Asker.under_way += 1
            Asker.most = max(Asker.most, Asker.under_way)
            if Asker.most == 3:
                Asker.three.set()
        Asker.three.wait(20)  # the first ones, for the others: on a busy machine they may begin late
        time.sleep(0.02 if request.width_px % 2 else 0.01)
        with Asker.lock:
            Asker.under_way -= 1
        if request.width_px == 30:
            raise WorkerFailed("It could not be drawn")
        return f"frame {request.width_px}"

    def close(self) -> None:
        Asker.closed += 1


def test_a_film_has_as_many_pictures_under_way_as_there_are_workers_and_comes_in_order() -> None:
    requests = [dataclasses.replace(REQUEST, width_px=1 + number) for number in range(20)]
    made: list[Asker] = []

    def client() -> Any:
        made.append(Asker())
        return made[-1]

    frames: list[Any] = list(rendered_in_order(iter(requests[::-1]), client, timeout_s=1.0))
    assert frames == [f"frame {number}" for number in range(20, 0, -1)]
    assert Asker.most == 3
    assert Asker.closed == len(made)
    failing = [dataclasses.replace(REQUEST, width_px=28 + number) for number in range(9)]
    found: Any = rendered_in_order(iter(failing), client, timeout_s=1.0)
    assert [next(found), next(found)] == ["frame 28", "frame 29"]
    with pytest.raises(WorkerFailed):
        next(found)
    assert Asker.closed == len(made)


def test_the_benchmark_tells_what_ray_adds_beside_the_drawing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [EngineRow(256, 40, 12.0, 9.0, 20.0, 10.0, True), EngineRow(512, 40, 10.0, 9.0, 20.0, 10.0, False)]
    monkeypatch.setattr(engine_benchmark, "measure_engines", lambda *_: iter(rows))
    assert main(["benchmark", "ray"]) == 1, "pixels differ in the second"
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("Ray adds 7.0 ms, ratio 1.67, pixels equal")
    assert told[1].endswith("DIFFERENT")
