"""Avatars of other projects as Effigy's own: whose file it is, whose head, and on which FLAME."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avatars.avatar import Avatar
from avatars.captures.metrical_frame import read_metrical_frame
from avatars.files import sha256_of
from avatars.formats.flame_params import FlameParams, offset_for, read_flame_params
from avatars.formats.gaussian_avatars import (
    ARGUMENTS,
    BINDING,
    CAMERAS,
    CLOUD,
    PARAMS,
    find_point_cloud,
    import_point_cloud,
    read_cameras,
    read_cfg_args,
    read_point_cloud,
)
from avatars.formats.ply import ply_properties
from avatars.formats.rgbavatar_head import import_rgbavatar, settings_without_config
from avatars.formats.rgbavatar_network import read_settings
from avatars.formats.rgbavatar_ply import read_rgbavatar_ply
from avatars.gaussian_head.avatar import GaussianHeadAvatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.templates import opening
from avatars.templates.opening import TemplateReference
from shared.errors import BadAvatar, nearest

MODEL, CONFIG = "model.ply", "config.yaml"
ADDING = {
    "rgbavatar": "effigy template add generic_model.pkl --uv flame_uv.npz --eyelids l_eyelid.npy r_eyelid.npy",
    "gaussian_avatars": "effigy template add flame2023.pkl --uv head_template_mesh.obj --teeth gaussian_avatars",
}


@dataclass(frozen=True, eq=False)
class Imported:
    """An avatar from elsewhere. notes: sentences for the user; provenance: where it came from, as JSON values."""

    avatar: Avatar
    provenance: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)


def import_avatar(
    source: Path,
    *,
    config: Path | None = None,
    flame_param: Path | None = None,
    template: str = "",
    mean_shape: bool = False,
) -> Imported:
    """Read an avatar of RGBAvatar (model.ply) or GaussianAvatars (point_cloud.ply), or a folder with one.

    config: RGBAvatar's config.yaml, where it does not lie beside the file. flame_param: whose head it is, a
    flame_param.npz or a `.frame` of metrical-tracker, or a folder with them; GaussianAvatars' lies beside the file.
    template: id of an added FLAME template, '' chooses. mean_shape: take FLAME's mean head instead. Raises BadAvatar,
    BadConfig, BadCapture, BadTemplate with one sentence.
    """
    kind, path = find_avatar_file(Path(source))
    if kind == "rgbavatar":
        return _rgbavatar(path, config, flame_param, template, mean_shape)
    if config is not None:
        raise BadAvatar("--config belongs to RGBAvatar's files", found=f"{path}, a file of GaussianAvatars")
    return _gaussian_avatars(path, flame_param, template, mean_shape)


def find_avatar_file(source: Path) -> tuple[str, Path]:
    """'rgbavatar' or 'gaussian_avatars', and the PLY. Raises BadAvatar for anything else."""
    path = source
    if source.is_dir():
        cloud = find_point_cloud(source)
        path = source / MODEL if (source / MODEL).is_file() else cloud or source / MODEL
        if not path.is_file():
            raise BadAvatar(
                f"{source} holds no avatar Effigy can read",
                expected=f"{MODEL} (RGBAvatar), {CLOUD} or point_cloud/iteration_*/{CLOUD} (GaussianAvatars)",
            )
    names = () if path.suffix.lower() == ".spz" and path.is_file() else ply_properties(path)
    if "xyz_b_0" in names:
        return "rgbavatar", path
    if BINDING in names:
        return "gaussian_avatars", path
    raise BadAvatar(
        f"{path} is no avatar: its splats are bound to nothing",
        expected="blendshape columns (RGBAvatar) or binding_0 (GaussianAvatars)",
        do="Plain splat files can be shown by viewers, not animated",
    )


def read_person(path: Path) -> FlameParams:
    """Whose head it is: shape and static offset of a flame_param.npz, a `.frame`, or the first in a folder.

    Raises BadAvatar or BadCapture.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / PARAMS, path / "canonical_flame_param.npz"]
        for pattern in ("*.frame", "checkpoint/*.frame", "flame_param/*.npz"):
            found += sorted(path.glob(pattern))[:1]
        existing = [candidate for candidate in found if candidate.is_file()]
        if not existing:
            raise BadAvatar(
                f"{path} does not say whose head it is", expected=f"{PARAMS}, or a checkpoint folder with .frame files"
            )
        path = existing[0]
    if path.suffix != ".frame":
        return read_flame_params(path)
    frame = read_metrical_frame(path)
    still = np.zeros((1, 3), np.float32)
    return FlameParams(
        shape=frame.shape.astype(np.float32),
        expr=np.zeros((1, 100), np.float32),
        rotation=still,
        neck_pose=still,
        jaw_pose=still,
        eyes_pose=np.zeros((1, 6), np.float32),
        translation=still,
    )


