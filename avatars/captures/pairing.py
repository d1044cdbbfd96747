"""Pictures and tracked frames that belong together, found by their names and not by their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.errors import BadCapture

MAX_FILES = 500_000


class ShiftedNames(BadCapture):
    """Pictures and tracked frames whose names are off by one, or by a few."""


def numbered_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files with one of `suffixes` in a folder, by number where their names are numbers. Raises BadCapture."""
    if not folder.is_dir():
        raise BadCapture(f"there is no folder {folder.name} in {folder.parent.name}", do="Copy it there")
    files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    if not files:
        raise BadCapture(
            f"{folder.parent.name}/{folder.name} is empty", expected="files named " + " or ".join(suffixes)
        )
    if len(files) > MAX_FILES:
        raise BadCapture(f"{folder.name} holds too many files", found=str(len(files)), expected=f"at most {MAX_FILES}")
    return sorted(files, key=lambda path: (_number(path), path.name) if path.stem.isdigit() else (-1, path.name))


def paired(images: Sequence[Path], frames: Sequence[Path], how: str) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Picture and frame of the same name (or of the same place, how 'order'), and sentences about what is left over.

    how 'checked' refuses names that would fit better when shifted by a few, 'name' pairs equal names whatever happens.
    Raises BadCapture.
    """
    if how == "order":
        if len(images) != len(frames):
            raise BadCapture(
                f"{_of(images)} and {_of(frames)} cannot be paired in order",
                found=f"{len(images)} pictures and {len(frames)} frames",
                expected="as many of one as of the other",
            )
        return list(zip(images, frames, strict=True)), ["Pictures and frames are paired in order, not by name"]
    by_key = _by_key(images)
    frame_of = _by_key(frames)
    common = [key for key in by_key if key in frame_of]
    if how == "checked":
        _refuse_shift(by_key, frame_of, len(common))
    if 2 * len(common) < max(len(by_key), len(frame_of)):
        raise BadCapture(
            f"most of {_of(images)} and {_of(frames)} have different names",
            found=f"{len(by_key)} pictures ({images[0].name} …) and {len(frame_of)} frames ({frames[0].name} …), "
            f"{len(common)} names in common",
            expected="the same numbers",
            do='Copy both from one run, or put {"pairing": "order"} into effigy.json',
        )
    notes = []
    for what, files, others in (("pictures", by_key, frame_of), ("tracked frames", frame_of, by_key)):
        alone = [path for key, path in files.items() if key not in others]
        if alone:
            notes.append(f"{len(alone)} {what} have no partner and are left out, the first is {alone[0].name}")
    return [(by_key[key], frame_of[key]) for key in common], notes


def _refuse_shift(images: dict[int | str, Path], frames: dict[int | str, Path], matched: int) -> None:
    """Names that begin with another number and would fit better when shifted: off by one, or by a few."""
    numbers, others = ([key for key in files if isinstance(key, int)] for files in (images, frames))
    if not numbers or not others:
        return
    shift = min(numbers) - min(others)
    if shift == 0 or sum(number - shift in frames for number in numbers) <= matched:
        return
    first, start = images[min(numbers)], frames[min(others)]
    raise ShiftedNames(
        f"{_of([first])} and {_of([start])} are off by {abs(shift)}",
        found=f"the first picture {first.name} and the first frame {start.name}",
        expected="the same numbers",
        do='Rename one of them, or put {"pairing": "order"} (or "name", if the names are right) into effigy.json',
    )


def _by_key(files: Sequence[Path]) -> dict[int | str, Path]:
    found: dict[int | str, Path] = {}
    for path in files:
        key = _number(path) if path.stem.isdigit() else path.stem
        if key in found:
            raise BadCapture(
                f"{_of(files)} holds two files for {path.stem}", found=f"{found[key].name} and {path.name}"
            )
        found[key] = path
    return found


def _number(path: Path) -> int:
    return int(path.stem[-12:])


def _of(files: Sequence[Path]) -> str:
    return f"{files[0].parent.parent.name}/{files[0].parent.name}"
