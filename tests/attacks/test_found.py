"""What long runs of the fuzzer broke once, each case as small as it can be said: refused in a sentence ever since."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.fuzzing.parsers import PARSERS
from backend.fuzzing.runner import write_files
from backend.fuzzing.samples import npz
from blender_addon.logic.pictures import is_whole
from shared.errors import EffigyError
from tests.attacks import addon_parsers


def _array(name: str, other: Any) -> Callable[[bytes], bytes]:
    """Another array in an .npz."""

    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as file:
            return npz(**{**file, name: np.array(other)})

    return change


def _value(name: str, other: Any) -> Callable[[bytes], bytes]:
    """Another value in a JSON object."""
    return lambda content: json.dumps({**json.loads(content), name: other}).encode()


FOUND: Mapping[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "raw bytes as a camera": ("peoplesnapshot", "cameras.npz", _array("intrinsic", np.zeros((3, 3), "V8"))),
    "text as a camera": ("peoplesnapshot", "cameras.npz", _array("extrinsic", [["x"] * 4] * 4)),
    "bytes as a focal length": ("selfrecon", "camera.npz", _array("fx", b"\0\0 @")),
    "bytes as a place": ("selfrecon", "camera.npz", _array("T", [b"x"] * 3)),
    "a teacher without a step": ("teacher", "tiny.teacher/teacher.json", _value("step", {"a": 1})),
    "infinite frames": ("farm_job", "job.json", _value("frames", [float("inf")] * 3)),
    "frames without pictures": ("farm_job", "job.json", _value("frames", [1])),
    "a deep job": ("farm_job", "job.json", lambda content: b"[" * 100_000 + content),
}
"""What it is -> the parser, its file, and the damage."""


def test_a_picture_whose_compression_is_empty_is_not_whole(tmp_path: Path) -> None:
    exr = next(files["x.exr"] for files in addon_parsers.pictures() if "x.exr" in files)
    name = b"compression\0compression\0"
    at = exr.index(name) + len(name)
    assert exr[at : at + 4] == b"\1\0\0\0"
    (tmp_path / "x.exr").write_bytes(exr[:at] + bytes(4) + exr[at + 5 :])
    assert not is_whole(tmp_path / "x.exr")


@pytest.mark.parametrize("what", FOUND)
def test_what_broke_a_parser_is_refused(what: str, tmp_path: Path) -> None:
    name, file, change = FOUND[what]
    parser = PARSERS[name]
    assert parser.read is not None
    files = next(one for one in parser.samples() if file in one)
    write_files(tmp_path, {**files, file: change(files[file])})
    with pytest.raises(EffigyError):
        parser.read(tmp_path)
