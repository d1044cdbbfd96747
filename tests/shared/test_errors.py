"""What a user is told of an error that is none of ours."""

from __future__ import annotations

import pytest

from shared.errors import first_line


@pytest.mark.parametrize(
    ("said", "line"), [("", "ValueError"), (" \n", "ValueError"), ("\nfirst\nsecond", "first"), ("x" * 300, "x" * 200)]
)
def test_the_first_line_of_what_an_error_says(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line


def test_it_is_cut_where_wanted() -> None:
    assert first_line(ValueError("abcdef"), 3) == "abc"
