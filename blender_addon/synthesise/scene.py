"""The Cycles scene around the person: render settings, light from one of Blender's own HDRIs, cameras."""

from __future__ import annotations

from pathlib import Path

import bpy
import mathutils
import numpy as np
from numpy.typing import NDArray

from .._shared import errors
from .painted_lights import PAINTED, painted_radiance
from .surface import Array

LIGHTS = ("city", "courtyard", "forest", "interior", "night", "studio", "sunrise", "sunset")
"""HDRIs that ship inside every Blender (CC0)."""
LIGHT_SHAPE = (64, 128)


def new_scene(name: str, size_px: int, samples: int, *, threads: int = 0) -> bpy.types.Scene:
    """An empty scene set up for Cycles on the CPU with a transparent film. threads 0 = all cores."""
    scene = bpy.data.scenes.new(name)
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.use_adaptive_sampling = "CPU", samples, False
    try:
        cycles.use_denoising, cycles.denoiser, cycles.denoising_prefilter = True, "OPENIMAGEDENOISE", "FAST"
    except TypeError:  # some distributions build Blender without the denoiser
        cycles.use_denoising = False
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces, cycles.transmission_bounces = 5, 2, 2, 4
    cycles.transparent_max_bounces = 6
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    cycles.seed = 0
    scene.cycles_curves.shape, scene.cycles_curves.subdivisions = "RIBBONS", 2
    render = scene.render
    render.threads_mode, render.threads = ("FIXED", threads) if threads else ("AUTO", 1)
    render.resolution_x = render.resolution_y = size_px
    render.resolution_percentage = 100
    render.film_transparent, render.use_persistent_data = True, True
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.5
    render.use_file_extension = False
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0
    scene.display_settings.display_device = "sRGB"
    write_webp(scene)
    return scene


def write_webp(scene: bpy.types.Scene) -> None:
    """Let the scene's pictures be saved as WebP with alpha."""
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "WEBP", "RGBA", "8"


def compute_on_cuda(scene: bpy.types.Scene) -> None:
    """Let Cycles and its denoiser compute on the CUDA devices found. Raises EnvironmentFailed where there is none.

    Another rounding than the CPU's, the same picture.
    """
    preferences = bpy.context.preferences.addons["cycles"].preferences
    try:
        preferences.compute_device_type = "CUDA"
        preferences.refresh_devices()
    except TypeError as error:  # a build without CUDA does not offer the word
        raise errors.EnvironmentFailed("this Blender cannot compute on CUDA", do="Use the device cpu") from error
    found = [device for device in preferences.devices if device.type == "CUDA"]
    if not found:
        raise errors.EnvironmentFailed("Blender found no CUDA device", do="Check the driver, or use the device cpu")
    for device in preferences.devices:
        device.use = device.type == "CUDA"
    scene.cycles.device = "GPU"
    scene.cycles.denoising_use_gpu = True


def add_camera(scene: bpy.types.Scene) -> bpy.types.Object:
    """The scene's camera object; `aim_camera` places it."""
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.data.sensor_fit, camera.data.sensor_width = "HORIZONTAL", 36.0
    camera.data.clip_start, camera.data.clip_end = 0.01, 100.0
    return camera


def aim_camera(camera: bpy.types.Object, K: Array, world_from_camera: Array, size_px: int) -> None:
    """Set pose and lens from K [3, 3] px (principal point in the centre) and world_from_camera [4, 4] (OpenCV axes)."""
    matrix = world_from_camera @ np.diag([1.0, -1.0, -1.0, 1.0])
    camera.matrix_world = mathutils.Matrix(matrix.tolist())
    camera.data.lens = float(K[0, 0]) * camera.data.sensor_width / size_px


MARGIN_PX = 16
"""Room around the body's projected skin for hair and cloth, at 512 px."""


