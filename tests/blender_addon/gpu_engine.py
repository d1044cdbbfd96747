"""Graphics without a window: a throw-away render engine with a GPU context, inside which a function may use `gpu`."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from typing import Any

import bpy
import gpu
import numpy as np
import pytest


def with_gpu(function: Callable[[], Any]) -> Any:
    """function() with a graphics context bound; its value. Skips the test where this machine can make none."""
    found: dict[str, Any] = {}

    class Throwaway(bpy.types.RenderEngine):
        bl_idname = "EFFIGY_TEST_GPU"
        bl_label = "Graphics for a test"
        bl_use_gpu_context = True

        def render(self, depsgraph: Any) -> None:
            try:
                gpu.platform.backend_type_get()
            except SystemError as error:
                found["none"] = str(error)
            else:
                try:
                    found["value"] = function()
                except BaseException:
                    found["error"] = traceback.format_exc()
            self.end_result(self.begin_result(0, 0, 8, 8))

    bpy.utils.register_class(Throwaway)
    scene = bpy.context.scene
    before = scene.render.engine, scene.render.resolution_x, scene.render.resolution_y
    try:
        scene.render.engine = Throwaway.bl_idname
        scene.render.resolution_x = scene.render.resolution_y = 8
        if scene.camera is None:
            scene.camera = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
            scene.collection.objects.link(scene.camera)
        bpy.ops.render.render()
    finally:
        scene.render.resolution_x, scene.render.resolution_y = before[1:]
        with contextlib.suppress(TypeError):
            scene.render.engine = before[0]
        bpy.utils.unregister_class(Throwaway)
    if "none" in found:
        pytest.skip(f"no graphics context here: {found['none']}")
    assert "error" not in found, found["error"]
    return found["value"]


def read_back(framebuffer: Any, width: int, height: int) -> np.ndarray:
    """[H, W, 4] float32 of the framebuffer's colour, row 0 at the top."""
    buffer = framebuffer.read_color(0, 0, width, height, 4, 0, "FLOAT")
    buffer.dimensions = width * height * 4
    return np.array(buffer, dtype=np.float32).reshape(height, width, 4)[::-1]
