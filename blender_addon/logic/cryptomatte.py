"""Cryptomatte: which avatars cover a pixel and by how much, readable by every compositor. numpy only.

Follows the Cryptomatte specification 1.2 (Friedman and Jones, Psyop 2015): a name's id is the MurmurHash3 of its bytes,
read as a float; a pass holds two (id, cover) pairs a pixel, the greatest cover first; the file's header names the ids.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

KINDS = ("object", "material", "asset")
"""What Blender makes Cryptomattes of: armature, avatar of the library, and topmost parent here."""
MASK = 0xFFFFFFFF


def pass_names(kind: str, levels: int) -> list[str]:
    """Blender's pass names of one kind: two levels share a pass, so 6 levels are `CryptoObject00` to `…02`."""
    return [f"Crypto{kind.title()}{index:02d}" for index in range((levels + 1) // 2)]


def murmur3(text: str, seed: int = 0) -> int:
    """MurmurHash3_x86_32 (Appleby, public domain) of the UTF-8 bytes."""
    data = text.encode()
    value = seed
    for start in range(0, len(data) - 3, 4):
        value ^= _scrambled(int.from_bytes(data[start : start + 4], "little"))
        value = ((value << 13 | value >> 19) * 5 + 0xE6546B64) & MASK
    value ^= _scrambled(int.from_bytes(data[len(data) // 4 * 4 :], "little"))
    value ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = ((value ^ value >> shift) * factor) & MASK
    return value ^ value >> 16


def _scrambled(block: int) -> int:
    block = (block * 0xCC9E2D51) & MASK
    return ((block << 15 | block >> 17) * 0x1B873593) & MASK


def name_bits(name: str) -> int:
    """The id of a name as 32 bits that are a normal float: an exponent of all zeros or ones is changed."""
    bits = murmur3(name)
    exponent = bits >> 23 & 255
    return bits ^ (1 << 23) if exponent in (0, 255) else bits


def name_id(name: str) -> float:
    """The id of a name as it stands in a pixel."""
    return float(struct.unpack("<f", struct.pack("<I", name_bits(name)))[0])


def header(layer: str, kind: str, names: Sequence[str]) -> dict[str, str]:
    """The metadata of one Cryptomatte of a view layer: which passes, and every name with its id."""
    typed = f"{layer}.Crypto{kind.title()}"
    key = f"cryptomatte/{murmur3(typed):08x}"[: len("cryptomatte/") + 7]
    manifest = {name: f"{name_bits(name):08x}" for name in sorted(set(names))}
    return {
        f"{key}/name": typed,
        f"{key}/hash": "MurmurHash3_32",
        f"{key}/conversion": "uint32_to_float32",
        f"{key}/manifest": json.dumps(manifest, ensure_ascii=False, separators=(",", ":")),
    }


def ranked(coverage: Float32, names: Sequence[str], levels: int) -> list[Float32]:
    """The passes [H, W, 4] of (id, cover, id, cover), of coverage [H, W, I] by I avatars of these names.

    Avatars of one name count as one. A pair without cover is zero.
    """
    unique = sorted(set(names))
    height, width = coverage.shape[:2]
    seen = np.flatnonzero(coverage.any(axis=-1)) if len(names) else np.zeros(0, np.int64)
    part = coverage.reshape(-1, max(1, len(names)))[seen] if len(names) else np.zeros((0, 0), np.float32)
    together = np.zeros((len(seen), len(unique)), np.float32)
    for index, name in enumerate(names):
        together[:, unique.index(name)] += part[:, index]
    ids = np.array([name_id(name) for name in unique], np.float32)
    order = np.argsort(-together, axis=-1, kind="stable")[:, :levels]
    cover = np.take_along_axis(together, order, axis=-1)
    pairs = np.zeros((len(seen), 2 * len(pass_names("object", levels)), 2), np.float32)
    pairs[:, : order.shape[1], 0] = np.where(cover > 0, ids[order], 0) if unique else 0
    pairs[:, : order.shape[1], 1] = cover
    images = []
    for first in range(0, pairs.shape[1], 2):
        image = np.zeros((height * width, 4), np.float32)
        image[seen] = pairs[:, first : first + 2].reshape(-1, 4)
        images.append(image.reshape(height, width, 4))
    return images
