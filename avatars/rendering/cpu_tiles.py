"""Compiled binning: which Gaussians touch which tile of the image, front to back.

A Gaussian's tiles are found from its exact ellipse (the level where alpha reaches the floor), column by column, so
lists hold next to nothing unseen. Gaussians are sorted by depth once for each frame and then dealt to their tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering.cpu_project import DEPTH, column_range, column_rows, outline
from avatars.rendering.jit import helper, kernel
from avatars.rendering.simd import LANES

TILE_WIDTH = LANES
TILE_HEIGHT = 16
TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT
_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS


@helper
def _sorted_by_depth(splats: Any, first_pair: Any, begin: Any, end: Any) -> Any:
    """Indices of the drawn splats of one frame, nearest first; equal depths keep their order (stable radix sort)."""
    drawn = 0
    for index in range(begin, end):
        drawn += first_pair[index + 1] > first_pair[index]
    order, spare = np.empty(drawn, np.int32), np.empty(drawn, np.int32)
    keys, spare_keys = np.empty(drawn, np.float32).view(np.uint32), np.empty(drawn, np.uint32)
    depths = keys.view(np.float32)
    place = 0
    for index in range(begin, end):
        if first_pair[index + 1] > first_pair[index]:
            order[place] = index
            depths[place] = splats[index, DEPTH]  # positive, so its bits sort like the number
            place += 1
    starts = np.empty(_RADIX, np.int32)
    for shift in range(0, 32, _RADIX_BITS):
        starts[:] = 0
        for place in range(drawn):
            starts[(keys[place] >> shift) & (_RADIX - 1)] += 1
        total = 0
        for digit in range(_RADIX):
            here = starts[digit]
            starts[digit] = total
            total += here
        for place in range(drawn):
            digit = (keys[place] >> shift) & (_RADIX - 1)
            spare[starts[digit]] = order[place]
            spare_keys[starts[digit]] = keys[place]
            starts[digit] += 1
        order, spare = spare, order
        keys, spare_keys = spare_keys, keys
    return order


@kernel
def list_pairs(
    worker: int,
    workers: int,
    count: int,
    width: int,
    height: int,
    splats: Any,
    first_pair: Any,
    pair_tile: Any,
    pair_rows: Any,
) -> None:
    """For every (Gaussian, tile) pair, by Gaussian: the tile and the rows touched in it, first | past_last << 8."""
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    total = len(first_pair) - 1
    for index in range(worker * total // workers, (worker + 1) * total // workers):
        slot = first_pair[index]
        if slot == first_pair[index + 1]:
            continue
        ellipse = outline(splats[index])
        first, last = column_range(ellipse, TILE_WIDTH, tiles_x)
        for column in range(first, last):
            low, high = column_rows(ellipse, column * TILE_WIDTH, (column + 1) * TILE_WIDTH, height)
            if high <= low:
                continue
            for row in range(low // TILE_HEIGHT, (high - 1) // TILE_HEIGHT + 1):
                top = row * TILE_HEIGHT
                pair_tile[slot] = (index // count) * tiles + row * tiles_x + column
                pair_rows[slot] = max(low - top, 0) | (min(high - top, TILE_HEIGHT) << 8)
                slot += 1


@kernel
def fill_tiles(
    worker: int,
    workers: int,
    frames: int,
    count: int,
    splats: Any,
    first_pair: Any,
    pair_tile: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
) -> None:
    """List each tile's pairs front to back, frame by frame: their splat and their slot in the order by Gaussian.

    tile_start: [B * tiles + 1], zero on entry.
    """
    tiles = (len(tile_start) - 1) // frames
    for frame in range(worker, frames, workers):
        order = _sorted_by_depth(splats, first_pair, frame * count, (frame + 1) * count)
        begin, end = first_pair[frame * count], first_pair[(frame + 1) * count]
        cursor = np.zeros(tiles, np.int64)
        for slot in range(begin, end):
            cursor[pair_tile[slot] - frame * tiles] += 1
        entry = begin
        for tile in range(tiles):
            tile_start[frame * tiles + tile] = entry
            here = cursor[tile]
            cursor[tile] = entry
            entry += here
        for index in order:
            for slot in range(first_pair[index], first_pair[index + 1]):
                tile = pair_tile[slot] - frame * tiles
                entry = cursor[tile]
                tile_splat[entry] = index
                tile_slot[entry] = slot
                cursor[tile] = entry + 1
        if frame == frames - 1:
            tile_start[frames * tiles] = end
