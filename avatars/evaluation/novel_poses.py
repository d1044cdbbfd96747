"""Motions of elsewhere that a body is driven by, whatever file they are in (sdf_body page 8).

    a capture            its own poses and places, by the names of its joints
    .npz                 ours (rotations, translations, expressions), AMASS of any width, or smpl_params
    .pkl                 AIST++: smpl_poses [T, 72], smpl_trans [T, 3], smpl_scaling
    mesh_infos.pkl       a subject as HF-Avatar prepares it: {frame: {poses, Rh, Th, ...}}

A folder is a capture, or holds one mesh_infos.pkl, or one .npz or .pkl. Where people stand is the file's own;
`standing` puts them where the avatar was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.embedded import embedded_captures
from avatars.captures.opening import layout_of, open_capture
from avatars.captures.options import small_file
from avatars.captures.smpl_bodies import placed_body
from avatars.formats.motions import read_motion
from avatars.templates.opening import TemplateReference
from avatars.templates.restricted_pickle import read_pickle
from shared.errors import BadCapture
from shared.motions import SmplMotion, read_smpl_motion, smpl_motion
from shared.npz import read_npz
from shared.template import rotation_matrices
from shared.types import Motion, Rig

MESH_INFOS = "mesh_infos.pkl"
MAX_PICKLE_BYTES, MAX_OPERATIONS, MAX_FILE_BYTES = 256 << 20, 5_000_000, 1 << 30
AIST_FPS, PREPARED_FPS = 60.0, 25.0
OWN = ("rotations", "translations", "expressions")
EXPECTED = f"a capture, an .npz of ours, AMASS or smpl_params, an AIST++ .pkl, or a folder with {MESH_INFOS}"


@dataclass(frozen=True, eq=False)
class NovelPoses:
    """A motion of the avatar's rig. kind: what was read; notes: sentences about what was left out."""

    motion: Motion
    kind: str
    name: str
    notes: tuple[str, ...] = ()


