"""Read the scene's camera and picture size as shared Cameras."""

from __future__ import annotations

from typing import Any

from .._shared import errors, types
from ..logic import camera_maths


def read_size(scene: Any) -> camera_maths.PictureSize:
    """Size of the scene's picture and of the region that is rendered."""
    render = scene.render
    border = (
        (render.border_min_x, render.border_min_y, render.border_max_x, render.border_max_y)
        if render.use_border
        else None
    )
    return camera_maths.picture_size(
        (render.resolution_x, render.resolution_y),
        render.resolution_percentage,
        (render.pixel_aspect_x, render.pixel_aspect_y),
        border,
    )


def camera_of_view(scene: Any, camera: Any, view_name: str) -> Any:
    """The camera of one view of Multi-View: the active camera's name with the view's suffix, itself where none is.

    As BKE_camera_multiview_render of Blender's source (source/blender/blenkernel/intern/camera.cc), restated.
    """
    views = scene.render.views
    for view in views:
        suffix = view.camera_suffix
        if view.use and suffix and camera.name.endswith(suffix):
            name = camera.name.removesuffix(suffix) + views[view_name].camera_suffix
            return scene.objects.get(name) or camera
    return camera


def read_camera(
    camera_object: Any,
    size: camera_maths.PictureSize,
    *,
    world_from_camera: Any = None,
    shift_x: float | None = None,
) -> types.Camera:
    """The shared Camera of an evaluated camera object.

    world_from_camera (Blender's axes) and shift_x replace the object's own where a stereo eye needs others.
    Raises EffigyError where there is no camera or one that is neither perspective nor orthographic.
    """
    if camera_object is None:
        raise errors.EffigyError("The scene has no camera", do="Add one and make it the active camera (Ctrl-Numpad 0)")
    lens = camera_object.data
    if camera_object.type != "CAMERA":
        raise errors.EffigyError(
            f"The active camera {camera_object.name!r} is not a camera object", found=camera_object.type.lower()
        )
    camera_maths.refuse_other_projections(lens.type, camera_object.name)
    shift = (lens.shift_x if shift_x is None else shift_x, lens.shift_y)
    parallel = lens.type == "ORTHO"
    if parallel:
        k = camera_maths.orthographic_intrinsics(lens.ortho_scale, lens.sensor_fit, shift, size)
    else:
        sensor_mm = (lens.sensor_width, lens.sensor_height)
        k = camera_maths.intrinsics(lens.lens, sensor_mm, lens.sensor_fit, shift, size)
    matrix = camera_object.matrix_world if world_from_camera is None else world_from_camera
    return camera_maths.camera(matrix, k, size, lens.clip_start, lens.clip_end, parallel)
