"""Pixels through shared memory: unchanged, torn never, and nothing readable that the sender did not mean."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import BadMessage, EnvironmentFailed
from shared.messages import PixelMemory
from shared.pixel_memory import PAGE, SLOTS, PixelReader, PixelWriter, supported

pytestmark = pytest.mark.skipif(not supported(), reason="memory files are Linux's")

SENDER = """
import sys
import numpy as np
from dataclasses import astuple
from shared.pixel_memory import PixelWriter
writer = PixelWriter()
print(astuple(writer.put([np.arange(512 * 512 * 4, dtype=np.float32).reshape(512, 512, 4)])), flush=True)
sys.stdin.read()
"""


def picture(seed: int, side: int = 512) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side, 4), np.float32).astype(np.float16)


def pair() -> tuple[PixelWriter, PixelReader]:
    return PixelWriter(), PixelReader()


def test_pictures_arrive_unchanged_from_another_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    reader = PixelReader()
    try:
        assert child.stdout is not None
        memory = PixelMemory(*eval(child.stdout.readline()))  # noqa: S307
        assert memory.process == child.pid
        (image,) = reader.take(memory) or ()
        assert image.dtype == np.float32
        assert not image.flags.writeable
        assert (image.ravel() == np.arange(image.size)).all()
    finally:
        child.kill()
        child.communicate()
    reader.close()
    with pytest.raises(EnvironmentFailed, match="cannot be opened"):
        reader.take(memory)


def test_several_passes_of_changing_size() -> None:
    writer, reader = pair()
    for side in (512, 300, 900, 512):
        images = (picture(side, side), np.full((side, side, 1), side, np.float32), np.arange(side, dtype=np.int32))
        memory = writer.put(images)
        if side * side * 8 + side * side * 4 < 1024**2:
            assert memory is None
            continue
        assert memory is not None
        taken = reader.take(memory)
        assert taken is not None
        assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(taken, images, strict=True))
    writer.close()
    reader.close()


def test_a_picture_that_was_replaced_is_not_taken() -> None:
    writer, reader = pair()
    first = writer.put([picture(0)])
    assert first is not None
    for seed in range(1, SLOTS):
        writer.put([picture(seed)])
    taken = reader.take(first)
    assert taken is not None
    assert (taken[0] == picture(0)).all()
    writer.put([picture(SLOTS)])
    assert reader.take(first) is None
    assert (taken[0] == picture(0)).all()  # a copy: it stays what it was


def test_small_pictures_go_in_the_message() -> None:
    assert PixelWriter().put([picture(0, 64)]) is None
    assert PixelWriter().put([]) is None


def test_memory_that_is_refused_is_no_failure() -> None:
    code = (
        "import resource, numpy as np; from shared.pixel_memory import PixelWriter\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "print(PixelWriter().put([np.zeros((512, 512, 4), np.float32)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "None", done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 0},
        {"offset": -PAGE},
        {"offset": 2**60},
        {"dtypes": ("object",)},
        {"dtypes": ()},
        {"shapes": ((2**40, 2**40, 4),)},
        {"shapes": ((-1, 512, 4),)},
        {"shapes": ((512, 512, 4 * SLOTS + 1),)},
        {"file_bytes": 0},
        {"token": "../../etc"},
    ],
    ids=str,
)
def test_places_that_cannot_be_are_refused(change: Any) -> None:
    writer, reader = pair()
    memory = writer.put([picture(0)])
    assert memory is not None
    with pytest.raises(BadMessage, match="described wrongly"):
        reader.take(replace(memory, **change))


def test_other_files_are_not_read() -> None:
    writer, reader = pair()
    memory = writer.put([picture(0)])
    assert memory is not None
    with tempfile.TemporaryFile() as other:
        other.truncate(memory.file_bytes)
        for change in ({"descriptor": other.fileno()}, {"token": "0" * 32}, {"process": 2**31}, {"descriptor": -1}):
            with pytest.raises(EnvironmentFailed, match="cannot be opened"):
                reader.take(replace(memory, **change))  # type: ignore[arg-type]


def test_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        writer, reader = pair()
        for side in (400, 500, 600):
            memory = writer.put([picture(0, side)])
            assert memory is not None
            assert reader.take(memory) is not None
        writer.close()
        reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
