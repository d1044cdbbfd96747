"""The job journal: what was written is found again, whatever became of the last line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.jobs import COMPACT_ABOVE_LINES, JobRecord, Journal, new_job_id
from shared.errors import EnvironmentFailed


def record(job_id: str = "j1", **change: object) -> JobRecord:
    return replace(JobRecord(job_id, "key", "Größe", "demo_head", "tiny", {"seed": "1"}), **change)  # type: ignore[arg-type]


def test_records_come_back_in_order_with_their_last_state(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for item in (record("a"), record("b", key="other"), record("a", state="paused", step=7)):
        journal.put(item)
    again = Journal(tmp_path / "journal.jsonl")
    assert list(again.records) == ["a", "b"]
    assert again.records["a"] == record("a", state="paused", step=7)
    assert again.by_key("other") == record("b", key="other")
    assert again.by_key("") is None


def test_a_job_found_running_is_queued_again(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.jsonl").put(record(state="running"))
    assert Journal(tmp_path / "journal.jsonl").records["j1"].state == "queued"


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_costs_only_that_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    journal = Journal(path)
    journal.put(record("a"))
    whole = path.stat().st_size
    journal.put(record("a", state="paused"))
    content = path.read_bytes()
    path.write_bytes(content[: max(whole, len(content) - cut)])
    again = Journal(path)
    assert again.records["a"].state == "queued"
    again.put(record("b"))
    assert list(Journal(path).records) == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"job_id": 5}',
        b'{"job_id":"x","key":"","name":"","capture":"","preset":"","state":"?"}',
    ],
)
def test_a_damaged_line_in_between_is_left_out_and_counted(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).put(record("a"))
    path.write_bytes(path.read_bytes() + line + b"\n")
    Journal(path).put(record("b"))
    again = Journal(path)
    assert list(again.records) == ["a", "b"]
    assert again.damaged_lines == 1


def test_fields_of_a_later_version_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).put(record())
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}) + "\n")
    assert Journal(path).records["j1"] == record()


def test_a_long_journal_is_written_anew_at_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).put(record("a", state="done"))
    path.write_bytes(path.read_bytes() * (COMPACT_ABOVE_LINES + 1))
    Journal(path)
    assert len(path.read_bytes().splitlines()) == 1
    assert Journal(path).records["a"] == record("a", state="done")


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_disk_that_refuses_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put(record("a"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        with pytest.raises(EnvironmentFailed, match=r"journal cannot be written.*Make room"):
            journal.put(record("b"))
        assert journal.happened(record("a", state="done")).state == "done"  # nobody can be asked to undo that
        journal.catch_up()
        assert Journal(path).records["a"].state == "queued"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(journal.records) == ["a"]
    assert journal.records["a"].state == "done"
    journal.catch_up()
    assert Journal(path).records["a"].state == "done"
    journal.put(record("c"))
    assert list(Journal(path).records) == ["a", "c"]


def test_ids_are_unique_and_fit_for_folders() -> None:
    ids = {new_job_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(set(name) <= set("0123456789abcdef-") for name in ids)
