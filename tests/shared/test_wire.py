"""Messages survive the wire unchanged; anything else is refused with BadMessage before memory is taken for it."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared import messages as m
from shared import wire
from shared.errors import ERRORS_BY_CODE, BadMessage, VersionMismatch
from shared.types import ProxyMesh, Rig
from tests.shared.samples import proxy, rig, same, samples

GOLDEN = Path(__file__).parent / "golden" / f"wire_v{m.PROTOCOL_VERSION}.json"
NAMES = sorted(m.MESSAGES)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LENIENT = wire.Limits(header_bytes=1024**2, parts=128, total_bytes=1024**3)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value a field of this type hint may hold."""
    if hint is Rig:
        return st.builds(rig, st.integers(1, 4), st.integers(0, 3))
    if hint is ProxyMesh:
        return st.builds(proxy, st.integers(0, 3))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{field.name: values(hints[field.name]) for field in dataclasses.fields(hint)})
    if type(None) in typing.get_args(hint):
        return st.none() | values(typing.get_args(hint)[0])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    origin = typing.get_origin(getattr(origin, "__value__", None)) or origin  # numpy 2.5's NDArray is an alias
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(str), values(arguments[1]), max_size=3)
    if origin is np.ndarray:
        shapes = hnp.array_shapes(min_dims=0, max_dims=wire.MAX_DIMENSIONS, min_side=0, max_side=3)
        return st.sampled_from(sorted(wire.DTYPES)).flatmap(lambda name: hnp.arrays(name, shapes))
    return {
        str: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        int: st.integers(-(2**63) + 1, 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
    }[hint]


def joined(parts: list[wire.Part]) -> list[bytes]:
    """As they arrive: plain bytes."""
    return [bytes(part) for part in parts]


def edited(parts: list[wire.Part], **header: Any) -> list[bytes]:
    """The same message with other header entries."""
    return [json.dumps({**json.loads(bytes(parts[0])), **header}).encode(), *joined(parts[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_every_message_survives(name: str) -> None:
    @QUICK
    @given(values(m.MESSAGES[name]), st.integers(0, 2**63 - 1), st.text("0123456789abcdef", max_size=32))
    def check(message: Any, request_id: int, epoch: str) -> None:
        envelope = wire.decode(joined(wire.encode(message, request_id=request_id, epoch=epoch)), limits=LENIENT)
        assert same(envelope.message, message)
        assert (envelope.request_id, envelope.epoch) == (request_id, epoch)

    check()


def test_bytes_are_those_of_the_golden_file() -> None:
    """Guards compatibility: when this fails, raise PROTOCOL_VERSION and add a golden file of the new version."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["version"] == m.PROTOCOL_VERSION
    made = {name: wire.encode(message, request_id=5, epoch="e1") for name, message in samples().items()}
    assert sorted(golden["messages"]) == sorted(made) == NAMES
    for name, parts in made.items():
        header, *buffers = golden["messages"][name]
        assert bytes(parts[0]).decode() == header, name
        assert [bytes(part).hex() for part in parts[1:]] == buffers, name
        stored = [header.encode(), *(bytes.fromhex(buffer) for buffer in buffers)]
        assert same(wire.decode(stored).message, samples()[name])


def test_arrays_are_read_only_views_of_the_received_bytes() -> None:
    image = np.random.default_rng(0).random((32, 16, 4)).astype(np.float16)
    parts = joined(wire.encode(m.FrameReply("v", ("combined",), (image,), 1.0)))
    received = wire.decode(parts).message.images[0]
    assert not received.flags.writeable
    assert np.shares_memory(received, np.frombuffer(parts[1], np.uint8))


def test_unaligned_bytes_still_give_an_aligned_array() -> None:
    parts = joined(wire.encode(m.JobPreview("j", 1, np.arange(12, dtype=np.float64).reshape(2, 2, 3))))
    shifted = memoryview(b"x" + parts[1])[1:]
    received = wire.decode([parts[0], shifted]).message.image
    assert received.flags.aligned
    assert received.ravel().tolist() == list(range(12))


def test_views_and_other_byte_orders_are_sent_as_they_look() -> None:
    image = np.arange(24, dtype=">u2").reshape(2, 4, 3)[:, ::-1]
    received = wire.decode(joined(wire.encode(m.JobPreview("j", 1, image)))).message.image
    assert received.dtype == np.dtype("<u2")
    assert received.tolist() == image.tolist()


@QUICK
@given(st.sampled_from(NAMES), st.data())
def test_mutated_messages_are_read_or_refused_but_never_break(name: str, data: st.DataObject) -> None:
    parts = joined(wire.encode(samples()[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(parts) - 1))
        part = bytearray(parts[index])
        if part and data.draw(st.booleans()):
            part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
        else:
            at = data.draw(st.integers(0, len(part)))
            part[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        parts[index] = bytes(part)
    outcome: Any = None
    try:
        outcome = wire.decode(parts).message
    except (BadMessage, VersionMismatch) as error:
        outcome = error
    assert type(outcome) in (*m.MESSAGES.values(), BadMessage, VersionMismatch)
    assert len(str(outcome)) < 2000 or type(outcome) in m.MESSAGES.values()


@QUICK
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(BadMessage):
        wire.decode(parts)


@settings(QUICK, max_examples=200)
@given(
    st.sampled_from(NAMES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
def test_fields_of_any_other_type_are_refused_or_valid(name: str, value: Any, data: st.DataObject) -> None:
    parts = wire.encode(samples()[name])
    body = json.loads(bytes(parts[0]))["body"]
    field = data.draw(st.sampled_from([*body, "extra"]))
    try:
        again = wire.decode(edited(parts, body={**body, field: value})).message
    except BadMessage:
        return
    assert field in body
    assert same(wire.decode(joined(wire.encode(again))).message, again)


HEADER = {"effigy": m.PROTOCOL_VERSION, "name": "Ping", "id": 1, "epoch": "", "body": {}, "arrays": []}
DEEP = b'{"effigy":2,"name":"Ping","id":1,"epoch":"","arrays":[],"body":' + b"[" * 30_000 + b"]" * 30_000 + b"}"


def header(**change: Any) -> bytes:
    return json.dumps({**HEADER, **change}).encode()


PREVIEW = {"job_id": "j", "step": 1, "image": 0}
REFUSED: dict[str, tuple[list[bytes], str]] = {
    "no parts": ([], "parts"),
    "129 parts": ([header()] + [b""] * 128, "parts"),
    "long header": ([header(epoch="x" * 70_000)], "header is too long"),
    "long message": ([header(), memoryview(np.zeros(65 * 1024**2, np.uint8))], "too long"),  # type: ignore[list-item]
    "not JSON": ([b"GET / HTTP/1.1"], "not JSON"),
    "not UTF-8": ([b"\xff\xfe{}"], "not JSON"),
    "too deep": ([DEEP], "too deep"),
    "not an object": ([b"[]"], "not an object"),
    "a field twice": ([b'{"effigy":1,"effigy":1}'], "twice"),
    "another protocol": ([b'{"jsonrpc":"2.0"}'], "not an Effigy message"),
    "version is a text": ([header(effigy="1")], "not an Effigy message"),
    "unknown header field": ([header(more=1)], "wrong fields"),
    "unknown name": ([header(name="Pong")], "did you mean 'Ping'"),
    "name is a list": ([header(name=["Ping"])], "unknown name"),
    "negative id": ([header(id=-1)], "request id"),
    "id is true": ([header(id=True)], "request id"),
    "long epoch": ([header(epoch="x" * 65)], "epoch"),
    "unknown field": ([header(body={"a": 1})], "wrong fields"),
    "missing field": ([header(name="GetAvatar")], "wrong fields"),
    "NaN": ([b'{"effigy":NaN}'], "NaN"),
    "infinity by overflow": ([header(name="Superseded", body={"view": 0}).replace(b"0}", b"1e999}")], "wrong type"),
    "huge integer": ([header(name="ChangeJob", body={"job_id": 10**30, "action": ""})], "wrong type"),
    "endless integer": ([b'{"effigy":' + b"9" * 5000 + b"}"], "not JSON"),
    "NUL in a text": ([header(name="GetAvatar", body={"avatar_id": "a\0b"})], "cannot be written"),
    "lone surrogate": ([header(name="GetAvatar", body={"avatar_id": "\ud800"})], "cannot be written"),
    "array without part": ([header(arrays=[["uint8", [1]]])], "do not match"),
    "part without array": ([header(), b"x"], "do not match"),
    "pickled dtype": ([header(arrays=[["object", [1]]]), b"12345678"], "may not be sent"),
    "negative shape": ([header(arrays=[["uint8", [-1, -1]]]), b"x"], "impossible shape"),
    "too many axes": ([header(arrays=[["uint8", [1] * 6]]), b"x"], "impossible shape"),
    "100 TB": ([header(arrays=[["float64", [10**7, 10**6, 10]]]), b"x" * 8], "not as long as it says"),
    "shape overflows 64 bits": ([header(arrays=[["uint8", [2**32, 2**32, 1]]]), b""], "not as long as it says"),
    "array too short": ([header(name="JobPreview", body=PREVIEW, arrays=[["uint8", [1, 1, 3]]]), b"xx"], "as long"),
    "array nobody names": ([header(arrays=[["uint8", [1]]]), b"x"], "no field names"),
    "array named wrongly": (
        [header(name="JobPreview", body={**PREVIEW, "image": 1}, arrays=[["uint8", [1, 1, 3]]]), b"xyz"],
        "next array",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(case: str) -> None:
    parts, reason = REFUSED[case]
    with pytest.raises(BadMessage, match=reason):
        wire.decode(parts)


def test_an_array_cannot_be_used_twice() -> None:
    parts = wire.encode(samples()["RenderRequest"])
    body = json.loads(bytes(parts[0]))["body"]
    body["world_from_camera"] = body["K"]
    with pytest.raises(BadMessage, match="next array"):
        wire.decode(edited(parts, body=body))


def test_a_rig_of_the_wrong_dtype_or_shape_is_refused() -> None:
    parts = wire.encode(samples()["AvatarDetail"])
    arrays = json.loads(bytes(parts[0]))["arrays"]
    assert arrays[0] == ["int32", [3]]
    with pytest.raises(BadMessage, match=r"rig\.parents has the wrong dtype"):
        wire.decode(edited(parts, arrays=[["uint32", [3]], *arrays[1:]]))
    with pytest.raises(BadMessage, match="rig is not valid"):
        wire.decode(edited(parts, arrays=[["int32", [3, 1]], *arrays[1:]]))


def test_refusing_takes_no_memory() -> None:
    parts, _ = REFUSED["100 TB"]
    tracemalloc.start()
    for _ in range(200):
        with pytest.raises(BadMessage):
            wire.decode(parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 1024**2


def test_another_version_is_told_apart_from_a_damaged_message() -> None:
    with pytest.raises(
        VersionMismatch, match=rf"version {m.PROTOCOL_VERSION + 1}.*version {m.PROTOCOL_VERSION}.*same release"
    ):
        wire.decode([header(effigy=m.PROTOCOL_VERSION + 1, new_field="whatever")])


@pytest.mark.parametrize("version", range(1, m.PROTOCOL_VERSION))
def test_messages_of_earlier_versions_are_refused_as_such(version: int) -> None:
    golden = json.loads((GOLDEN.parent / f"wire_v{version}.json").read_text(encoding="utf-8"))
    assert golden["version"] == version
    for text, *buffers in golden["messages"].values():
        with pytest.raises(VersionMismatch, match=f"version {version}"):
            wire.decode([text.encode(), *(bytes.fromhex(buffer) for buffer in buffers)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", None, True])
def test_what_does_not_fit_a_field_is_not_sent(bad: Any) -> None:
    with pytest.raises(BadMessage):
        wire.encode(m.FrameReply("v", (), (), bad))


def test_only_messages_are_sent() -> None:
    with pytest.raises(BadMessage, match="not a message"):
        wire.encode({"name": "Ping"})
    with pytest.raises(BadMessage, match="wrong type"):
        wire.encode(m.JobPreview("j", 1, np.array([object()])))


@pytest.mark.parametrize("code", sorted(ERRORS_BY_CODE))
def test_errors_arrive_as_they_were_raised(code: str) -> None:
    error = ERRORS_BY_CODE[code]("What is wrong", found="this", expected="that", do="Do so")
    again = wire.decode(joined(wire.encode(m.Failure.of(error)))).message.error()
    assert type(again) is type(error)
    assert str(again) == str(error)
