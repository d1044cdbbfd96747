"""Motions from files: Effigy's own and FLAME's. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.formats.flame_params import MAX_UNPACKED_BYTES, motion_of, read_flame_params
from shared.errors import EffigyError
from shared.npz import read_npz
from shared.types import Motion, Rig


def read_motion(path: Path, rig: Rig) -> Motion:
    """A motion of this rig: an .npz with rotations, translations and expressions, or a flame_param.npz.

    With joint_names and expression_names what the rig shares with the file moves and the rest is 0; without them the
    file is of this very rig.
    Raises EffigyError for a file that is damaged or of another rig.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffigyError(f"{path} cannot be read", found=error.strerror or str(error)) from error
    arrays = read_npz(content, path.name, EffigyError, max_unpacked_bytes=MAX_UNPACKED_BYTES)
    if "rotations" not in arrays and {"expr", "neck_pose"} <= arrays.keys():
        return motion_of(read_flame_params(path), rig)
    missing = [name for name in ("rotations", "translations", "expressions") if name not in arrays]
    if missing:
        raise EffigyError(f"{path.name} is no motion", found="no " + ", ".join(missing))
    rate = arrays.get("fps", np.zeros(0))
    if rate.dtype.kind not in "fiu":
        raise EffigyError(f"{path.name} has a frame rate that is no number", found=str(rate.dtype))
    fps = float(rate.reshape(-1)[0]) if rate.size else 25.0
    motion = Motion(arrays["rotations"], arrays["translations"], arrays["expressions"], fps)
    if {"joint_names", "expression_names"} <= arrays.keys() and len(motion):
        return _by_name(path.name, motion, _texts(arrays["joint_names"]), _texts(arrays["expression_names"]), rig)
    found = (motion.rotations.shape[1], motion.expressions.shape[1])
    wanted = (len(rig.joint_names), len(rig.expression_names))
    if found != wanted or len(motion) == 0:
        raise EffigyError(
            f"{path.name} is a motion of another rig",
            found=f"{found[0]} joints, {found[1]} expressions, {len(motion)} frames",
            expected=f"{wanted[0]} joints, {wanted[1]} expressions",
            do="Write its joint_names and expression_names into the file",
        )
    return motion


def _by_name(file: str, motion: Motion, joints: list[str], expressions: list[str], rig: Rig) -> Motion:
    """The motion with the rig's joints and expressions: each that the file names moves, the rest stays at rest."""
    found = (motion.rotations.shape[1], motion.expressions.shape[1])
    if found != (len(joints), len(expressions)):
        raise EffigyError(
            f"{file} does not name all it moves",
            found=f"{len(joints)} and {len(expressions)} names",
            expected=f"{found[0]} joints and {found[1]} expressions",
        )
    if not {*joints, *expressions} & {*rig.joint_names, *rig.expression_names}:
        raise EffigyError(
            f"{file} moves nothing that this avatar has",
            found=", ".join((*joints, *expressions)[:4]),
            expected=", ".join(rig.joint_names[:4]),
        )
    rotations = np.zeros((len(motion), len(rig.joint_names), 3), np.float32)
    values = np.zeros((len(motion), len(rig.expression_names)), np.float32)
    for names, all_names, source, target in (
        (joints, rig.joint_names, motion.rotations, rotations),
        (expressions, rig.expression_names, motion.expressions, values),
    ):
        for index, name in enumerate(names):
            if name in all_names:
                target[:, all_names.index(name)] = source[:, index]
    return Motion(rotations, motion.translations, values, motion.fps)


def _texts(values: NDArray[np.generic]) -> list[str]:
    return [str(value) for value in np.ravel(values)]
