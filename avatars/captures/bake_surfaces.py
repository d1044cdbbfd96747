"""Make a capture's surfaces.npz from the full surfaces it was rendered from.

    python -m avatars.captures.bake_surfaces surfaces_full.npz avatars/captures/data/demo_body --faces 16000

The full ones come from `blender_addon.synthesise.true_surfaces`. What no direction sees in any frame is dropped, hair
becomes a hull around its strands, the rest is decimated in the first frame and carried along to the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatars.captures.true_surfaces import HAIR, SURFACES, TrueSurfaces, packed_surfaces
from avatars.files import write_atomically
from avatars.rendering.mesh import rasterise_mesh
from avatars.skinning.closest_points import closest_points
from avatars.surface.metrics import compare_surfaces
from avatars.surface.unwrap import decimated

Floats = NDArray[np.float64]
DIRECTIONS, PIXELS_A_METRE = 42, 700
HAIR_CELL_M, HAIR_RADIUS_M, HAIR_FACES, STRAND_POINTS = 0.003, 0.003, 4000, 8
AWAY_M = 50.0
LOWEST, HIGHEST = -0.45, 0.97
"""Sines of the heights that the person is looked at from: nobody sees up a sleeve, a hem or a sole from far below."""
LEAST_PIXELS = 3


def hair_hull(points: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The surface `HAIR_RADIUS_M` around strand points [N, 3] m, its largest piece: vertices [V, 3], faces [F, 3]."""
    from skimage.filters import gaussian
    from skimage.measure import label, marching_cubes

    strands = points.reshape(-1, STRAND_POINTS, 3)
    dense = np.concatenate((points, ((strands[:, 1:] + strands[:, :-1]) / 2).reshape(-1, 3)))
    reach = 4 * HAIR_CELL_M
    low = dense.min(0) - reach
    counts = np.ceil((dense.max(0) + reach - low) / HAIR_CELL_M).astype(int)
    nodes = low + np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), -1) * HAIR_CELL_M
    away = cKDTree(dense).query(nodes.reshape(-1, 3), distance_upper_bound=reach, workers=-1)[0]
    field = gaussian(np.minimum(away, reach).reshape(counts), 0.7) - HAIR_RADIUS_M
    pieces = label(field < 0)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    field = np.where((field < 0) & (pieces != largest), HAIR_CELL_M, field)
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    return decimated(low + vertices.astype(np.float64) * HAIR_CELL_M, faces, HAIR_FACES)


def carried(vertices: Floats, start: Floats, end: Floats) -> Floats:
    """Vertices [V, 3] moved as the points `start` [N, 3] around them are on their way to `end` [N, 3]."""
    near = cKDTree(start).query(vertices, k=min(STRAND_POINTS, len(start)))[1].reshape(len(vertices), -1)
    moved: Floats = vertices + (end - start)[near].mean(1)
    return moved