def limit_to(scene: bpy.types.Scene, points: Array, K: Array, world_from_camera: Array, size_px: int) -> None:
    """Render only the box around projected points [N, 3] m; outside it a picture is transparent anyway."""
    from_world = np.linalg.inv(world_from_camera)
    seen = (points @ from_world[:3, :3].T + from_world[:3, 3]) @ K.T
    places = seen[:, :2] / seen[:, 2:]
    margin = MARGIN_PX * size_px / 512
    low = np.clip((places.min(0) - margin) / size_px, 0.0, 1.0)
    high = np.clip((places.max(0) + margin) / size_px, 0.0, 1.0)
    render = scene.render
    render.use_border, render.use_crop_to_border = True, False
    render.border_min_x, render.border_max_x = float(low[0]), float(high[0])
    render.border_min_y, render.border_max_y = float(1 - high[1]), float(1 - low[1])


def light_path(light: str) -> Path:
    """File of a light in `LIGHTS`. Raises NotFound."""
    folder = bpy.utils.system_resource("DATAFILES", path="studiolights/world")
    path = Path(folder or ".") / f"{light}.exr"
    if light not in LIGHTS or not path.is_file():
        raise errors.NotFound(f"light {light!r} is not in this Blender{errors.nearest(light, (*LIGHTS, *PAINTED))}")
    return path


def _light_image(light: str) -> bpy.types.Image:
    """The picture of a light that ships with Blender or that is painted here. Raises NotFound."""
    if light not in PAINTED:
        return bpy.data.images.load(str(light_path(light)), check_existing=True)
    name = f"light {light}"
    if name in bpy.data.images:
        return bpy.data.images[name]
    radiance = painted_radiance(light)
    height, width = radiance.shape[:2]
    image = bpy.data.images.new(name, width, height, float_buffer=True)
    image.colorspace_settings.name = "Linear Rec.709"
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = radiance[::-1]  # Blender's first row is the bottom one
    image.pixels.foreach_set(pixels.ravel())
    return image


def set_light(scene: bpy.types.Scene, light: str, rotation_rad: float, strength: float) -> bpy.types.World:
    """Light the scene by an HDRI turned by rotation_rad about +z (counter-clockwise from above); the world made."""
    world = bpy.data.worlds.new("light")
    scene.world = world
    world.use_nodes = True
    tree = world.node_tree
    tree.nodes.clear()
    place, turn = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeMapping")
    picture, background = tree.nodes.new("ShaderNodeTexEnvironment"), tree.nodes.new("ShaderNodeBackground")
    output = tree.nodes.new("ShaderNodeOutputWorld")
    picture.image = _light_image(light)
    turn.inputs["Rotation"].default_value = (0.0, 0.0, -rotation_rad)  # the node turns the lookup, not the light
    background.inputs["Strength"].default_value = strength
    tree.links.new(place.outputs["Generated"], turn.inputs["Vector"])
    tree.links.new(turn.outputs["Vector"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], background.inputs["Color"])
    tree.links.new(background.outputs["Background"], output.inputs["Surface"])
    return world


def light_radiance(light: str, rotation_rad: float, strength: float) -> NDArray[np.float32]:
    """[64, 128, 3] linear radiance of `set_light`'s world, latitude-longitude as in shared.types.Environment."""
    image = _light_image(light)
    width, height = image.size
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    radiance = pixels.reshape(height, width, 4)[::-1, :, :3]  # Blender's first row is the bottom one
    shift = -rotation_rad / (2 * np.pi) * width
    low = int(np.floor(shift))
    radiance = np.roll(radiance, low, axis=1) * (low + 1 - shift) + np.roll(radiance, low + 1, axis=1) * (shift - low)
    rows, columns = LIGHT_SHAPE
    if height % rows or width % columns:
        raise errors.EnvironmentFailed("the light has an unexpected size", found=f"{width}x{height}")
    blocks = radiance.reshape(rows, height // rows, columns, width // columns, 3)
    return (strength * blocks.mean(axis=(1, 3))).astype(np.float32)
