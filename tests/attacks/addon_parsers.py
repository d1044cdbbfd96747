"""What the add-on reads from strangers without Blender: `python -m backend fuzz --table tests.attacks.addon_parsers`.

Rooms do not import the add-on, so its table stands here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from backend.fuzzing import samples
from backend.fuzzing.runner import Files, Parser
from shared.errors import BadCapture

BVH = """HIERARCHY
ROOT Hips
{
 OFFSET 0 0 0
 CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
 JOINT Left Leg
 {
  OFFSET 0 1 0
  CHANNELS 3 Zrotation Xrotation Yrotation
  End Site
  {
   OFFSET 0 1 0
  }
 }
}
MOTION
Frames: 2
Frame Time: 0.0333
0 0 0 1 2 3 4 5 6
0 0 0 1 2 3 4 5 7
"""


def _bvh(folder: Path) -> Any:
    from blender_addon.logic.bvh import bvh_fps

    return bvh_fps(folder / "x.bvh")


def _motion(folder: Path) -> Any:
    from blender_addon.logic.motion_files import read_motion

    return read_motion(folder / "x.npz" if (folder / "x.npz").is_file() else folder)


def _picture(folder: Path) -> Any:
    from blender_addon.logic.pictures import is_whole

    if not is_whole(next(folder.iterdir())):
        raise BadCapture("the picture is not whole")


def _rig(files: Files) -> Any:
    from blender_addon.services.rig_info import rig_from_json

    rig_from_json.cache_clear()
    return rig_from_json(files["rig.json"].decode("utf-8", "replace")).bone_heads()


def _record(files: Files) -> Any:
    from blender_addon.logic.composite_record import record_from_text

    if record_from_text(files["record.json"].decode("utf-8", "replace")) is None:
        raise BadCapture("this is no record")


def _key(folder: Path) -> Any:
    from blender_addon.logic.key_file import KeyFile

    (folder / "backend_key.json").chmod(0o600)
    if not KeyFile(folder / "backend_key.json").text():
        raise BadCapture("there is no key in it")


def motions() -> tuple[Files, ...]:
    """SMPL's, our own, FLAME's in one file and in a folder of single frames."""
    whole = samples.flame_motion()[0]["x.npz"]
    with np.load(io.BytesIO(whole)) as file:
        arrays = {name: file[name] for name in ("expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose")}
    rows = {f"flame_param/{row}.npz": samples.npz(**{name: v[row] for name, v in arrays.items()}) for row in range(2)}
    return (*samples.smpl_motions(), *samples.our_motion(), {"x.npz": whole}, rows)


def pictures() -> tuple[Files, ...]:
    """One of each format that is rendered to."""
    from avatars.lighting.environment_files import write_exr

    exr = samples.written(lambda folder: write_exr(folder / "x.exr", np.ones((4, 8, 3), np.float32)))
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
    found: list[Files] = [{f"x.{suffix}": samples.picture(kind, "RGB")} for suffix, kind in kinds.items()]
    return (*found, exr)


def rigs() -> tuple[Files, ...]:
    """The text an armature keeps."""
    zeros = np.zeros((2, 3)).tolist()
    rig = {"joints": ["a", "b"], "parents": [-1, 0], "rest_joints": zeros, "expressions": ["e"], "rest_pose": zeros}
    return ({"rig.json": samples.as_json({**rig, "floor": -1.0, "canonical": zeros})},)


def records() -> tuple[Files, ...]:
    """What a scene keeps of its compositing."""
    record = {"layer": "View Layer", "nodes": ["a"], "tree": "", "nodes_switched_on": True, "depth_switched_on": False}
    return ({"record.json": samples.as_json({**record, "proxies": {"p": {"visible_camera": True}}})},)


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        one.name: one
        for one in (
            Parser("addon_bvh", lambda: ({"x.bvh": BVH.encode()},), _bvh),
            Parser("addon_motion", motions, _motion),
            Parser("addon_pictures", pictures, _picture),
            Parser("addon_rig", rigs, parse=_rig),
            Parser("addon_composite", records, parse=_record),
            Parser("addon_key", lambda: ({"backend_key.json": samples.as_json({"key": "hush"})},), _key),
        )
    }
)
