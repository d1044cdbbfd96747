"""SPZ: Gaussian splats in about a tenth of the PLY's size. Version 3 of Niantic's published layout (docs/formats.md).

A gzip stream of a 16-byte header and then, for all Gaussians, positions, alphas, colours, scales, rotations and higher
harmonics, each quantised. Axes are RUB (x right, y up, z towards the viewer), Effigy's "y-up".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.files import disk_failure
from avatars.formats.splats import Splats
from avatars.gaussians.spherical_harmonics import MAX_DEGREE, coefficients_of
from shared.errors import BadAvatar

MAGIC, VERSION = 0x5053474E, 3
HEADER = struct.Struct("<IIIBBBB")
MAX_POINTS = 10_000_000
MAX_FRACTION_BITS = 16
"""Positions are fixed-point numbers of 24 bits. 16 of them behind the point are 0.015 mm, over 128 m each way."""
COLOUR_SCALE = 0.15
FIRST_BITS, FURTHER_BITS = 5, 4
"""Bits kept of harmonics of degree 1 and above, as the format's own writer keeps by default."""
SMALLEST_BITS = 9


def write_spz(path: Path, splats: Splats) -> None:
    """Write splats that are in axes "y-up". The caller makes it atomic. Raises EnvironmentFailed and BadAvatar."""
    content = packed_spz(splats)
    try:
        Path(path).write_bytes(gzip.compress(content, 6, mtime=0))
    except OSError as error:
        raise disk_failure(Path(path), error) from error


