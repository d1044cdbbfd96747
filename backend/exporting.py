"""Writing avatars and posed frames as files of other projects: the same for the command line and for errands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.cli_render import orbit_camera
from backend.library import SUFFIX
from shared.desk_messages import StartExport
from shared.errors import BadConfig, EnvironmentFailed, nearest
from shared.types import Camera, Motion

FORMATS = ("rgbavatar", "gaussian-avatars", "ply", "spz", "mesh", "avatar")
SPLATS = ("ply", "spz")
"""Formats that hold posed splats, one frame a file; the others hold the whole avatar in a folder."""
AXES = ("z-up", "y-up", "y-down")
MAX_FRAMES = 100_000
VIEWS = 16
"""Cameras on a circle written into an exported cameras.json."""


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """What to write. motion: None is the pose of the capture. frames: of the motion, from 0; several of them, or one
    where `sequence` is set, become a folder with one file each."""

    form: str
    output: Path
    motion: Motion | None
    frames: Sequence[int] = (0,)
    sequence: bool = False
    axes: str = "z-up"
    template: str = ""
    half_deltas: bool = False


def plan_of(asked: StartExport) -> ExportPlan:
    """The plan of a request. Raises BadConfig for what does not go together."""
    if asked.format not in FORMATS:
        raise BadConfig(
            f"There is no format {asked.format!r}{nearest(asked.format, FORMATS)}", expected=", ".join(FORMATS)
        )
    if asked.axes not in AXES:
        raise BadConfig(f"There are no axes {asked.axes!r}{nearest(asked.axes, AXES)}", expected=", ".join(AXES))
    output = Path(asked.output).expanduser()
    if not asked.output.strip() or not output.is_absolute():
        raise BadConfig(
            "The place to export to is no whole path", found=repr(asked.output), do="Choose a file or folder"
        )
    shapes = (asked.rotations.ndim, asked.translations.ndim, asked.expressions.ndim)
    lengths = {len(asked.rotations), len(asked.translations), len(asked.expressions)} if min(shapes) else set()
    if shapes != (3, 2, 2) or len(lengths) != 1 or max(lengths) > MAX_FRAMES:
        raise BadConfig("The poses to export do not fit each other", found=f"arrays of {shapes} dimensions")
    motion = None
    if len(asked.rotations):
        motion = Motion(
            np.asarray(asked.rotations, np.float32),
            np.asarray(asked.translations, np.float32),
            np.asarray(asked.expressions, np.float32),
            asked.fps if asked.fps > 0 else 25.0,
        )
        if not all(np.isfinite(values).all() for values in (motion.rotations, motion.translations, motion.expressions)):
            raise BadConfig("The poses to export hold numbers that are not finite")
    if asked.format == "avatar" and not output.name.endswith(SUFFIX):
        output = output.with_name(output.name + SUFFIX)
    if asked.format in SPLATS and not asked.sequence and output.suffix.lower() != f".{asked.format}":
        output = output.with_name(f"{output.name}.{asked.format}")
    frames = range(len(motion)) if motion is not None and asked.sequence else (0,)
    return ExportPlan(
        asked.format, output, motion, frames, asked.sequence, asked.axes, asked.template, asked.half_deltas
    )


def write_export(
    folder: Path, plan: ExportPlan, device: str, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Write what the plan says of the avatar in `folder`; what was lost, in sentences.

    Raises BadConfig, BadAvatar, BadTemplate, EnvironmentFailed.
    """
    from avatars.avatar_folder import load_avatar
    from avatars.formats.exporting import (
        export_avatar_folder,
        export_frame,
        export_frames,
        export_gaussian_avatars_folder,
        export_rgbavatar_folder,
        rest_motion,
    )

    if plan.form == "avatar":
        _make_parent(plan.output)
        export_avatar_folder(folder, plan.output, half_deltas=plan.half_deltas)
        return []
    if plan.form == "mesh":
        from avatars.surface.asset import MeshSettings
        from backend.meshes import write_mesh

        _make_parent(plan.output)
        write_mesh(folder, plan.output, MeshSettings(), device, lambda what, done, of: on_progress(done, of))
        return []
    avatar = load_avatar(folder, device)
    rig, moving = avatar.rig(), plan.motion or rest_motion(avatar)
    wanted = (len(rig.joint_names), len(rig.expression_names))
    if (moving.rotations.shape[1], moving.expressions.shape[1]) != wanted:
        raise BadConfig(
            "The poses do not fit this avatar's rig",
            found=f"{moving.rotations.shape[1]} joints and {moving.expressions.shape[1]} expressions",
            expected=f"{wanted[0]} and {wanted[1]}",
        )
    if not 0 <= min(plan.frames) <= max(plan.frames) < len(moving):
        raise BadConfig("The motion has no such frame", found=str(max(plan.frames)), expected=f"0 to {len(moving) - 1}")
    _make_parent(plan.output)
    axes: Any = plan.axes
    if plan.form == "rgbavatar":
        return export_rgbavatar_folder(avatar, plan.output)
    if plan.form == "gaussian-avatars":
        cameras = [(f"{index:05d}", circle_camera(avatar, index)) for index in range(VIEWS)]
        return export_gaussian_avatars_folder(avatar, plan.output, plan.motion, plan.frames[0], plan.template, cameras)
    if plan.sequence:
        export_frames(avatar, moving, plan.frames, plan.output, plan.form, axes, device, on_progress)
    else:
        export_frame(avatar, moving.at(plan.frames[0]), plan.output, plan.form, axes, device)
    return []


def front_view(avatar: Any, size_px: int, device: str) -> NDArray[Any]:
    """The avatar at rest from in front, premultiplied linear RGBA [size, size, 4]."""
    from avatars.formats.exporting import rest_motion
    from avatars.scene import SceneInstance, render_scene

    rest = rest_motion(avatar)
    instance = SceneInstance(avatar, np.eye(4)[None], rest.rotations, rest.translations, rest.expressions)
    camera = circle_camera(avatar, 0, size_px)
    image: NDArray[Any] = render_scene([instance], [camera], None, ("combined",), device=device)["combined"]
    return image


def circle_camera(avatar: Any, index: int, size_px: int = 512) -> Camera:
    """One of VIEWS cameras on a circle around the avatar at rest; 0 is in front."""
    vertices = avatar.proxy().vertices
    K, world_from_camera, distance_m = orbit_camera(
        vertices, size_px, size_px, 2 * math.pi * index / VIEWS, math.radians(5), math.radians(25)
    )
    return Camera(size_px, size_px, K, world_from_camera, distance_m / 100, distance_m * 100)


def _make_parent(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(f"{output.parent} cannot be made", found=str(error.strerror)) from error
