"""The template over the pictures of a recording, under any reading of the camera numbers in its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.captures.coverage import MOST_IMAGES, evenly
from avatars.captures.flame_axes import MODEL_FROM_FLAME, rigid
from avatars.captures.overlay import overlap, projected, silhouette
from avatars.captures.reading import Reading, camera_from_flame, intrinsics, intrinsics_in_file, matrix_in_file
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.template import Template, triangles_of
from avatars.training.views import view_angles_deg
from shared.template import rotation_matrices

HIDDEN_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({"body": ("haircap", "tights", "skirt")})
HIDDEN_ELSEWHERE = ("haircap",)
"""Volumes for hair, and for clothes of a whole body, that hide the embedded human's own skin."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture and the head in it as the file's numbers say, before they are read in any way.

    vertices [V, 3] m in the file's world; matrix [4, 4] and K [3, 3] as in the file; size: width, height px.
    """

    image: int
    vertices: NDArray[np.float64]
    matrix: NDArray[np.float64]
    K: NDArray[np.float64]
    size: tuple[int, int]


class PosedCapture:
    """The template in the frames of a capture, placed as the recording's own files place it."""

    def __init__(self, capture: Capture) -> None:
        arrays = capture.template.open()
        offset = None if capture.vertex_offset is None else torch.from_numpy(np.array(capture.vertex_offset))
        self.capture = capture
        self.head = HeadTemplate.make(Template(arrays), capture.template.preset, capture.template.shape, offset)
        hidden = HIDDEN_GROUPS.get(arrays.view, HIDDEN_ELSEWHERE)
        groups = [name for name in arrays.faces if name not in hidden]
        self.faces = np.concatenate([triangles_of(arrays.faces[g], arrays.uv_faces[g])[0] for g in groups])

    def view(self, index: int, frame: int | None = None) -> View:
        """Image `index` with the head of `frame`, its own where that is None."""
        capture = self.capture
        image = capture.images[index]
        at = image.frame if frame is None else frame
        rotations = capture.motion.rotations[at : at + 1].copy()
        translations = capture.motion.translations[at : at + 1].copy()
        expressions = torch.from_numpy(capture.motion.expressions[at : at + 1].copy())
        camera = capture.cameras[image.camera]
        camera_from_model = camera.camera_from_world()
        if capture.layout == "insta":  # the files hold a still head before a moving camera
            neck = capture.joint_names.index("neck")
            turn = rotation_matrices(rotations[0, neck])
            necks = self.head.joints[neck].double().numpy()
            if expressions.shape[1]:
                moved = self.head.template.joint_expression_dirs[:, neck].T @ expressions[0]
                necks = necks + moved.double().numpy()
            shift = translations[0] - turn @ necks + necks
            camera_from_model = camera_from_model @ rigid(turn, shift)
            rotations[0, neck], translations[:] = 0, 0
        with torch.no_grad():
            posed = self.head.posed_vertices(torch.from_numpy(rotations), torch.from_numpy(translations), expressions)
        turn_to_world = MODEL_FROM_FLAME if capture.world_from_file is None else capture.world_from_file
        return View(
            index,
            posed[0].double().numpy() @ turn_to_world,
            matrix_in_file(camera_from_model @ rigid(turn_to_world, np.zeros(3)), capture.reading),
            intrinsics_in_file(camera.K, capture.reading),
            (camera.width_px, camera.height_px),
        )


class LaidOver:
    """One view and its mask at a size, to be compared under any reading."""

    def __init__(self, capture: Capture, faces: NDArray[np.int32], view: View, longest_px: int) -> None:
        factor = min(1.0, longest_px / max(view.size))
        self.size = max(1, round(view.size[0] * factor)), max(1, round(view.size[1] * factor))
        self.scale = np.array([[self.size[0] / view.size[0]], [self.size[1] / view.size[1]], [1.0]])
        self.picture = capture.rgba(view.image, self.size)
        self.mask, self.faces, self.view = self.picture[..., 3] > 127, faces, view

    def pixels(self, reading: Reading, view: View | None = None) -> NDArray[np.float64]:
        """Image positions and depths [V, 3] of the template under a reading."""
        seen = view or self.view
        K = self.scale * intrinsics(seen.K, reading)
        return projected(seen.vertices, camera_from_flame(seen.matrix, reading), K)

    def overlap(self, reading: Reading, view: View | None = None) -> float:
        """Overlap of template and mask."""
        return overlap(silhouette(self.pixels(reading, view), self.faces, self.size), self.mask)


def varied_images(capture: Capture, count: int) -> list[int]:
    """Images that see the head from as different sides as there are, the most frontal first."""
    images = evenly(range(len(capture.images)), MOST_IMAGES)
    angles = view_angles_deg(capture, images)
    rows = [int(np.linalg.norm(angles, axis=1).argmin())]
    distance = np.linalg.norm(angles - angles[rows[0]], axis=1)
    while len(rows) < min(count, len(images)):
        if distance.max() < 1e-9:  # a head that never turns: take what is left evenly in time
            left = [row for row in range(len(images)) if row not in rows]
            rows += evenly(left, min(count, len(images)) - len(rows))
            break
        rows.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(angles - angles[rows[-1]], axis=1))
        distance[rows] = 0
    return [images[row] for row in rows]
