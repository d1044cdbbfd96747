"""The list of what reads is whole: each reader is run by the fuzz table's own samples, or a reason says why not."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from types import FrameType

import pytest

from backend.fuzzing.parsers import PARSERS
from backend.fuzzing.runner import Parser, write_files
from tests.attacks import addon_parsers
from tests.attacks.readers import ROOT, TRUSTED, _calls, readers

ALL = {**PARSERS, **addon_parsers.PARSERS}
WITHOUT_FFMPEG = importlib.util.find_spec("imageio_ffmpeg") is None


def reached(parser: Parser, folder: Path) -> set[tuple[str, str]]:
    """(file, function) of this repository that run while the parser reads its valid samples."""
    found: set[tuple[str, str]] = set()
    codes: set[object] = set()
    root = f"{ROOT}/"

    def entered(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if code not in codes:
            codes.add(code)
            if code.co_filename.startswith(root):
                found.add((code.co_filename.removeprefix(root), code.co_qualname.replace("<locals>.", "")))

    before = sys.gettrace()
    for index, files in enumerate(parser.samples()):
        place = folder / str(index)
        place.mkdir()
        write_files(place, files if parser.read is not None else {})
        sys.settrace(entered)
        try:
            parser.read(place) if parser.read is not None else parser.parse(files)  # type: ignore[misc]
        finally:
            sys.settrace(before)
    return found


@pytest.mark.skipif(WITHOUT_FFMPEG, reason="readers of videos need imageio-ffmpeg")
def test_every_reader_is_fuzzed_or_says_why_not(tmp_path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, parser in ALL.items():
            (tmp_path / name).mkdir()
            seen |= reached(parser, tmp_path / name)
    missing = defaultdict(list)
    for file, function, called in readers():
        if (file, function) not in seen and f"{file}:{function}" not in TRUSTED:
            missing[f"{file}:{function}"].append(called)
    assert not missing, "give them samples in backend/fuzzing, or a reason in tests/attacks/readers.py:\n" + "\n".join(
        f"{place} ({', '.join(calls)})" for place, calls in sorted(missing.items())
    )


def test_reasons_are_of_readers_that_are_there() -> None:
    there = {f"{file}:{function}" for file, function, _ in readers()}
    assert not TRUSTED.keys() - there


def test_a_new_reader_is_found() -> None:
    source = """
def one(path):
    return np.load(path)
class Two:
    def three(self):
        with open(self.path) as file: return file.read()
    def four(self, path):
        path.open("rb")
        path.write_text("x"); template.open(); path.open("wb")
    def five(self, path):
        bpy.data.images.load(path); images.loaded(path); _LENGTH.unpack_from(path)
"""
    found = [("one", "load"), ("Two.three", "open"), ("Two.four", "open"), ("Two.five", "load")]
    assert list(_calls(ast.parse(source), ())) == [*found, ("Two.five", "unpack_from")]


def test_the_documentation_names_every_parser() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("# What is read from strangers")[2].partition("\n# ")[0]
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(line.rpartition("| ")[2] for line in section.splitlines())))
    assert named == set(ALL)
