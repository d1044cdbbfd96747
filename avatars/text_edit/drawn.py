"""A region drawn onto pictures of a capture, carried onto the avatar's mesh as if it had been painted there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.captures.overlay import projected
from avatars.picture_files import open_picture
from avatars.rendering.mesh import rasterise_mesh
from shared.errors import BadConfig
from shared.template import joint_transforms, skin
from shared.types import Float32, Motion, ProxyMesh, Rig

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def drawn_weights(avatar: Avatar, capture: Capture, folder: Path) -> NDArray[np.float32]:
    """Weights [V] in 0..1 of the avatar's proxy mesh: how white the masks are where each vertex is seen.

    folder: masks named as pictures of the capture (white is to change), of any size; a vertex that none sees gets 0.
    Raises BadConfig for a folder without masks, a name that is none of the capture's, and masks that are all black.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise BadConfig(f"there are no masks in {folder}", expected="pictures named as the capture's, white to change")
    rows = {image.file.stem: row for row, image in enumerate(capture.images)}
    proxy, rig = avatar.proxy(), avatar.rig()
    quads = proxy.faces[proxy.faces[:, 2] != proxy.faces[:, 3]]
    faces = np.concatenate((proxy.faces[:, :3], quads[:, [0, 2, 3]]))
    white, seen = np.zeros(len(proxy.vertices)), np.zeros(len(proxy.vertices))
    for path in files:
        if path.stem not in rows:
            raise BadConfig(f"no picture of capture {capture.name!r} is named {path.stem}", expected=next(iter(rows)))
        image = capture.images[rows[path.stem]]
        camera = capture.cameras[image.camera]
        vertices = posed_proxy(proxy, rig, capture.motion, image.frame)
        pixels = projected(vertices, camera.camera_from_world(), camera.K)
        face, barycentric, _ = rasterise_mesh(pixels, faces, camera.width_px, camera.height_px)
        there = face >= 0
        corners, shares = faces[face[there]], barycentric[there]
        mask = opened(path, (camera.width_px, camera.height_px))[there]
        np.add.at(white, corners, shares * mask[:, None])
        np.add.at(seen, corners, shares)
    weights = np.divide(white, seen, out=np.zeros_like(white), where=seen > 1e-6).astype(np.float32)
    if not weights.max() > 0:
        raise BadConfig(f"the masks in {folder} are black wherever the avatar is", do="Draw white what is to change")
    return weights


def opened(path: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    """A mask [H, W] in 0..1 at `size` (width, height) px. Raises BadConfig."""
    with open_picture(path, f"the mask {path.name}", BadConfig) as picture:
        return np.asarray(picture.convert("L").resize(size, Image.Resampling.BILINEAR), np.float64) / 255


def posed_proxy(proxy: ProxyMesh, rig: Rig, motion: Motion, frame: int) -> Float32:
    """World vertices [V, 3] m of a proxy mesh in one frame of a motion of its rig; correctives are left out."""
    vertices = proxy.vertices.astype(np.float64)
    offsets = np.einsum("e,emc->mc", motion.expressions[frame], proxy.expression_offsets)
    vertices[proxy.expression_vertices] += offsets
    skinning, _ = joint_transforms(motion.rotations[frame], rig.rest_joints, rig.parents)
    dense = np.zeros((len(vertices), len(rig.parents)))
    np.add.at(dense, (np.arange(len(vertices))[:, None], proxy.joints), proxy.weights)
    return skin(vertices, dense, skinning) + motion.translations[frame]