def read_spz(path: Path) -> Splats:
    """The splats of an SPZ file of version 3, in axes "y-up". Raises BadAvatar."""
    path = Path(path)
    try:
        compressed = path.read_bytes()
    except OSError as error:
        raise BadAvatar(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if compressed[:4] == b"NGSP":
        raise BadAvatar(f"{path} is an SPZ file of a later version", found="version 4", expected=f"version {VERSION}")
    most = HEADER.size + MAX_POINTS * _bytes_per_point(MAX_DEGREE)
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = stream.decompress(compressed, most)
    except zlib.error as error:
        raise BadAvatar(f"{path} is no SPZ file, or damaged", found=str(error)) from error
    if not stream.eof or stream.unconsumed_tail or stream.unused_data:
        raise BadAvatar(f"{path} is cut off or too large", expected=f"at most {MAX_POINTS} splats")
    return unpacked_spz(content, path)


def packed_spz(splats: Splats) -> bytes:
    """The content of an SPZ file before compression. Raises BadAvatar for splats it cannot hold."""
    count, degree = len(splats), splats.degree
    if count > MAX_POINTS:
        raise BadAvatar(
            "there are too many splats for one SPZ file", found=str(count), expected=f"at most {MAX_POINTS}"
        )
    furthest_m = float(np.abs(splats.positions).max(initial=0.0))
    bits = MAX_FRACTION_BITS
    if furthest_m > 0:
        bits = min(bits, math.floor(math.log2((2**23 - 1) / furthest_m)))
    if bits < 0:
        raise BadAvatar("the splats lie too far away for an SPZ file", found=f"{furthest_m:g} m")
    fixed = np.rint(splats.positions.astype(np.float64) * 2**bits).astype("<i4")
    alphas = _bytes(255 / (1 + np.exp(-splats.logits.astype(np.float64))))
    colours = _bytes(splats.sh[:, 0] * (COLOUR_SCALE * 255.0) + 127.5)
    scales = _bytes((splats.log_scales + 10.0) * 16.0)
    higher = splats.sh[:, 1:]
    bucket = np.where(np.arange(higher.shape[1]) < 3, 1 << (8 - FIRST_BITS), 1 << (8 - FURTHER_BITS))[None, :, None]
    steps = (np.rint(higher.astype(np.float64) * 128) + 128 + bucket // 2) // bucket * bucket
    return b"".join(
        (
            HEADER.pack(MAGIC, VERSION, count, degree, bits, 0, 0),
            fixed.view(np.uint8).reshape(count, 3, 4)[:, :, :3].tobytes(),
            alphas.tobytes(),
            colours.tobytes(),
            scales.tobytes(),
            _smallest_three(splats.rotations).astype("<u4").tobytes(),
            _bytes(steps).tobytes(),
        )
    )


def unpacked_spz(content: bytes, path: Path) -> Splats:
    """Inverse of `packed_spz` up to its quantisation. Raises BadAvatar."""
    if len(content) < HEADER.size:
        raise BadAvatar(f"{path} is cut off", found=f"{len(content)} bytes")
    magic, version, count, degree, bits, _, _ = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise BadAvatar(f"{path} is no SPZ file", found=f"mark {magic:#x}", expected=f"{MAGIC:#x}")
    if version != VERSION:
        raise BadAvatar(f"{path} is an SPZ file of another version", found=str(version), expected=str(VERSION))
    expected = HEADER.size + count * _bytes_per_point(min(degree, MAX_DEGREE))
    if degree > MAX_DEGREE or bits > 23 or count > MAX_POINTS or len(content) != expected:
        raise BadAvatar(
            f"{path} does not hold what its header says",
            found=f"{len(content)} bytes",
            expected=f"{count} splats of degree {degree}",
        )
    at = HEADER.size

    def take(width: int) -> NDArray[np.uint8]:
        nonlocal at
        part = np.frombuffer(content, np.uint8, count * width, at).reshape(count, width)
        at += count * width
        return part

    places = np.zeros((count, 3, 4), np.uint8)
    places[:, :, 1:] = take(9).reshape(count, 3, 3)
    positions = places.view("<i4")[..., 0] / 256 / 2.0**bits  # the low byte is empty: shifted down, sign and all
    alpha = (take(1)[:, 0] / 255.0).clip(0.5 / 255, 1 - 0.5 / 255)
    colours = (take(3) / 255.0 - 0.5) / COLOUR_SCALE
    log_scales = take(3) / 16.0 - 10.0
    rotations = _from_smallest_three(np.ascontiguousarray(take(4)).view("<u4")[:, 0])
    coefficients = coefficients_of(degree)
    higher = (take(3 * (coefficients - 1)).reshape(count, coefficients - 1, 3) - 128.0) / 128.0
    return Splats(
        positions=positions.astype(np.float32),
        rotations=rotations.astype(np.float32),
        log_scales=log_scales.astype(np.float32),
        logits=np.log(alpha / (1 - alpha)).astype(np.float32),
        sh=np.concatenate((colours[:, None], higher), 1).astype(np.float32),
    )


def _bytes_per_point(degree: int) -> int:
    return 9 + 1 + 3 + 3 + 4 + 3 * (coefficients_of(degree) - 1)


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.floor(np.asarray(values, np.float64) + 0.5).clip(0, 255).astype(np.uint8)


def _smallest_three(rotations: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Quaternions [N, 4] wxyz as 32 bits: which of x, y, z, w is largest, then sign and 9 bits of each other one."""
    xyzw = rotations.astype(np.float64)[:, [1, 2, 3, 0]]
    length = np.linalg.norm(xyzw, axis=1, keepdims=True)
    xyzw = np.where(length > 0, xyzw / np.maximum(length, 1e-30), (0.0, 0.0, 0.0, 1.0))
    largest = np.abs(xyzw).argmax(1)
    rows = np.arange(len(xyzw))
    xyzw = xyzw * np.where(xyzw[rows, largest] < 0, -1.0, 1.0)[:, None]
    most = (1 << SMALLEST_BITS) - 1
    magnitude = np.floor(most * np.abs(xyzw) * math.sqrt(2) + 0.5).clip(0, most).astype(np.uint32)
    part = magnitude | ((xyzw < 0).astype(np.uint32) << SMALLEST_BITS)
    word = largest.astype(np.uint32)
    for component in range(4):
        word = np.where(largest == component, word, (word << (SMALLEST_BITS + 1)) | part[:, component])
    return word


def _from_smallest_three(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Inverse of `_smallest_three`, wxyz."""
    largest = words >> 30
    left = words.copy()
    most = (1 << SMALLEST_BITS) - 1
    xyzw = np.zeros((len(words), 4))
    for component in (3, 2, 1, 0):
        here = largest != component
        value = (left & most) / most / math.sqrt(2) * np.where((left >> SMALLEST_BITS) & 1, -1.0, 1.0)
        xyzw[here, component] = value[here]
        left = np.where(here, left >> (SMALLEST_BITS + 1), left)
    rows = np.arange(len(words))
    xyzw[rows, largest] = np.sqrt((1 - (xyzw**2).sum(1)).clip(0))
    return xyzw[:, [3, 0, 1, 2]]
