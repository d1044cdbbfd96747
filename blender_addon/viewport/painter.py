"""Draws a picture of the backend into the framebuffer that is bound: uploaded once, placed by its depth."""

from __future__ import annotations

import math
import time
from typing import Any

import gpu
from mathutils import Matrix

from ..logic import view_maths
from . import shaders
from .frames import Picture

FAINT_RIM = 0.25
"""Cover below which a moved picture's pixels are left out."""


class Painter:
    """One view's texture on the graphics card. uploaded_ms: what the newest upload took."""

    def __init__(self) -> None:
        self._texture: Any = None
        self._number = -1
        self.uploaded_ms = 0.0

    def draw(
        self,
        picture: Picture,
        view_from_world: Any,
        clip_from_view: Any,
        size_px: tuple[int, int],
        *,
        test_depth: bool = True,
        encode: bool = False,
        gain: float = 1.0,
        fade: float = 1.0,
    ) -> bool:
        """Draw it as seen through the present matrices (Blender's RegionView3D) into a region of size_px.

        Whether it is as sharp as can be: made for this very view, one pixel for each of the region's.
        fade: 1 as it is, 0 unseen.
        encode: write display-encoded sRGB rather than linear light, where the framebuffer stores what it is given.
        """
        self.upload(picture)
        camera = picture.wish.camera
        exact = view_maths.same_view(camera, view_from_world, clip_from_view)
        shader, batch = shaders.as_it_is() if exact else shaders.moved()
        smaller = (camera.width_px, camera.height_px) != tuple(size_px)
        matrix = view_maths.clip_from_picture(camera, view_from_world, clip_from_view)
        log_ratio = math.log(camera.far_m / camera.near_m)
        gpu.state.blend_set("ALPHA_PREMULT")
        gpu.state.depth_test_set("LESS_EQUAL" if test_depth else "ALWAYS")
        gpu.state.depth_mask_set(test_depth or not exact)  # a net may fold over itself
        try:
            shader.bind()
            shader.uniform_float("clip_from_picture", Matrix(matrix.tolist()))
            left, top = picture.corner_px
            height, width = picture.packed.shape[:2]
            fx, fy, cx, cy = camera.lens
            whole = (camera.width_px, camera.height_px)
            x0, x1 = (2 * side / whole[0] - 1 for side in (left, left + width))
            y0, y1 = (1 - 2 * side / whole[1] for side in (top + height, top))
            shader.uniform_float("lens", (fx, fy, cx - left, cy - top))
            if exact:  # the net has its places from the depth
                shader.uniform_float("place", (x0, y0, x1, y1))
            shader.uniform_float("range", (camera.near_m, log_ratio, float(camera.orthographic), fade))
            faintest = 0.0 if exact else FAINT_RIM
            shader.uniform_float("mode", (float(smaller or not exact), float(encode), gain, faintest))
            shader.uniform_sampler("texels", self._texture)
            batch.draw(shader)
        finally:
            gpu.state.depth_mask_set(False)
            gpu.state.depth_test_set("NONE")
            gpu.state.blend_set("NONE")
        return exact and not smaller

    def upload(self, picture: Picture) -> None:
        """Bring the picture onto the graphics card, unless it is there. Its bytes are taken as they came."""
        if picture.number == self._number:
            return
        begin = time.perf_counter()
        flat = picture.packed.reshape(-1)
        data = gpu.types.Buffer("FLOAT", flat.size, flat)
        height, width = picture.packed.shape[:2]
        self._texture = gpu.types.GPUTexture((width, height), format="RG32F", data=data)
        self._number = picture.number
        self.uploaded_ms = (time.perf_counter() - begin) * 1000
