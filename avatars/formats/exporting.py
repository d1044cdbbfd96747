"""Avatars of Effigy as files of other projects: whole avatars, a posed frame, a sequence of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.avatar_folder import About, load_avatar, load_preview, read_description, save_avatar, shown_name
from avatars.files import disk_failure, sync_file, write_folder_atomically
from avatars.formats.conversion import gaussian_head_of
from avatars.formats.flame_params import FlameParams, flame_params_bytes, params_of
from avatars.formats.gaussian_avatars import (
    ARGUMENTS,
    CAMERAS,
    CLOUD,
    CLOUDS,
    PARAMS,
    cameras_text,
    cfg_args_text,
    local_splats,
    write_point_cloud,
)
from avatars.formats.importing import CONFIG, MODEL, flame_reference
from avatars.formats.rgbavatar_head import export_rgbavatar
from avatars.formats.rgbavatar_network import settings_text
from avatars.formats.rgbavatar_ply import write_rgbavatar_ply
from avatars.formats.splat_ply import write_splat_ply
from avatars.formats.splats import Axes, splats_of
from avatars.formats.spz import write_spz
from avatars.gaussian_head.avatar import GaussianHeadAvatar
from avatars.gaussian_head.model import GaussianHead
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.head_template import HeadTemplate
from shared.errors import BadAvatar, BadConfig
from shared.types import Camera, Motion, Pose, Rig

SPLATS = ("ply", "spz")
ITERATION = 600_000
Progress = Callable[[int, int], None]
"""Called with frames done and frames in all."""


def rest_motion(avatar: Avatar) -> Motion:
    """One instant: the pose it was captured in, without expression."""
    rig = avatar.rig()
    return Motion(
        np.asarray(avatar.rest_pose, np.float32)[None],
        np.zeros((1, 3), np.float32),
        np.zeros((1, len(rig.expression_names)), np.float32),
        25.0,
    )


def export_frame(avatar: Avatar, pose: Pose, path: Path, form: str, axes: Axes = "z-up", device: str = "cpu") -> int:
    """Write one posed frame as 'ply' or 'spz', in one step, and return how many splats it has.

    SPZ is always y-up. Raises BadConfig, BadAvatar, EnvironmentFailed.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        count = _write_frame(avatar, pose, temporary, form, axes, device)
        sync_file(temporary)
        temporary.replace(path)
    except OSError as error:
        raise disk_failure(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def export_frames(
    avatar: Avatar,
    motion: Motion,
    frames: Sequence[int],
    folder: Path,
    form: str,
    axes: Axes = "z-up",
    device: str = "cpu",
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Write frames as frame_0000.ply (or .spz) … into a new folder that appears when all are there.

    Raises BadConfig, BadAvatar, EnvironmentFailed.
    """
    check_new_folder(folder)

    def fill(target: Path) -> None:
        for done, frame in enumerate(frames):
            _write_frame(avatar, motion.at(frame), target / f"frame_{frame:04d}.{form}", form, axes, device)
            on_progress(done + 1, len(frames))

    write_folder_atomically(folder, fill)


def export_rgbavatar_folder(avatar: Avatar, folder: Path) -> list[str]:
    """Write model.ply, config.yaml and the person's flame_param.npz into a new folder; what was lost, in sentences.

    Raises BadAvatar for what RGBAvatar cannot hold, EnvironmentFailed.
    """
    if not isinstance(avatar, RgbHeadAvatar):
        raise BadAvatar(
            f"avatars of method {avatar.method!r} cannot be written as RGBAvatar files", expected="method 'rgb_head'"
        )
    check_new_folder(folder)
    file, settings, notes = export_rgbavatar(avatar.model)
    params = person_of(avatar.rig(), avatar.model.head, rest_motion(avatar))

    def fill(target: Path) -> None:
        write_rgbavatar_ply(target / MODEL, file)
        (target / CONFIG).write_text(settings_text(settings), encoding="utf-8")
        (target / PARAMS).write_bytes(flame_params_bytes(params, vertices=len(avatar.model.head.vertices)))

    write_folder_atomically(folder, fill)
    return notes


def export_gaussian_avatars_folder(
    avatar: Avatar,
    folder: Path,
    motion: Motion | None,
    frame: int,
    template: str,
    cameras: Sequence[tuple[str, Camera]],
) -> list[str]:
    """Write a model folder of GaussianAvatars; what was lost, in sentences.

    An RGB head is frozen at `frame` of the motion (or at rest) and bound to FLAME with GaussianAvatars' teeth, of the
    template's id or of the same version. Raises BadAvatar, BadTemplate, EnvironmentFailed.
    """
    check_new_folder(folder)
    moving = motion or rest_motion(avatar)
    model, notes = _gaussian_head(avatar, moving.at(frame), template)
    shown = GaussianHeadAvatar(model)
    params = person_of(avatar.rig(), model.head, moving)
    dropped = [name for name in avatar.rig().expression_names if not name.startswith("exp")]
    if dropped and moving.expressions[:, [avatar.rig().expression_names.index(name) for name in dropped]].any():
        notes.append(f"The motion of {', '.join(dropped)} has no place in {PARAMS}.")
    options = {"sh_degree": int(model.sh.shape[1] ** 0.5) - 1, "bind_to_mesh": True, "white_background": True}

    def fill(target: Path) -> None:
        inner = target / CLOUDS / f"iteration_{ITERATION}"
        inner.mkdir(parents=True)
        write_point_cloud(inner / CLOUD, local_splats(shown.model), shown.model.faces())
        (inner / PARAMS).write_bytes(flame_params_bytes(params, vertices=len(model.head.vertices)))
        (target / CAMERAS).write_text(cameras_text(cameras), encoding="utf-8")
        (target / ARGUMENTS).write_text(cfg_args_text(options), encoding="utf-8")

    write_folder_atomically(folder, fill)
    return notes


def export_avatar_folder(source: Path, folder: Path, *, half_deltas: bool) -> None:
    """Copy an avatar folder, with its blendshapes as float16 where asked for (see `rgb_head.storage`).

    Raises BadAvatar for an avatar without blendshapes, BadConfig where something is in the way, EnvironmentFailed.
    """
    check_new_folder(folder)
    avatar = load_avatar(source)
    document = read_description(source)
    if half_deltas:
        if not isinstance(avatar, RgbHeadAvatar):
            raise BadAvatar(f"avatars of method {avatar.method!r} have no blendshapes to halve")
        avatar = RgbHeadAvatar(avatar.model, half_deltas=True)
    about = About(
        name=shown_name(source, document),
        licence=document["licence"],
        consent=str(document.get("consent", "")),
        training=document["training"],
        provenance=document.get("provenance", {}),
    )
    if folder.is_dir():
        folder.rmdir()  # empty; save_avatar refuses a folder that is no avatar
    save_avatar(folder, avatar, about, load_preview(source))


def person_of(rig: Rig, head: HeadTemplate, motion: Motion) -> FlameParams:
    """A motion with the shape and the static offset of a head. Raises BadAvatar."""
    offset = None if head.vertex_offset is None else head.vertex_offset.cpu().numpy()
    return params_of(motion, rig, offset)


def check_new_folder(folder: Path) -> None:
    """Raises BadConfig where something is there already that would be lost."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadConfig(f"{folder} exists already", do="Give another --output, or remove it first")


def _write_frame(avatar: Avatar, pose: Pose, path: Path, form: str, axes: Axes, device: str) -> int:
    if form not in SPLATS:
        raise BadConfig(f"unknown format {form!r} of a posed frame", expected=" or ".join(SPLATS))
    drive = [
        torch.from_numpy(np.array(value))[None].to(device)
        for value in (pose.rotations, pose.translation, pose.expression)
    ]
    splats = splats_of(avatar.pose(*drive, normals=False))
    if form == "spz":
        write_spz(path, splats.in_axes("y-up"))
    else:
        write_splat_ply(path, splats.in_axes(axes), [f"Effigy, axes {axes}, metres"])
    return len(splats)


def _gaussian_head(avatar: Avatar, pose: Pose, template: str) -> tuple[GaussianHead, list[str]]:
    if isinstance(avatar, GaussianHeadAvatar):
        return avatar.model, []
    if not isinstance(avatar, RgbHeadAvatar):
        raise BadAvatar(f"avatars of method {avatar.method!r} cannot be written as GaussianAvatars files")
    own = avatar.template()
    version = own.template_id.partition("_")[0]
    reference = flame_reference(template, (f"{version}_gaussian_avatars",), "gaussian_avatars", own.shape)
    return gaussian_head_of(avatar.model, replace(reference, preset=own.preset), pose)
