"""Names are judged by every system's rules, whichever this one is."""

from __future__ import annotations

import pytest

from shared.file_names import is_device, problem_with, safe_stem, taken

DEVICES = ("CON", "con", "Nul", "nul.txt", "AUX.avatar", "com1", "LPT9.tar.gz", "COM¹", "CON .png", "conin$", "PRN")
GOOD = ("Anna", "anna maria", "Größe Zwei", "console", "com10", "nulls", "a.b", "x" * 60, "田中", "-", "COMA", "aux_1")


@pytest.mark.parametrize("name", DEVICES)
def test_devices(name: str) -> None:
    assert is_device(name)
    assert "device" in problem_with(name)
    made = safe_stem(name, "avatar")
    assert made
    assert not is_device(made)


@pytest.mark.parametrize("name", GOOD)
def test_names_that_are_fine(name: str) -> None:
    assert not is_device(name)
    assert not problem_with(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "letters") for name in ("", "x" * 61)),
        *((name, "dot or a space") for name in ("a.", "a ", " a", ".a", ".", "..", "a. .")),
        *((name, "holds one of") for name in ("a/b", "a\\b", "C:", "a\0b", "a\nb", "what?", "<a>", 'q"', "\ud800")),
        ("字" * 60, ""),
        ("😀" * 60, "bytes"),
    ],
)
def test_names_that_are_not(name: str, why: str) -> None:
    assert why in problem_with(name)
    assert bool(problem_with(name)) == bool(why)


def test_stems_are_safe_everywhere() -> None:
    for name in (*DEVICES, *GOOD, "..", "../../x", "a" * 500, "CON/..", " . ", "\0", "nul" + " " * 80):
        stem = safe_stem(name, "avatar")
        assert stem.isascii(), name
        assert not problem_with(stem), name
    assert safe_stem("Größe Zwei", "avatar") == "Gr_e_Zwei"


def test_capitals_do_not_make_another_name() -> None:
    assert taken("ANNA", ["anna"])
    assert taken("straße", ["STRASSE"])
    assert not taken("anna", ["ann", "anna2"])