def flame_reference(wanted: str, preferred: Sequence[str], teeth: str, shape: Sequence[float]) -> TemplateReference:
    """The template of that id, or the first of `preferred` that was added. Raises BadTemplate or BadAvatar."""
    if wanted:
        return opening.reference_of(wanted, shape=shape)
    installed = opening.installed_templates()
    for name in preferred:
        if name in installed:
            return opening.reference_of(name, shape=shape)
    raise BadAvatar(
        f"the avatar needs a FLAME template that was not added{nearest(preferred[0], installed)}",
        found=", ".join(name for name in installed if name.startswith("flame")) or "no FLAME",
        expected=" or ".join(preferred),
        do=f"Get FLAME from its owners and run: {ADDING[teeth]}",
    )


def _rgbavatar(path: Path, config: Path | None, flame_param: Path | None, template: str, mean_shape: bool) -> Imported:
    file = read_rgbavatar_ply(path)
    beside = path.with_name(CONFIG)
    config = config or (beside if beside.is_file() else None)
    notes = []
    if config is None:
        settings = settings_without_config(file, path)
        notes.append(
            f"There is no {CONFIG} beside {path.name}: its network was taken to read {settings.inputs} numbers, "
            "as its size says."
        )
    else:
        settings = read_settings(config)
    beside = path.with_name(PARAMS)
    params = _person(path, flame_param or (beside if beside.is_file() else None), mean_shape)
    newer = ("flame2023_rgbavatar", "flame2020_rgbavatar")  # multi-view captures: FLAME 2023, expressions alone
    reference = flame_reference(template, newer if settings.inputs <= 100 else newer[::-1], "rgbavatar", _shape(params))
    offset = None if params is None else offset_for(params, reference.open(), path)
    head = import_rgbavatar(file, settings, reference, path, offset)
    provenance = {"imported_from": "RGBAvatar", "file": path.name, "sha256": sha256_of(path)}
    return Imported(RgbHeadAvatar(head), provenance, _notes(notes, params, path))


def _gaussian_avatars(path: Path, flame_param: Path | None, template: str, mean_shape: bool) -> Imported:
    splats, face = read_point_cloud(path)
    beside = path.with_name(PARAMS)
    source = flame_param or (beside if beside.is_file() else None)
    params = _person(path, source, mean_shape)
    preferred = ("flame2023_gaussian_avatars", "flame2020_gaussian_avatars")
    reference = flame_reference(template, preferred, "gaussian_avatars", _shape(params))
    offset = None if params is None else offset_for(params, reference.open(), path)
    head = import_point_cloud(splats, face, reference, offset)
    provenance: dict[str, Any] = {"imported_from": "GaussianAvatars", "file": path.name, "sha256": sha256_of(path)}
    root, number = path.parent, path.parent.name.removeprefix("iteration_")
    if number != path.parent.name:
        root = path.parent.parent.parent
        provenance |= {"iteration": int(number)} if number.isdigit() else {}
    if (root / ARGUMENTS).is_file():
        options = read_cfg_args(root / ARGUMENTS)
        provenance["options"] = {key: value for key, value in options.items() if isinstance(value, bool | int | float)}
    if (root / CAMERAS).is_file():
        provenance["cameras"] = len(read_cameras(root / CAMERAS))
    notes = ["The light it was captured in is not in the file; relighting it is a guess."]
    if params is not None and len(params) > 1:
        notes.append(f"Its {len(params)} frames of motion drive it: effigy render --motion {source}")
    return Imported(GaussianHeadAvatar(head), provenance, _notes(notes, params, path))


def _person(path: Path, source: Path | None, mean_shape: bool) -> FlameParams | None:
    if mean_shape:
        return None
    if source is None:
        raise BadAvatar(
            f"{path} does not say whose head it is: its Gaussians hang on a FLAME shaped by numbers kept elsewhere",
            expected=f"{PARAMS} beside it",
            do="Give --flame-param with that file or the tracker's checkpoint folder, or --mean-shape",
        )
    return read_person(source)


def _shape(params: FlameParams | None) -> tuple[float, ...]:
    return () if params is None else tuple(params.shape.astype(float).tolist())


def _notes(notes: list[str], params: FlameParams | None, path: Path) -> tuple[str, ...]:
    if params is None:
        notes.append(f"FLAME's mean head stands in for the person's: {path.name} may not fit it well.")
    return tuple(notes)
