"""Pictures for training: the same batches whether they are held in memory or read from disk ahead of their use."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from avatars.captures.opening import open_capture
from avatars.training.data import MOST_UNDER_WAY, Pictures, StreamedPictures, load_pictures
from shared.errors import BadCapture
from tests.tiny import tiny_capture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("capture") / "tiny", size=32, frames=4, cameras=3, gaussians=300)


def both(folder: Path) -> tuple[Pictures, StreamedPictures]:
    capture = open_capture(folder)
    held = load_pictures(capture, capture.split("train"), 24, torch.device("cpu"))
    streamed = load_pictures(capture, capture.split("train"), 24, torch.device("cpu"), most_bytes=1000)
    assert isinstance(streamed, StreamedPictures)
    assert not isinstance(held, StreamedPictures)
    return held, streamed


def test_streamed_pictures_are_the_same(folder: Path) -> None:
    held, streamed = both(folder)
    assert len(held) == len(streamed) == 9
    assert held.rgba.shape[1:] == streamed.rgba.shape[1:]
    for chosen in ([0, 4, 7], [1, 1], [8, 0]):  # asked for twice in one batch, and again later
        rows, behind = torch.tensor(chosen), torch.rand(len(chosen), 3)
        streamed.expect(rows)
        ours, theirs = streamed.batch(rows, behind), held.batch(rows, behind)
        assert torch.equal(ours.pixels, theirs.pixels)
        assert torch.equal(ours.frames, theirs.frames)
        assert torch.equal(ours.cameras.K, theirs.cameras.K)
    assert not streamed.under_way


def test_what_is_expected_is_read_ahead_and_bounded(folder: Path) -> None:
    _, streamed = both(folder)
    streamed.expect(torch.tensor([2, 3]))
    assert set(streamed.under_way) == {2, 3}
    streamed.batch(torch.tensor([3, 5]), torch.zeros(2, 3))
    assert set(streamed.under_way) == {2}
    streamed.expect(torch.arange(9).repeat(20))
    assert len(streamed.under_way) == 9 <= MOST_UNDER_WAY
    assert any(thread.name.startswith("pictures") for thread in threading.enumerate())


def test_a_picture_that_is_damaged_later_is_one_sentence(folder: Path) -> None:
    capture = open_capture(folder)
    _, streamed = both(folder)
    file = capture.images[capture.split("train")[6]].file
    content = file.read_bytes()
    try:
        Image.new("RGBA", (8, 8)).save(file)
        with pytest.raises(BadCapture, match="wrong size"):
            streamed.batch(torch.tensor([6]), torch.zeros(1, 3))
    finally:
        file.write_bytes(content)