def seen_faces(vertices: Floats, faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """[F] in how many pixels triangles are seen from their front, from `DIRECTIONS` far away, none from far below."""
    seen = np.zeros(len(faces), np.int64)
    corners = vertices[faces]
    outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    turns = np.arange(DIRECTIONS) * np.pi * (3 - np.sqrt(5))
    heights = np.linspace(LOWEST, HIGHEST, DIRECTIONS)
    for turn, height in zip(turns, heights, strict=True):
        flat = np.sqrt(1 - height**2)
        eye = np.array((flat * np.cos(turn), flat * np.sin(turn), height))
        across = np.cross(eye, (0.0, 0.0, 1.0))
        across /= np.linalg.norm(across)
        placed = vertices @ np.stack((across, np.cross(eye, across), -eye), 1)
        placed -= placed.min(0)
        flat_px = placed[:, :2] * PIXELS_A_METRE + 2
        width, height_px = (int(np.ceil(size)) + 2 for size in flat_px.max(0))
        pixels = np.concatenate((flat_px, AWAY_M + placed[:, 2:]), 1)
        ids = rasterise_mesh(pixels, faces, width, height_px)[0]
        shown, count = np.unique(ids[ids >= 0], return_counts=True)
        front = outwards[shown] @ eye > 0
        seen[shown[front]] += count[front]
    return seen


def bake(full: dict[str, Any], most_faces: int, samples: int = 40_000) -> tuple[TrueSurfaces, list[float]]:
    """The small surfaces and for each frame the chamfer distance to the full ones, mm."""
    frames = [int(one) for one in full["frames"]]
    names = [key.removesuffix(".faces") for key in full if key.endswith(".faces")]
    places = {name: full[f"{name}.vertices"].astype(np.float64) for name in names}
    triangles = {name: full[f"{name}.faces"].astype(np.int64) for name in names}
    strands = full["hair"].astype(np.float64)
    hull, triangles[HAIR] = hair_hull(strands[0])
    places[HAIR] = np.stack([carried(hull, strands[0], strands[k]) for k in range(len(frames))])
    names.append(HAIR)
    triangles = _outside(names, places, triangles, len(frames))
    names = [name for name in names if len(triangles[name])]
    total = sum(len(triangles[name]) for name in names)
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for name in names:
        share = max(200, round(most_faces * len(triangles[name]) / total))
        light, faces = decimated(places[name][0], triangles[name], share)
        bound = closest_points(light, places[name][0], triangles[name])
        corners = triangles[name][bound.face]
        moved = (places[name][:, corners] * bound.barycentrics[None, ..., None]).sum(2)
        kept.append((faces, moved.astype(np.float32)))
    starts = np.cumsum([0, *(moved.shape[1] for _, moved in kept)])
    surfaces = TrueSurfaces(
        tuple(frames),
        np.concatenate([faces + start for (faces, _), start in zip(kept, starts, strict=False)]),
        np.repeat(np.arange(len(names)), [len(faces) for faces, _ in kept]),
        tuple(names),
        np.concatenate([moved for _, moved in kept], 1),
    )
    offsets = np.cumsum([0, *(places[name].shape[1] for name in names)])
    whole = np.concatenate([triangles[name] + start for name, start in zip(names, offsets, strict=False)])
    errors = [
        compare_surfaces(
            surfaces.mesh(frame), (np.concatenate([places[name][k] for name in names]), whole), samples
        ).chamfer_m
        * 1000
        for k, frame in enumerate(frames)
    ]
    return surfaces, errors


def _outside(
    names: list[str], places: dict[str, Floats], triangles: dict[str, NDArray[np.int64]], moments: int
) -> dict[str, NDArray[np.int64]]:
    """The triangles of each piece that are seen in some moment, and those that touch them."""
    starts = np.cumsum([0, *(places[name].shape[1] for name in names)])
    whole = np.concatenate([triangles[name] + start for name, start in zip(names, starts, strict=False)])
    pixels = sum(seen_faces(np.concatenate([places[name][k] for name in names]), whole) for k in range(moments))
    seen = np.asarray(pixels) >= LEAST_PIXELS
    touched = np.zeros(starts[-1], bool)
    touched[whole[seen].ravel()] = True
    seen |= touched[whole].all(1)
    ends = np.cumsum([0, *(len(triangles[name]) for name in names)])
    return {name: triangles[name][seen[ends[k] : ends[k + 1]]] for k, name in enumerate(names)}


def main(arguments: list[str]) -> int:
    """Write surfaces.npz; prints the error of each frame."""
    parser = argparse.ArgumentParser(prog="bake_surfaces", description=__doc__)
    parser.add_argument("full", type=Path)
    parser.add_argument("capture", type=Path, help="the capture's folder")
    parser.add_argument("--faces", type=int, default=16_000)
    chosen = parser.parse_args(arguments)
    with np.load(chosen.full) as file:
        surfaces, errors = bake({name: file[name] for name in file.files}, chosen.faces)
    import io

    content = io.BytesIO()
    np.savez_compressed(content, **packed_surfaces(surfaces, errors))
    write_atomically(chosen.capture / SURFACES, content.getvalue())
    told = ", ".join(f"frame {frame}: {error:.2f} mm" for frame, error in zip(surfaces.frames, errors, strict=True))
    sys.stdout.write(f"{len(surfaces.faces)} faces, {len(content.getvalue())} bytes; {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
