"""The restricted pickle reader: arrays of any age come out, hostile files are refused and run nothing."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from avatars.templates import restricted_pickle
from avatars.templates.pickled_arrays import Inert
from avatars.templates.restricted_pickle import read_pickle
from shared.errors import BadCapture, BadTemplate
from tests.flame_files import Named, Sparse, Wrapped, python2_pickle

MARKER = "effigy_was_here"


@pytest.mark.parametrize("protocol", range(6))
def test_todays_pickles_of_arrays_come_back(protocol: int) -> None:
    rng = np.random.default_rng(0)
    value = {
        "floats": rng.random((3, 4, 2)),
        "fortran": np.asfortranarray(rng.random((3, 4))),
        "small": rng.integers(0, 9, 5).astype(np.uint8),
        "big endian": np.arange(4, dtype=">i4"),
        "none left": np.zeros((0, 3), np.float32),
        "scalar": np.float32(2.5),
        "words": ["a", b"b", ("c", 1, 2.0, None, True)],
        "objects": np.array([{"a": 1}], dtype=object),
        "ordered": OrderedDict(x=1),
    }
    read = read_pickle(pickle.dumps(value, protocol), "file")
    for name in ("floats", "fortran", "small", "big endian", "none left", "scalar"):
        np.testing.assert_array_equal(read[name], value[name])
        assert read[name].dtype == value[name].dtype
    assert read["words"] == value["words"]
    assert read["objects"] == [{"a": 1}]
    assert dict(read["ordered"]) == {"x": 1}


@pytest.mark.parametrize("make", [sparse.csc_matrix, sparse.csr_matrix, sparse.csc_array])
def test_todays_sparse_matrices_come_back_dense(make: Any) -> None:
    table = np.random.default_rng(1).random((5, 9)) * (np.random.default_rng(2).random((5, 9)) > 0.6)
    np.testing.assert_array_equal(read_pickle(pickle.dumps({"m": make(table)}, 4), "file")["m"], table)


def test_python_twos_pickle_with_chumpy_comes_back() -> None:
    array = np.arange(12.0).reshape(4, 3)
    content = python2_pickle({b"x": Wrapped(array), b"word": b"lbs", b"count": np.array([1, 2], np.uint32)})
    read = read_pickle(content, "file")
    np.testing.assert_array_equal(read["x"], array)
    np.testing.assert_array_equal(read["count"], [1, 2])
    assert read["word"] == "lbs"


class Called:
    """Pickles as a call of any global with any arguments."""

    def __init__(self, module: str, name: str, *arguments: Any, state: Any = None) -> None:
        self.parts = Named(module, name), arguments, state

    def __reduce__(self) -> Any:
        return self.parts if self.parts[2] is not None else self.parts[:2]


def _selected() -> bytes:
    """chumpy.reordering.Select, which SMPL files hold."""
    state = {b"a": Wrapped(np.arange(6.0)), b"idxs": np.array([4, 1, 0, 2]), b"preferred_shape": (2, 2)}
    maker = Called(
        "copy_reg", "_reconstructor", Named("chumpy.reordering", "Select"), Named("__builtin__", "object"), None
    )
    maker.parts = (*maker.parts[:2], state)
    return python2_pickle({b"s": maker})


def test_chumpys_selection_is_applied_and_other_chumpy_objects_stay_inert() -> None:
    np.testing.assert_array_equal(read_pickle(_selected(), "file")["s"], [[4, 1], [0, 2]])
    odd = Called("copy_reg", "_reconstructor", Named("chumpy.ch", "Odd"), Named("__builtin__", "object"), None)
    odd.parts = (*odd.parts[:2], {b"y": 3})
    read = read_pickle(python2_pickle({b"o": odd}), "file")["o"]
    assert isinstance(read, Inert)
    assert (read.kind, read.state) == ("chumpy.ch.Odd", {"y": 3})


RUNS = {
    "os.system": Called("os", "system", f"touch {MARKER}"),
    "posix.system": Called("posix", "system", f"touch {MARKER}"),
    "subprocess": Called("subprocess", "Popen", ["touch", MARKER]),
    "eval": Called("builtins", "eval", f"open({MARKER!r}, 'w')"),
    "python 2's eval": Called("__builtin__", "eval", f"open({MARKER!r}, 'w')"),
    "exec": Called("builtins", "exec", f"open({MARKER!r}, 'w')"),
    "open": Called("io", "open", MARKER, "w"),
    "getattr": Called("builtins", "getattr", Named("numpy", "ndarray"), "tofile"),
    "numpy's own eval": Called("numpy.testing._private.utils", "runstring", "1", {}),
    "numpy.load": Called("numpy", "load", MARKER, None, True),
    "numpy's unpickler": Called("numpy", "loads", b"cos\nsystem\n."),
    "a scipy function": Called("scipy.sparse", "load_npz", MARKER),
    "memmap": Called("numpy", "memmap", MARKER, "u1", "w+", 0, (4,)),
    "codecs.open": Called("_codecs", "lookup", "x"),
    "another encoding": Called("_codecs", "encode", "x", "rot13"),
    "__setstate__ of a type": Called("numpy", "ndarray", (4,), state={"__class__": 1}),
    "a class below object": Called("copy_reg", "_reconstructor", Named("builtins", "object"), Named("os", "system"), 1),
    "a reduced object": Called("copy_reg", "_reconstructor", Named("numpy", "ndarray"), Named("builtins", "object"), 1),
    "a structured type": Called("numpy", "dtype", "V8", 0, 1, state=(3, "|", None, ("a",), {}, 8, 1, 0)),
}


@pytest.mark.parametrize("kind", RUNS)
def test_what_would_run_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called: list[Any] = []
    for owner, name in ((os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(owner, name, lambda *given, **named: called.append(given))
    with pytest.raises(BadTemplate, match=r"evil\.pkl (asks for more than data|is no intact pickle)"):
        read_pickle(python2_pickle({b"v_template": RUNS[kind]}), "evil.pkl")
    assert not called
    assert not list(tmp_path.iterdir()), "nothing was written"


RAW = {
    "instance": b"(ios\nsystem\n.",
    "object": b"(cos\nsystem\nX\x01\x00\x00\x00xo.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"\x80\x02X\x01\x00\x00\x00xQ.",
    "keyword call": b"\x80\x04cos\nsystem\n)}\x92.",
    "state for a function": b"c_codecs\nencode\n}b.",
    "state for a list": b"]}b.",
    "text of 4 GB": b"T\xff\xff\xff\x7fabc.",
    "text of 2^60": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"abc.",
    "negative length": b"T\xff\xff\xff\xffabc.",
    "huge number": b"L" + b"9" * 50_000 + b"L\n.",
    "nothing": b"",
    "no end": b"]",
    "empty stack": b"\x80\x02.",
    "mark in place of a value": b"(.",
    "list as a key": b"}](s.",
    "unhashable": b"}]]s.",
    "unknown operation": b"\xff.",
    "memo that was never set": b"h\x05.",
    "cycle": b"]q\x00h\x00a.",
    "deep nesting": b"]" * 20_000 + b"a" * 19_999 + b".",
    "endless work": b"]" + b"0]" * 150_000 + b".",
    "text": b"v_template: 1\n",
}


@pytest.mark.parametrize("kind", RAW)
def test_what_is_no_data_is_refused_quickly(kind: str) -> None:
    with pytest.raises(BadTemplate, match=r"evil\.pkl"):
        read_pickle(RAW[kind], "evil.pkl")


def test_a_memo_number_of_two_billion_allocates_nothing() -> None:
    assert read_pickle(b"]r\xff\xff\xff\x7f.", "file") == []  # Python's own machine makes a table of 16 GB for it


def _array_pickle(shape: tuple[Any, ...], data: bytes, dtype: str = "f8") -> bytes:
    array = Called("numpy.core.multiarray", "_reconstruct", Named("numpy", "ndarray"), (0,), b"b")
    kind = Called("numpy", "dtype", dtype.encode(), 0, 1)
    kind.parts = (*kind.parts[:2], (3, b"<", None, None, None, -1, -1, 0))
    array.parts = (*array.parts[:2], (1, shape, kind, False, data))
    return python2_pickle(array)


@pytest.mark.parametrize(
    ("shape", "data", "dtype"),
    [
        ((1 << 60,), b"12345678", "f8"),
        ((1 << 40, 1 << 40), b"", "f8"),
        ((-1,), b"12345678", "f8"),
        ((2,), b"12345678", "f8"),
        ((1.0,), b"12345678", "f8"),
        ((1,) * 40, b"12345678", "f8"),
        ((1,), b"12345678", "V8"),
        ((1,), b"12345678", "f8,f8"),
        ((1,), b"12345678", "O8"),
    ],
)
def test_arrays_whose_shape_and_content_disagree_are_refused(shape: Any, data: bytes, dtype: str) -> None:
    np.testing.assert_array_equal(read_pickle(_array_pickle((1,), b"\0" * 8), "file"), [0.0])
    with pytest.raises(BadTemplate, match=r"evil\.pkl"):
        read_pickle(_array_pickle(shape, data, dtype), "evil.pkl")


@pytest.mark.parametrize(
    "change",
    [
        {"_shape": (1 << 30, 1 << 30)},
        {"_shape": (5,)},
        {"indices": np.array([0, 5], np.int32)},
        {"indices": np.array([0, -1], np.int32)},
        {"indices": np.array([0], np.int32)},
        {"indptr": np.array([0, 1, 9], np.int32)},
        {"indptr": np.array([0, 3, 2], np.int32)},
        {"indptr": np.array([0, 2], np.int32)},
        {"data": np.array(["a", "b"])},
    ],
)
def test_sparse_matrices_that_point_outside_themselves_are_refused(change: dict[str, Any]) -> None:
    good = {
        "data": np.array([2.0, 3.0]),
        "indices": np.array([0, 4], np.int32),
        "indptr": np.array([0, 1, 2], np.int32),
        "_shape": (5, 2),
    }
    read = read_pickle(python2_pickle(Sparse(**good)), "file")
    np.testing.assert_array_equal(read, [[2, 0], [0, 0], [0, 0], [0, 0], [0, 3]])
    with pytest.raises(BadTemplate, match=r"evil\.pkl"):
        read_pickle(python2_pickle(Sparse(**(good | change))), "evil.pkl")


def test_a_text_used_a_thousand_times_meets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle, "MAX_MADE_BYTES", 1 << 20)
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    content = b"\x80\x02X" + struct.pack("<I", 10_000) + b"x" * 10_000 + b"q\x000](" + call * 200 + b"e."
    with pytest.raises(BadTemplate, match=r"evil\.pkl.*more than"):
        read_pickle(content, "evil.pkl")


def test_a_list_made_into_sets_a_thousand_times_meets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle, "MAX_MADE_BYTES", 1 << 20)
    items = b"](" + b"".join(b"K" + bytes([k % 256]) for k in range(1000)) + b"eq\x000"
    for call in (b"c__builtin__\nset\nh\x00\x85R", b"ccollections\nOrderedDict\n]\x85R0c__builtin__\nset\nh\x00\x85R"):
        assert read_pickle(b"\x80\x02" + items + call + b".", "file") == set(range(256))
        with pytest.raises(BadTemplate, match=r"evil\.pkl.*more than"):
            read_pickle(b"\x80\x02" + items + b"](" + call * 50 + b"e.", "evil.pkl")


def test_keys_are_short() -> None:
    key = b"X" + struct.pack("<I", 5000) + b"x" * 5000
    with pytest.raises(BadTemplate, match=r"evil\.pkl.*key is too long"):
        read_pickle(b"\x80\x02}" + key + b"K\x01s.", "evil.pkl")


def test_shared_parts_do_not_multiply() -> None:
    doubling = b"]q\x00" + b"".join(b"](h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) for k in range(30))
    assert len(read_pickle(doubling + b".", "file")) == 2


def test_files_too_large_or_missing_are_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(np.zeros(1000)))
    with pytest.raises(BadCapture, match=r"model\.pkl is too large"):
        read_pickle(path, error_class=BadCapture, max_bytes=100)
    with pytest.raises(BadTemplate, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_changed_bytes_never_do_more_than_refuse(at: int, put: bytes) -> None:
    content = bytearray(pickle.dumps({"x": np.arange(6.0), "y": [1, "a"], "m": sparse.csc_matrix(np.eye(2))}, 2))
    at %= len(content)
    content[at : at + len(put)] = put
    with contextlib.suppress(BadTemplate):  # anything else fails the test
        read_pickle(bytes(content), "file")


def test_further_builders_and_persistent_ids_serve_other_formats() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", value.n) if isinstance(value, Storage) else None

    file = io.BytesIO()
    Pickler(file, 2).dump({"a": Storage(3), "b": complex(1, 2)})
    read = read_pickle(
        file.getvalue(), "file", persistent=lambda key: key[1] * 10, builders={("__builtin__", "complex"): complex}
    )
    assert read == {"a": 30, "b": 1 + 2j}


class Storage:
    """Stands for a torch storage."""

    def __init__(self, n: int) -> None:
        self.n = n
