"""Every parser against a few hundred damaged inputs, the same ones each time; longer runs: `python -m backend fuzz`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.fuzzing.children import rows_of
from backend.fuzzing.parsers import PARSERS
from backend.fuzzing.runner import CURRENT, Parser, Row, bounded_memory, fuzz
from backend.fuzzing.sweeps import sweep
from backend.fuzzing.wire_samples import messages, read_parts
from shared.errors import BadMessage, EffigyError, VersionMismatch
from shared.messages import MESSAGES, PROTOCOL_VERSION
from tests.attacks import addon_parsers

ALL = {**PARSERS, **addon_parsers.PARSERS}
CASES = {"wire": 1000, "flame_model": 3, "video": 8, "teacher": 10, "flame_uv": 20, "insta": 40}
CASES |= dict.fromkeys(("peoplesnapshot", "peoplesnapshot_raw", "rana", "selfrecon", "zju_mocap", "rgbavatar"), 40)
CASES |= dict.fromkeys(
    ("body_set", "nersemble", "gaussian_avatars", "pseudo_truth", "capture", "refined_parameters"), 60
)
CASES |= dict.fromkeys(("body_model", "template", "mesh_file"), 100)
USUAL_CASES = 200
"""Of those that take less than 2 ms a case: 0.2 s each."""
FORGIVING = ("journal", "label")
"""Parsers that leave out what is damaged."""


@pytest.mark.parametrize("name", ALL)
def test_damaged_input_is_read_or_refused_in_a_sentence(name: str) -> None:
    if name == "video":
        pytest.importorskip("imageio_ffmpeg")
    most = CASES.get(name, USUAL_CASES)
    with bounded_memory():
        row = fuzz(ALL[name], seed=1, more=lambda count: count < most)
    assert row.cases == most
    assert not row.crashes, "\n".join(row.crashes)
    if name not in FORGIVING:
        assert row.refused > most / 10


def test_a_parser_that_crashes_or_overlooks_damage_is_found() -> None:
    def careless(files: object) -> None:
        {}["missing"]

    def once(parse: object, sealed: bool = False) -> Row:
        return fuzz(Parser("x", lambda: ({"x": b"1234"},), parse=parse, sealed=sealed), 0, lambda n: n < 20)  # type: ignore[arg-type]

    with pytest.raises(KeyError):  # a sample must be valid
        once(careless)
    assert "ValueError" in once(lambda files: int(files["x"])).crashes[0]  # type: ignore[index]
    assert "not noticed" in once(lambda files: None, sealed=True).crashes[0]
    assert not once(lambda files: None).crashes


def test_a_parser_that_takes_its_process_along_is_told_and_the_rest_read_on(tmp_path: Path) -> None:
    names = ("fine", "dying", "after")
    rows = [row for row, _ in rows_of(names, 0.2, 1, tmp_path, "tests.attacks.dying_parsers")]
    assert [row["name"] for row in rows] == list(names)
    assert [len(row["crashes"]) for row in rows] == [0, 1, 0]
    assert rows[2]["cases"] > 0
    assert "status -9" in rows[1]["crashes"][0]
    assert (tmp_path / "dying" / CURRENT / "x").is_file()


@pytest.mark.parametrize("name", ["avatar", "checkpoint"])
def test_a_cut_or_a_flipped_bit_is_noticed(name: str) -> None:
    for one in sweep(PARSERS[name], cuts=12, flips=20):
        assert not one.missed, f"{one.file}: {one.missed}"


def test_most_messages_have_a_sample() -> None:
    assert len(messages()) > len(MESSAGES) * 0.7


@settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=64), min_size=0, max_size=5))
def test_random_parts_are_no_message(parts: list[bytes]) -> None:
    with pytest.raises((BadMessage, VersionMismatch)):
        read_parts({str(index): part for index, part in enumerate(parts)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(MESSAGES)), JSON, st.lists(st.tuples(st.text(max_size=8), JSON), max_size=3))
def test_any_json_in_a_header_is_read_or_refused(name: str, body: object, arrays: list[tuple[str, object]]) -> None:
    header = {"effigy": PROTOCOL_VERSION, "name": name, "id": 1, "epoch": "", "body": body, "arrays": arrays}
    try:
        read_parts({"0": json.dumps(header).encode(), **{str(index + 1): b"" for index in range(len(arrays))}})
    except EffigyError:
        return
    assert isinstance(body, dict)
