"""Pixels between two processes of one machine without passing through a socket: copied in once, copied out once.

The sender keeps a nameless file in memory (Linux memfd) with a few slots used in turn; the message names process and
file descriptor, and the reader maps the file through /proc. Nothing is left behind however either side ends. A slot
starts with the picture's stamp, zero while it is being written: a reader that finds another stamp before or after its
copy asks again. Where the system has no such files, or the reader may not open them, pixels travel in the message.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import secrets
import stat
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadMessage, EnvironmentFailed
from .messages import PixelMemory
from .wire import DTYPES, MAX_DIMENSIONS

MAGIC = b"EFFIGYPX"
SLOTS = 4
ALIGNMENT = 64
PAGE = 4096
SMALLEST_BYTES = 1024**2
"""Below this a message is as fast."""
LARGEST_FILE_BYTES = 1024**3
_TOKEN = re.compile("[0-9a-f]{32}")


def supported() -> bool:
    """Whether this system has memory files that another process can open."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


class PixelWriter:
    """The sender's slots. Belongs to one thread; freed with close() or the process."""

    def __init__(self) -> None:
        self._descriptor, self._map = -1, None  # type: int, mmap.mmap | None
        self._token, self._slot_bytes, self._stamp = "", 0, 0

    def put(self, images: Sequence[NDArray[Any]]) -> PixelMemory | None:
        """Copy the arrays into the next slot; None where they are too small or large for it or memory is refused."""
        places, end = [], ALIGNMENT
        for image in images:
            places.append(end)
            end = _aligned(end + image.nbytes)
        if not supported() or sum(image.nbytes for image in images) < SMALLEST_BYTES or not self._have(end):
            return None
        assert self._map is not None
        self._stamp += 1
        offset = PAGE + (self._stamp % SLOTS) * self._slot_bytes
        struct.pack_into("<Q", self._map, offset, 0)
        for image, place in zip(images, places):
            target = np.frombuffer(self._map, DTYPES[image.dtype.name], image.size, offset + place)
            target.reshape(image.shape)[...] = image
        struct.pack_into("<Q", self._map, offset, self._stamp)
        return PixelMemory(
            os.getpid(),
            self._descriptor,
            self._token,
            len(self._map),
            offset,
            self._stamp,
            tuple(image.dtype.name for image in images),
            tuple(image.shape for image in images),
        )

    def close(self) -> None:
        """Give the memory back; readers keep what they have mapped."""
        if self._map is not None:
            self._map.close()
            os.close(self._descriptor)
        self._descriptor, self._map, self._slot_bytes = -1, None, 0

    def _have(self, slot_bytes: int) -> bool:
        """Make the file large enough; slots only grow, by at least a half, so that sizes settle."""
        if self._map is not None and slot_bytes <= self._slot_bytes:
            return True
        wanted = -(-max(slot_bytes, self._slot_bytes * 3 // 2) // PAGE) * PAGE
        size = PAGE + SLOTS * wanted
        if size > LARGEST_FILE_BYTES:
            return False
        descriptor = os.memfd_create("effigy-pixels", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, size)  # refused now rather than a bus error at the first write
            mapped = mmap.mmap(descriptor, size)
        except OSError:
            os.close(descriptor)
            return False
        self.close()
        self._descriptor, self._map, self._slot_bytes = descriptor, mapped, wanted
        self._token = secrets.token_hex(16)
        start = MAGIC + self._token.encode()
        mapped[: len(start)] = start
        return True


class PixelReader:
    """The receiver's view of the sender it last heard from. Belongs to one thread."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._token = ""

    def take(self, memory: PixelMemory) -> tuple[NDArray[Any], ...] | None:
        """Copies of the images, or None where they were replaced meanwhile: ask again.

        Raises BadMessage for a place that cannot be, EnvironmentFailed where this process may not read the other's.
        """
        places = _places(memory)
        mapped = self._mapped(memory)
        if _stamp(mapped, memory) != memory.stamp:
            return None
        images = []
        for (place, count), name, shape in zip(places, memory.dtypes, memory.shapes):
            image = np.frombuffer(mapped, DTYPES[name], count, place).reshape(shape).copy()
            image.setflags(write=False)
            images.append(image)
        return tuple(images) if _stamp(mapped, memory) == memory.stamp else None

    def close(self) -> None:
        """Let go of the sender's memory."""
        if self._map is not None:
            self._map.close()
        self._map, self._token = None, ""

    def _mapped(self, memory: PixelMemory) -> mmap.mmap:
        if self._map is not None and self._token == memory.token and len(self._map) == memory.file_bytes:
            return self._map
        self.close()
        path = f"/proc/{memory.process:d}/fd/{memory.descriptor:d}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_size != memory.file_bytes:
                    raise OSError("it is another file")
                mapped = mmap.mmap(descriptor, memory.file_bytes, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
            if mapped[: PAGE // 2].rstrip(b"\0") != MAGIC + memory.token.encode():
                mapped.close()
                raise OSError("it is another file")
        except OSError as error:
            raise EnvironmentFailed("Shared memory of the backend cannot be opened", found=str(error)) from error
        self._map, self._token = mapped, memory.token
        return mapped


def _places(memory: PixelMemory) -> list[tuple[int, int]]:
    """Offset and element count of each image, proved to lie inside the file. Raises BadMessage."""
    places, end = [], memory.offset + ALIGNMENT
    sound = memory.offset >= PAGE and len(memory.dtypes) == len(memory.shapes) and _TOKEN.fullmatch(memory.token)
    for name, shape in zip(memory.dtypes, memory.shapes):
        if name not in DTYPES or len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
            sound = None
            break
        places.append((end, math.prod(shape)))
        end = _aligned(end + places[-1][1] * DTYPES[name].itemsize)
    if not sound or end > memory.file_bytes:
        raise BadMessage("A picture in shared memory is described wrongly", found=str(memory)[:200])
    return places


def _stamp(mapped: mmap.mmap, memory: PixelMemory) -> int:
    (stamp,) = struct.unpack_from("<Q", mapped, memory.offset)
    return int(stamp)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