def read_novel_poses(name_or_path: str, rig: Rig, reference: TemplateReference, up: str = "") -> NovelPoses:
    """The motion of a source on a rig. up: the up axis of a file's world, '' to tell it by how the body stands.

    Raises BadCapture where it is none, or of joints the rig lacks.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in embedded_captures() or (path.is_dir() and layout_of(path)):
        return _of_capture(name_or_path, rig)
    if path.is_dir():
        path = _file_in(path)
    if not path.is_file():
        raise BadCapture(f"there is no motion {name_or_path!r}", expected=EXPECTED, do="Check the path")
    if path.suffix.lower() == ".pkl":
        motion, kind = pickled_motion(path)
    else:
        if path.suffix.lower() != ".npz":
            raise BadCapture(f"{path.name} is no motion that can be read here", expected=EXPECTED)
        arrays = read_npz(small_file(path, MAX_FILE_BYTES), path.name, BadCapture, max_unpacked_bytes=2 << 30)
        if all(name in arrays for name in OWN):
            return NovelPoses(read_motion(path, rig), "motion of Effigy", path.stem)
        motion, kind = read_smpl_motion(path), "SMPL motion"
    body = placed_body(path.stem, reference, motion, up=up)
    return NovelPoses(_on_rig(body.motion, reference.open().joint_names, rig, path.name), kind, path.stem, body.notes)


def standing(poses: NovelPoses, own: NDArray[np.floating], there: NDArray[np.floating]) -> NovelPoses:
    """The motion carried so that its first frame stands where the avatar was recorded.

    own: posed vertices [V, 3] m of the first frame; there: those of a recorded one. Feet come to one height, and the
    middles of both lie above each other.
    """
    feet = [np.append((one.min(0) + one.max(0))[:2] / 2, one[:, 2].min()) for one in (own, there)]
    motion, shift = poses.motion, (feet[1] - feet[0]).astype(np.float32)
    return replace(poses, motion=Motion(motion.rotations, motion.translations + shift, motion.expressions, motion.fps))


def _of_capture(name: str, rig: Rig) -> NovelPoses:
    capture = open_capture(name)
    motion, joints, expressions = capture.motion, capture.joint_names, capture.expression_names
    if tuple(joints) == tuple(rig.joint_names) and tuple(expressions) == tuple(rig.expression_names):
        return NovelPoses(motion, "capture", capture.name)
    moved = np.zeros((len(motion), len(rig.expression_names)), np.float32)
    for column, expression in enumerate(rig.expression_names):
        if expression in expressions:
            moved[:, column] = motion.expressions[:, expressions.index(expression)]
    turned = _on_rig(motion, joints, rig, capture.name)
    return NovelPoses(Motion(turned.rotations, turned.translations, moved, motion.fps), "capture", capture.name)


def _on_rig(motion: Motion, joint_names: tuple[str, ...], rig: Rig, name: str) -> Motion:
    """Rotations by the names of joints. Raises BadCapture where the rig has hardly any of them."""
    shared = [joint for joint in rig.joint_names if joint in joint_names]
    if "pelvis" not in shared or len(shared) < min(20, len(rig.joint_names)):
        raise BadCapture(
            f"{name} cannot drive this avatar",
            found=f"{len(shared)} of its {len(rig.joint_names)} joints",
            expected="the joints of a whole body",
        )
    turned = np.zeros((len(motion), len(rig.joint_names), 3), np.float32)
    for column, joint in enumerate(rig.joint_names):
        if joint in joint_names:
            turned[:, column] = motion.rotations[:, joint_names.index(joint)]
    still = np.zeros((len(motion), len(rig.expression_names)), np.float32)
    same = motion.expressions.shape == still.shape
    return Motion(turned, motion.translations, motion.expressions if same else still, motion.fps)


def _file_in(folder: Path) -> Path:
    """The one motion in a folder. Raises BadCapture for none or several."""
    if (folder / MESH_INFOS).is_file():
        return folder / MESH_INFOS
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".npz", ".pkl"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:4]) or "none"
        raise BadCapture(
            f"{folder} does not hold one motion", found=names, expected=EXPECTED, do="Name the file itself"
        )
    return found[0]


def pickled_motion(path: Path) -> tuple[SmplMotion, str]:
    """The motion in a pickle, of which nothing is run, and what it is called. Raises BadCapture."""
    content = read_pickle(path, error_class=BadCapture, max_bytes=MAX_PICKLE_BYTES, max_operations=MAX_OPERATIONS)
    if not isinstance(content, Mapping) or not content:
        raise BadCapture(f"{path.name} is no motion", found=type(content).__name__, expected=EXPECTED)
    if "smpl_poses" in content:
        return _aist(content, path.name), "AIST++ motion"
    if all(isinstance(value, Mapping) and {"poses", "Rh", "Th"} <= value.keys() for value in content.values()):
        return _prepared(content, path.parent.name or path.name), "prepared subject"
    raise BadCapture(
        f"{path.name} is no motion", found=", ".join(str(key) for key in list(content)[:6]), expected=EXPECTED
    )


def _aist(content: Mapping[Any, Any], name: str) -> SmplMotion:
    """AIST++: SMPL turned about its pelvis, places in a unit that smpl_scaling brings to metres."""
    places = _numbers(content.get("smpl_trans"), name, "smpl_trans", 3)
    scale = float(np.ravel(_numbers(content.get("smpl_scaling", [1.0]), name, "smpl_scaling", 1))[0])
    if not 1e-6 < scale < 1e6:
        raise BadCapture(f"smpl_scaling of {name} is no scale", found=f"{scale:g}")
    poses = _numbers(content["smpl_poses"], name, "smpl_poses", 72)
    return smpl_motion({"poses": poses, "trans": places / scale, "fps": np.array(AIST_FPS)}, name)


def _prepared(content: Mapping[Any, Any], name: str) -> SmplMotion:
    """Frames of mesh_infos.pkl in the order of their names: x = R(Rh) SMPL(poses) + Th, turned about the origin."""
    frames = [content[key] for key in sorted(content, key=str)]
    values = {
        key: np.concatenate([_numbers(frame[key], name, key, width) for frame in frames])
        for key, width in (("poses", 72), ("Rh", 3), ("Th", 3))
    }
    found = smpl_motion({"poses": values["poses"], "trans": values["Th"], "fps": np.array(PREPARED_FPS)}, name)
    pelvis = np.asarray(found.pelvis_m, np.float64)
    rotations = found.rotations.copy()
    rotations[:, 0] = values["Rh"]
    shifted = values["Th"] + rotation_matrices(values["Rh"]) @ pelvis - pelvis
    return replace(found, rotations=rotations, translations=shifted.astype(np.float32))


def _numbers(value: Any, name: str, what: str, width: int) -> NDArray[np.float64]:
    """[T, width] of an array with any inner shape. Raises BadCapture."""
    try:
        array = np.asarray(value if value is not None else [])
    except (ValueError, OverflowError) as error:  # rows of unequal length
        raise BadCapture(f"{what} of {name} is no array", found=str(error)[:100]) from error
    if array.dtype.kind not in "fiu" or not array.size or array.size % width or not np.isfinite(array).all():
        raise BadCapture(
            f"{what} of {name} does not fit", found=str(list(array.shape)), expected=f"rows of {width} numbers"
        )
    return array.astype(np.float64).reshape(-1, width)
