"""Motions from files: Effigy's own and FLAME's. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatars.formats.flame_params import MAX_UNPACKED_BYTES, motion_of, read_flame_params
from shared.errors import EffigyError
from shared.npz import read_npz
from shared.types import Motion, Rig


def read_motion(path: Path, rig: Rig) -> Motion:
    """A motion of this rig: an .npz with rotations, translations and expressions, or a flame_param.npz.

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
    found = (motion.rotations.shape[1], motion.expressions.shape[1])
    wanted = (len(rig.joint_names), len(rig.expression_names))
    if found != wanted or len(motion) == 0:
        raise EffigyError(
            f"{path.name} is a motion of another rig",
            found=f"{found[0]} joints, {found[1]} expressions, {len(motion)} frames",
            expected=f"{wanted[0]} joints, {wanted[1]} expressions",
        )
    return motion
