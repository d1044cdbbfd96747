"""`.frame` files: both of torch's formats, every key's shape, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatars.captures.metrical_frame import MAX_FRAME_BYTES, read_metrical_frame
from shared.errors import BadCapture


def document() -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def f32(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "flame": {
            "exp": f32(1, 100),
            "shape": f32(1, 300),
            "tex": f32(1, 140),
            "sh": f32(1, 9, 3),
            "eyes": f32(1, 12),
            "eyelids": f32(1, 2),
            "jaw": f32(1, 6),
        },
        "camera": {"R": f32(1, 6), "t": f32(1, 3), "fl": f32(1, 1), "pp": f32(1, 2)},
        "opencv": {"R": np.eye(3, dtype=np.float32)[None], "t": f32(1, 3), "K": np.eye(3, dtype=np.float32)[None]},
        "img_size": np.array([480, 640]),
        "frame_id": "00007",
        "global_step": np.int64(12),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_both_formats_of_torch_are_read(tmp_path: Path, zipped: bool) -> None:
    written = document()
    path = tmp_path / "00007.frame"
    torch.save(written, path, _use_new_zipfile_serialization=zipped)
    frame = read_metrical_frame(path)
    for name, value in (
        ("exp", frame.expression),
        ("shape", frame.shape),
        ("eyes", frame.eyes),
        ("eyelids", frame.eyelids),
        ("jaw", frame.jaw),
    ):
        np.testing.assert_array_equal(value, written["flame"][name][0])
    np.testing.assert_array_equal(frame.t, written["opencv"]["t"][0])
    assert (frame.height_px, frame.width_px) == (480, 640)


def test_tensors_in_place_of_arrays_are_read(tmp_path: Path) -> None:
    written = document()
    written["flame"] = {name: torch.from_numpy(value) for name, value in written["flame"].items()}
    torch.save(written, tmp_path / "1.frame")
    np.testing.assert_array_equal(read_metrical_frame(tmp_path / "1.frame").jaw, written["flame"]["jaw"][0])


class Runs:
    """A pickle that would run a program."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Huge:
    """A pickle that would ask for more memory than there is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((1 << 55,),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_would_run_a_program_is_not_opened(tmp_path: Path, zipped: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "00000.frame"
    torch.save(document() | {"more": Runs(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadCapture, match=r"00000.frame asks for more than data and was not run \(found \S+mkdir"):
        read_metrical_frame(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no file of torch.save"),
        (b"junk", "damaged or no file of torch.save"),
        (b"PK\x03\x04" + b"\0" * 200, "damaged or no file of torch.save"),
        (b"\0" * (MAX_FRAME_BYTES + 1), "too large"),
    ],
    ids=["empty", "junk", "broken zip", "large"],
)
def test_damage_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "00001.frame"
    path.write_bytes(content)
    with pytest.raises(BadCapture, match=message) as caught:
        read_metrical_frame(path)
    assert "00001.frame" in str(caught.value)


def test_cut_off_huge_and_missing_files_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "00002.frame"
    torch.save(document(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadCapture, match="damaged"):
        read_metrical_frame(path)
    torch.save({"flame": Huge()}, path)
    with pytest.raises(BadCapture, match="more than data"):
        read_metrical_frame(path)
    path.write_bytes(pickle.dumps(document()))
    with pytest.raises(BadCapture, match="damaged"):
        read_metrical_frame(path)
    with pytest.raises(BadCapture, match=r"none.frame cannot be read \(found No such file"):
        read_metrical_frame(tmp_path / "none.frame")


def without(group: str, name: str) -> Callable[[dict], None]:
    return lambda d: d[group].pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("flame", "exp"), "lacks flame.exp"),
        (lambda d: d.pop("opencv"), "lacks opencv.R"),
        (
            lambda d: d["flame"].update(exp=np.zeros((1, 50))),
            r"flame.exp of 1.frame does not fit \(found \[1, 50\] float64",
        ),
        (lambda d: d["flame"].update(shape=np.zeros((1, 100))), "FLAME 2020"),
        (lambda d: d["flame"].update(jaw=np.zeros((1, 3))), "flame.jaw"),
        (lambda d: d["flame"].update(jaw="wide"), "flame.jaw"),
        (lambda d: d["flame"].update(jaw=np.array([["a"] * 6])), r"found \[1, 6\] <U1"),
        (
            lambda d: d["opencv"].update(t=np.full((1, 3), np.nan)),
            "opencv.t of 1.frame holds values that are not finite",
        ),
        (lambda d: d.update(img_size=np.zeros(3)), "img_size"),
        (lambda d: d.update(img_size=np.array([0, 10])), "expected height and width"),
        (lambda d: d.update(img_size="large"), "img_size"),
    ],
)
def test_every_wrong_key_is_named(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    written = document()
    change(written)
    torch.save(written, tmp_path / "1.frame")
    with pytest.raises(BadCapture, match=message):
        read_metrical_frame(tmp_path / "1.frame")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_damaged_bytes_are_refused_or_read_but_never_more(tmp_path: Path, zipped: bool) -> None:
    """numpy's own unpickling crashes the process on some of these."""
    path, rng = tmp_path / "1.frame", np.random.default_rng(0)
    torch.save(document(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    sentences = []
    for _ in range(150):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            assert read_metrical_frame(path).expression.shape == (100,)
        except BadCapture as refusal:
            sentences.append(str(refusal))
    assert len(sentences) > 50
    assert all("1.frame" in sentence for sentence in sentences)


def test_a_list_is_no_frame(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "1.frame")
    with pytest.raises(BadCapture, match="holds no tracked frame"):
        read_metrical_frame(tmp_path / "1.frame")
