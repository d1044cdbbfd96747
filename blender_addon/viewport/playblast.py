"""Viewport renders with the avatars in them: the 3D view drawn off screen, then the backend's picture by its depth.

(Blender's own viewport render calls no draw handlers, so avatars would be missing from it.) The work is a generator:
with a window it goes on between events and can be stopped with Esc; called from a script it runs to its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import gpu
import numpy as np

from .._shared import errors
from ..services import video
from . import contents, proxies
from .overlay import OVERLAY, choose_light, look, wish_for
from .painter import Painter

VIEW = "playblast"
NO_BACKEND_S = 30.0


def frame_numbers(scene: Any) -> range:
    """The frames of the scene's range, or of its preview range where that is on."""
    if scene.use_preview_range:
        return range(scene.frame_preview_start, scene.frame_preview_end + 1)
    return range(scene.frame_start, scene.frame_end + 1, max(1, scene.frame_step))


def picture_size(scene: Any, region: Any, through_camera: bool) -> tuple[int, int]:
    """Width and height in px, even, as H.264 wants them."""
    render = scene.render
    share = render.resolution_percentage / 100
    size = (render.resolution_x * share, render.resolution_y * share)
    if not through_camera:
        size = (region.width, region.height)
    width, height = (max(2, int(side) // 2 * 2) for side in size)
    return width, height


class Playblast:
    """One run. done and total: frames; pictures: the files written so far; place: folder of the pictures."""

    def __init__(self, context: Any, place: Path, *, through_camera: bool) -> None:
        """Raises EffigyError where there is no camera or no connection."""
        self.scene, self.layer = context.scene, context.view_layer
        self.area, self.space = context.area, context.space_data
        self.region = next(region for region in self.area.regions if region.type == "WINDOW")
        if through_camera and self.scene.camera is None:
            raise errors.EffigyError("The scene has no camera", do="Add one, or make the playblast of the view")
        if OVERLAY.thread is None:
            raise errors.Unreachable("There is no connection to a backend", do="Connect in the Backend part first")
        self.through_camera = through_camera
        self.size = picture_size(self.scene, self.region, through_camera)
        self.frames = frame_numbers(self.scene)
        self.done, self.total = 0, len(self.frames)
        self.place = place
        self.pictures: list[Path] = []

    def steps(self) -> Iterator[None]:
        """Write all pictures, pausing wherever the backend is waited for. Raises EffigyError."""
        self.place.mkdir(parents=True, exist_ok=True)
        before, painter = self.scene.frame_current, Painter()
        offscreen = gpu.types.GPUOffScreen(*self.size)
        OVERLAY.muted = True
        try:
            for number in self.frames:
                self.scene.frame_set(number)
                view, window = self._matrices()
                picture = yield from self._picture(view, window)
                with proxies.stepped_aside(self.layer):
                    pixels = self._draw(offscreen, painter, picture, view, window)
                self.pictures.append(save(pixels, self.place / f"{number:04d}.png"))
                self.done += 1
                yield
        finally:
            OVERLAY.muted = False
            offscreen.free()
            self.scene.frame_set(before)

    def _matrices(self) -> tuple[Any, Any]:
        """View from world and clip from view of this frame."""
        matrices = self.space.region_3d
        if not self.through_camera:
            return matrices.view_matrix.copy(), matrices.window_matrix.copy()
        camera = self.scene.camera.evaluated_get(self.layer.depsgraph)
        render = self.scene.render
        window = camera.calc_matrix_camera(
            self.layer.depsgraph,
            x=self.size[0],
            y=self.size[1],
            scale_x=render.pixel_aspect_x,
            scale_y=render.pixel_aspect_y,
        )
        return camera.matrix_world.normalized().inverted(), window

    def _picture(self, view: Any, window: Any) -> Iterator[None]:
        """The backend's picture of this frame, None where no avatar is in it."""
        OVERLAY.contents.clear()
        content = OVERLAY.contents.of(self.scene, self.layer, choose_light)
        if content.problem:
            raise errors.EffigyError(content.problem)
        seen = [actor for actor in content.actors if contents.is_seen(actor, self.layer, self.space)]
        wish = wish_for(VIEW, self.scene, content, seen, view, window, self.size, stamp=(self.done,)) if seen else None
        if wish is None:
            return None
        thread = OVERLAY.thread
        if thread is None:
            raise errors.Unreachable("The connection was closed", do="Connect again, then make the playblast again")
        thread.want(wish)
        lost_s = 0.0
        while True:
            found = thread.picture(VIEW)
            if found is not None and found.wish is wish:
                return found
            if thread.status == "refused":
                raise errors.EffigyError(thread.problem)
            lost_s = lost_s or time.monotonic() if thread.status == "lost" else 0.0
            if lost_s and time.monotonic() - lost_s > NO_BACKEND_S:
                raise errors.Unreachable(f"The backend is away for {NO_BACKEND_S:.0f} s", do="Start it and try again")
            yield

    def _draw(self, offscreen: Any, painter: Painter, picture: Any, view: Any, window: Any) -> Any:
        """[H, W, 4] uint8, row 0 at the bottom, display-encoded."""
        offscreen.draw_view3d(self.scene, self.layer, self.space, self.region, view, window, do_color_management=True)
        width, height = self.size
        with offscreen.bind():
            if picture is not None:
                test, fade = look(self.space, self.scene.render.engine)
                test = test and not (self.space.shading.type == "RENDERED" and self.scene.render.engine == "EFFIGY")
                painter.draw(picture, view, window, self.size, test_depth=test, encode=True, fade=fade)
            buffer = gpu.state.active_framebuffer_get().read_color(0, 0, width, height, 4, 0, "UBYTE")
        buffer.dimensions = width * height * 4
        return np.array(buffer, dtype=np.uint8).reshape(height, width, 4)


def save(pixels: Any, path: Path) -> Path:
    """Write [H, W, 4] uint8, row 0 at the bottom, as an opaque PNG through Blender."""
    height, width = pixels.shape[:2]
    image = bpy.data.images.new("Effigy playblast", width, height, alpha=False)
    try:
        image.pixels.foreach_set((pixels.astype(np.float32) / 255).reshape(-1))
        image.filepath_raw, image.file_format = str(path), "PNG"
        image.save()
    finally:
        bpy.data.images.remove(image)
    return path


def to_video(run: Playblast, path: Path) -> Path:
    """The pictures as an MP4, which then are deleted."""
    render = run.scene.render
    video.encode(run.pictures, path, render.fps / render.fps_base)
    for picture in run.pictures:
        picture.unlink()
    run.place.rmdir()
    return path
