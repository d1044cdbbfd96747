"""A training of two processes on a full disk, without memory, with a loss that is no number: what is told and kept."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from avatars.training import ranks
from backend.on_gpus import torchrun
from shared.messages import NO_ROOM
from tests import ranks_faults
from tests.ranks_faults import BATCH, FAULT_AT, IMAGES, SHORT
from tests.tiny import tiny_capture

ROOT = Path(__file__).resolve().parents[2]
Saw = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> Saw:
    """What the first process saw of each fault, and what the second did."""
    folder = tmp_path_factory.mktemp("faults")
    tiny_capture(folder / "capture", size=32, frames=3, cameras=2, gaussians=300)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    command = [*torchrun(2), "-m", ranks_faults.__name__, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((folder / f"saw.{rank}.json").read_text()) for rank in (0, 1))
    return first, second


@pytest.mark.parametrize("where", SHORT)
def test_nothing_is_lost_where_one_is_out_of_memory(saw: Saw, where: str) -> None:
    """Wherever in a step it is, also where the others wait for its sums: all know, the first writes, all end."""
    first, second = (process[where]["first"] for process in saw)
    assert "Short: 1 of 2 processes of the training out of memory" in (first["end"], second["end"])
    assert all("out of memory" in end for end in (first["end"], second["end"]))
    learned = FAULT_AT + BATCH * (where == "after_step")  # that step stands
    assert (first["saved"], first["finite"], len(first["learned"])) == (learned, True, learned)
    if saw[0][where]["again"] is None:
        return
    again = saw[0][where]["again"]
    assert f"Resumed at {learned} images" in again["told"]
    assert (again["end"], again["batch"], again["saved"]) == ("done", BATCH // 2, IMAGES)
    seen = Counter(first["learned"] + again["learned"])
    assert sum(seen.values()) == IMAGES
    assert len(seen) == first["pictures"]
    assert max(seen.values()) - min(seen.values()) <= 1, "none is passed over, none comes twice in a round"


def test_a_full_disk_is_waited_for_longer_than_a_sum(saw: Saw) -> None:
    first, second = (process["full"] for process in saw)
    waits = [text for text in first["told"] if text.startswith(NO_ROOM)]
    assert "bytes for a checkpoint (No space left on device)" in waits[0]
    assert first["end"] == second["end"] == "done"
    assert first["learned"] == second["learned"]
    assert (first["saved"], len(first["learned"])) == (IMAGES, IMAGES)


def test_a_sum_to_which_one_does_not_come_ends(saw: Saw) -> None:
    assert "Timed out" in saw[0]["late"]


def test_gradients_are_sent_in_the_order_in_which_backward_makes_them(saw: Saw) -> None:
    for process in saw:
        first, second = process["in_order"]["given"]
        assert first == [{"0": 30.0, "1": 18.0}], "no buckets yet: summed together, (1 + 2) times each slope"
        assert second == [{"0": 30.0}, {"1": 18.0}, {}], "one bucket after the other"
        assert process["in_order"]["buckets"] == [[0], [1]], "not the last in the list first"


def test_a_loss_that_is_no_number_never_reaches_a_checkpoint(saw: Saw) -> None:
    """The first process's own loss was a number; what it would have written was none."""
    for process, found in zip(saw, ("parameters", "a loss"), strict=True):
        assert process["nan"]["end"].startswith(
            f"EffigyError: training diverged at {FAULT_AT + BATCH} images (found {found} "
        )
        assert (process["nan"]["saved"], process["nan"]["finite"]) == (FAULT_AT, True)


def test_a_picture_that_goes_missing_is_one_sentence_and_the_checkpoint_stays(saw: Saw) -> None:
    for process in saw:
        first, again = process["missing"]["first"], process["missing"]["again"]
        assert first["end"].startswith("BadCapture: ")
        assert process["missing"]["picture"] in first["end"]
        assert "\n" not in first["end"]
        assert first["saved"] == FAULT_AT
        assert (again["end"], len(first["learned"] + again["learned"])) == ("done", IMAGES)


def test_sums_are_waited_for_minutes_and_the_first_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, timedelta] = {}
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda kind, timeout: given.update(sums=timeout))
    monkeypatch.setattr(ranks.dist, "new_group", lambda backend, timeout: given.update({backend: timeout}))
    monkeypatch.setattr(ranks, "_groups", {})
    ranks.join(torch.device("cpu"))
    assert given == {"sums": timedelta(minutes=30), "gloo": timedelta(days=7)}
