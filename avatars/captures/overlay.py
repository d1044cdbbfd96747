"""The template drawn over pictures, and many such pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from avatars.rendering.mesh import rasterise_mesh

CELL_PX, MARGIN_PX, LINE_PX = 256, 8, 20
MESH_TINT, MESH_EDGE, MASK_EDGE = (70, 170, 255), (255, 60, 60), (60, 230, 90)
GREY = 96
MESH_SHARE = 0.45


def projected(
    vertices: NDArray[np.float64], camera: NDArray[np.float64], K: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Image position px and depth m [V, 3] of vertices [V, 3] m; camera [4, 4] is OpenCV's from their world."""
    seen = vertices @ camera[:3, :3].T + camera[:3, 3]
    image = seen @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate((image[:, :2] / image[:, 2:], seen[:, 2:]), 1)


def silhouette(pixels: NDArray[np.float64], faces: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """[H, W] true where the mesh is; size is width, height px."""
    return rasterise_mesh(pixels, faces, *size)[0] >= 0


def overlap(mesh: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Intersection over union, 0 when both are empty."""
    union = int((mesh | mask).sum())
    return float((mesh & mask).sum()) / union if union else 0.0


def overlaid(
    picture: NDArray[np.uint8], pixels: NDArray[np.float64], faces: NDArray[np.int32], lit: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """A premultiplied picture [H, W, 4] over grey with the mesh tinted on top, [H, W, 3].

    pixels [V, 3] as of `projected`; lit [F]: brightness of each face in 0..1. The mesh has a red edge, the mask a green
    one.
    """
    height, width = picture.shape[:2]
    alpha = picture[..., 3:].astype(np.float64) / 255
    canvas = picture[..., :3] + GREY * (1 - alpha)
    face_id = rasterise_mesh(pixels, faces, width, height)[0]
    inside = face_id >= 0
    tint = np.array(MESH_TINT) * lit[np.maximum(face_id, 0)][..., None]
    canvas = np.where(inside[..., None], (1 - MESH_SHARE) * canvas + MESH_SHARE * tint, canvas)
    canvas[_edge(picture[..., 3] > 127)] = MASK_EDGE
    canvas[_edge(inside)] = MESH_EDGE
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def brightness(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], camera: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[F] how much each face looks towards the camera, 0.35 to 1: enough to see the shape."""
    corners = (vertices @ camera[:3, :3].T + camera[:3, 3])[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    to_camera = corners.mean(1)
    length = np.linalg.norm(normals, axis=1) * np.linalg.norm(to_camera, axis=1)
    return 0.35 + 0.65 * np.abs((normals * to_camera).sum(1)) / np.maximum(length, 1e-12)


def sheet(
    title: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8]]]]]
) -> NDArray[np.uint8]:
    """One picture [H, W, 3] of rows (heading, (caption, picture) …) below some lines of text."""
    cells = max((len(pictures) for _, pictures in rows), default=1)
    width = MARGIN_PX + max(cells, 3) * (CELL_PX + MARGIN_PX)
    heights = [
        max((_fitted(picture).height for _, picture in pictures), default=0) + 2 * LINE_PX + MARGIN_PX
        for _, pictures in rows
    ]
    image = Image.new("RGB", (width, 2 * MARGIN_PX + LINE_PX * len(title) + sum(heights)), (24, 24, 24))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=14)
    y = MARGIN_PX
    for line in title:
        pen.text((MARGIN_PX, y), line, fill=(235, 235, 235), font=font)
        y += LINE_PX
    for (heading, pictures), height in zip(rows, heights, strict=True):
        pen.text((MARGIN_PX, y), heading, fill=(255, 210, 120), font=font)
        for column, (caption, picture) in enumerate(pictures):
            x = MARGIN_PX + column * (CELL_PX + MARGIN_PX)
            image.paste(_fitted(picture), (x, y + LINE_PX))
            pen.text((x, y + height - LINE_PX - MARGIN_PX), caption, fill=(200, 200, 200), font=font)
        y += height
    return np.asarray(image)


def _fitted(picture: NDArray[np.uint8]) -> Image.Image:
    """The picture with its longer side as long as a cell."""
    image = Image.fromarray(picture)
    factor = CELL_PX / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.NEAREST if factor > 2 else Image.Resampling.LANCZOS)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask beside one that is not in it."""
    framed = np.pad(mask, 1)
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return mask & ~inner
