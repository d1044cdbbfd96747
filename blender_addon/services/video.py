"""Pictures to an H.264 video with Blender's own FFmpeg, on Blender 4.2 to 5.x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from .._shared import errors


def encode(pictures: list[Path], output: Path, fps: float) -> None:
    """Write the pictures, in order and all of one size, as an MP4. Raises EnvironmentFailed where Blender cannot.

    A scene of its own holds them in its sequencer and is removed again; the pictures pass through unchanged.
    """
    scene = bpy.data.scenes.new("Effigy encoding")
    try:
        _set_up(scene, pictures, output, fps)
        bpy.ops.render.render(animation=True, scene=scene.name)
    except RuntimeError as error:
        raise errors.EnvironmentFailed("Blender could not write the video", found=str(error).strip()) from error
    finally:
        bpy.data.scenes.remove(scene)
    if not output.is_file() or output.stat().st_size == 0:
        raise errors.EnvironmentFailed("Blender wrote no video", expected=str(output), do="Use the pictures instead")


def _set_up(scene: Any, pictures: list[Path], output: Path, fps: float) -> None:
    first = bpy.data.images.load(str(pictures[0]), check_existing=False)
    width, height = first.size
    bpy.data.images.remove(first)
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences  # renamed in Blender 4.4
    strip = strips.new_image("frames", str(pictures[0]), channel=1, frame_start=1)
    for picture in pictures[1:]:
        strip.elements.append(picture.name)
    strip.frame_final_duration = len(pictures)
    strip.colorspace_settings.name = "sRGB"
    scene.sequencer_colorspace_settings.name = "sRGB"
    scene.view_settings.view_transform = "Standard"  # the pictures are finished: show them as they are
    scene.frame_start, scene.frame_end = 1, len(pictures)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.fps, render.fps_base = (round(fps), 1.0) if fps == round(fps) else (round(fps * 1000), 1000.0)
    render.use_sequencer, render.use_compositing = True, False
    render.filepath, render.use_file_extension = str(output), False
    settings = render.image_settings
    if hasattr(settings, "media_type"):  # from Blender 5 a file format belongs to a kind of media
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    settings.color_mode = "RGB"
    render.ffmpeg.format, render.ffmpeg.codec = "MPEG4", "H264"
    render.ffmpeg.constant_rate_factor = "HIGH"
    render.ffmpeg.ffmpeg_preset = "GOOD"
    render.ffmpeg.gopsize = 12
    render.ffmpeg.audio_codec = "NONE"
