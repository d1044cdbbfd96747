"""Pictures and tracked frames are paired by name; shifted names are refused; what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.captures.pairing import numbered_files, paired
from avatars.captures.splits import held_out_end
from shared.errors import BadCapture

DATA = Path("data/bala")


def images(*numbers: int) -> list[Path]:
    return [DATA / "images" / f"{number:05d}.png" for number in numbers]


def frames(*numbers: int) -> list[Path]:
    return [DATA / "checkpoint" / f"{number:05d}.frame" for number in numbers]


def test_equal_names_are_paired_and_the_rest_is_told() -> None:
    pairs, notes = paired(images(0, 1, 2, 4, 5), frames(0, 1, 2, 3, 4, 5), "checked")
    assert [(a.stem, b.stem) for a, b in pairs] == [
        (name, name) for name in ("00000", "00001", "00002", "00004", "00005")
    ]
    assert notes == ["1 tracked frames have no partner and are left out, the first is 00003.frame"]


def test_zeros_in_front_do_not_matter_but_two_of_a_name_do() -> None:
    pairs, _ = paired([DATA / "images" / "7.png"], frames(7), "checked")
    assert len(pairs) == 1
    with pytest.raises(BadCapture, match="two files for 7"):
        paired([DATA / "images" / "00007.png", DATA / "images" / "7.png"], frames(7), "checked")


@pytest.mark.parametrize(("first", "others"), [(1, 0), (0, 1), (5, 0)])
def test_frames_off_by_one_are_one_sentence(first: int, others: int) -> None:
    pictures, tracked = images(*range(first, first + 30)), frames(*range(others, others + 30))
    with pytest.raises(BadCapture) as caught:
        paired(pictures, tracked, "checked")
    text = str(caught.value)
    assert f"bala/images and bala/checkpoint are off by {abs(first - others)}" in text
    assert f"{first:05d}.png" in text
    assert f"{others:05d}.frame" in text
    assert '{"pairing": "order"}' in text
    pairs, notes = paired(pictures, tracked, "order")
    assert (pairs[0][0].stem, pairs[0][1].stem) == (f"{first:05d}", f"{others:05d}")
    assert len(pairs) == 30
    assert "in order" in notes[0]
    if abs(first - others) == 1:
        assert len(paired(pictures, tracked, "name")[0]) == 29


def test_a_late_start_is_no_shift() -> None:
    pairs, notes = paired(images(*range(3, 30)), frames(*range(30)), "checked")
    assert len(pairs) == 27
    assert "3 tracked frames have no partner" in notes[0]


def test_names_that_have_nothing_in_common_are_refused() -> None:
    with pytest.raises(BadCapture, match="different names"):
        paired([DATA / "images" / f"a{i}.png" for i in range(5)], frames(*range(5)), "checked")
    with pytest.raises(BadCapture, match="cannot be paired in order"):
        paired(images(0, 1), frames(0), "order")


def test_files_are_listed_by_number(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    with pytest.raises(BadCapture, match="no folder images"):
        numbered_files(folder, (".png",))
    folder.mkdir()
    with pytest.raises(BadCapture, match="is empty"):
        numbered_files(folder, (".png",))
    for name in ("10.png", "9.png", ".hidden.png", "notes.txt", "00011.PNG"):
        (folder / name).write_bytes(b"")
    assert [path.name for path in numbered_files(folder, (".png",))] == ["9.png", "10.png", "00011.PNG"]


def test_the_end_is_held_out() -> None:
    assert held_out_end(3000, 350)[0] == 2650
    assert held_out_end(700, 350)[0] == 350
    train, note = held_out_end(100, 350)
    assert train == 80
    assert "too few" in note
    assert held_out_end(2, 350)[0] == 1
    with pytest.raises(BadCapture, match="at least two"):
        held_out_end(1, 350)
