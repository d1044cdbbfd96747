"""Two minutes of chaos. What each fault does by itself has its own tests; here they come together."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from backend import cli_chaos
from backend.chaos.faults import FAULTS
from backend.chaos.kills import run_kills
from backend.chaos.run import Outcome, Survival, due, run_chaos
from backend.chaos.watch import Watch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="chaos stops processes as Linux does")


@pytest.mark.timeout(900)
def test_two_minutes_of_chaos(tmp_path: Path) -> None:
    outcome = run_chaos(tmp_path, 120, 4)
    assert outcome.violations == []
    assert outcome.injected == outcome.survived >= 20
    assert sum(times > 0 for times in outcome.faults.values()) >= 9
    assert outcome.clients["answered"] == outcome.clients["asked"] >= 50
    assert outcome.jobs["done"] == outcome.jobs["acknowledged"] >= 1


@pytest.mark.timeout(900)
def test_a_training_that_is_killed_ends_as_one_that_is_left_alone(tmp_path: Path) -> None:
    few = {"schedule.images": "48", "reporting.checkpoint_images": "4", "reporting.curve_points": "0"}
    outcome = run_kills(tmp_path, 2, 5, training=few)
    assert (outcome.kills, outcome.equal) == (2, outcome.runs)
    assert outcome.in_writes == 1, "every other kill is inside of a checkpoint"


def test_nothing_is_ended_again_before_it_got_on() -> None:
    killing, harmless = ["server killed", "render worker killed", "train worker killed"], "garbage on the port"
    then = {"pictures": 5, "learning": (["images_8"], [])}
    assert due([*killing, harmless], {}, then) == "server killed"
    assert due([*killing, harmless], then, then) == harmless
    assert due([*killing, harmless], then, {**then, "pictures": 6}) == "render worker killed"
    assert due([*killing, harmless], then, {**then, "learning": (["images_16"], [])}) == "train worker killed"
    assert due(killing, then, then) not in killing


def test_a_fault_is_survived_when_the_backend_answers_after_it_and_all_holds() -> None:
    survival = Survival()
    survival.injected(True)
    survival.looked(False, 0)
    assert survival.survived == 0
    survival.injected(False)  # nothing was there to be disturbed
    survival.injected(True)
    survival.looked(True, 0)
    assert survival.survived == 2
    survival.injected(True)
    survival.looked(True, 1)
    assert survival.survived == 2


def test_a_seed_decides_the_schedule() -> None:
    def schedule(seed: int) -> list[str]:
        return random.Random(seed).choices(list(FAULTS), [fault.weight for fault in FAULTS.values()], k=40)

    assert schedule(1) == schedule(1) != schedule(2)
    assert set(schedule(1)) | set(schedule(2)) | set(schedule(3)) == set(FAULTS)


def test_what_does_not_hold_is_said_once_and_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch()
    watch.violated("a job was lost")
    watch.violated("a job was lost")
    assert len(watch.violations) == 1
    clients, jobs = {"asked": 2, "answered": 1, "wrong": 0, "lost": 1}, dict.fromkeys(JOBS, 0)
    broken = Outcome(7, 1.0, dict.fromkeys(FAULTS, 1), clients, jobs, violations=watch.violations)
    monkeypatch.setattr("backend.chaos.run.run_chaos", lambda *_, **__: broken)
    words = ["chaos", "--minutes", "0.01", "--seed", "7", "--output", str(tmp_path)]
    assert _run(words) == cli_chaos.VIOLATED
    assert "NOT HELD" in capsys.readouterr().out
    assert _run([*words, "--json"]) == cli_chaos.VIOLATED
    assert json.loads(capsys.readouterr().out)["injected"] == len(FAULTS)


JOBS = ("acknowledged", "done", "lost", "different")


def _run(words: list[str]) -> int:
    from backend.cli import main

    return main(words)
