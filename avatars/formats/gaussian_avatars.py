"""GaussianAvatars' model folder: point_cloud.ply, cameras.json and cfg_args (method page 10.4; docs/formats.md)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.formats.ply import columns, read_ply, write_ply
from avatars.formats.splat_ply import splat_table, splats_from_table
from avatars.formats.splats import Splats
from avatars.gaussian_head.avatar import make_gaussian_head
from avatars.gaussian_head.model import GaussianHead
from avatars.templates.opening import TemplateReference
from shared.errors import BadAvatar
from shared.types import Camera

BINDING = "binding_0"
CLOUDS, CLOUD = "point_cloud", "point_cloud.ply"
PARAMS, CAMERAS, ARGUMENTS = "flame_param.npz", "cameras.json", "cfg_args"
MAX_TEXT_BYTES = {CAMERAS: 64 << 20, ARGUMENTS: 1 << 16}
WORLD_FROM_FLAME = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_ITERATION = re.compile(r"iteration_(\d{1,12})")


def find_point_cloud(folder: Path) -> Path | None:
    """The point_cloud.ply of a model folder, of its highest iteration; None where there is none."""
    folder = Path(folder)
    if (folder / CLOUD).is_file():
        return folder / CLOUD
    found = {}
    for path in folder.glob(f"{CLOUDS}/iteration_*/{CLOUD}"):
        match = _ITERATION.fullmatch(path.parent.name)
        if match:
            found[int(match[1])] = path
    return found[max(found)] if found else None


def read_point_cloud(path: Path) -> tuple[Splats, NDArray[np.int64]]:
    """Local Gaussians and the FLAME face of each [N]. Raises BadAvatar.

    The splats are in their triangles' frames, positions and scales in units of the triangle's size.
    """
    path = Path(path)
    table = read_ply(path)
    if BINDING not in (table.dtype.names or ()):
        raise BadAvatar(
            f"{path} is a plain splat file, bound to no face",
            found=f"no property {BINDING!r}",
            expected="the point_cloud.ply of a GaussianAvatars model",
        )
    value = table[BINDING] if table.dtype[BINDING].kind in "iu" else columns(table, (BINDING,), path)[:, 0]
    face = value.astype(np.int64)
    if (face != value).any() or (face < 0).any():
        raise BadAvatar(f"{path} holds {BINDING!r} that are no face numbers")
    return splats_from_table(table, path), face


def write_point_cloud(path: Path, splats: Splats, face: NDArray[np.integer]) -> None:
    """Write local Gaussians with their faces. The caller makes it atomic. Raises EnvironmentFailed."""
    write_ply(path, splat_table(splats, [((BINDING,), np.asarray(face, np.float32)[:, None])]))


def import_point_cloud(
    splats: Splats, face: NDArray[np.int64], reference: TemplateReference, vertex_offset: NDArray[np.float32] | None
) -> GaussianHead:
    """A head that gives GaussianAvatars' Gaussians for every pose.

    reference: FLAME with GaussianAvatars' teeth and the subject's shape; vertex_offset [V, 3] m, model axes. Raises
    BadTemplate where the faces are not the template's.
    """
    raw = {
        "positions": splats.positions,
        "rotations": splats.rotations,
        "scales": splats.log_scales,
        "opacities": splats.logits,
        "sh": splats.sh,
        "face": face,
    }
    arrays = reference.open()
    offset = None if vertex_offset is None else torch.from_numpy(np.array(vertex_offset, np.float32))
    return make_gaussian_head(
        reference,
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in raw.items()},
        offset,
        np.zeros((len(arrays.joint_names), 3), np.float32),
    )


def local_splats(model: GaussianHead) -> Splats:
    """The raw parameters of a head as the splats of its point_cloud.ply, bit for bit."""

    def array(value: torch.Tensor) -> NDArray[np.float32]:
        return value.detach().cpu().numpy()

    return Splats(
        array(model.positions), array(model.rotations), array(model.scales), array(model.opacities), array(model.sh)
    )


def read_cfg_args(path: Path) -> dict[str, Any]:
    """The options a model was trained with: a printed Namespace, parsed as literals and never run. Raises BadAvatar."""
    text = _text(path, ARGUMENTS)
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Namespace":
            raise ValueError("no Namespace(...)")
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("values without names")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise BadAvatar(f"{path} is no list of options", found=str(error)[:100], expected="Namespace(...)") from error


def cfg_args_text(options: Mapping[str, Any]) -> str:
    """Options as `read_cfg_args` reads them back."""
    return "Namespace(" + ", ".join(f"{name}={value!r}" for name, value in options.items()) + ")"


def read_cameras(path: Path) -> tuple[tuple[str, Camera], ...]:
    """Names and cameras of a cameras.json, in Effigy's axes. Raises BadAvatar naming the first that is damaged."""
    try:
        entries = json.loads(_text(path, CAMERAS))
    except (ValueError, RecursionError) as error:
        raise BadAvatar(f"{path} is no JSON", found=str(error)[:100]) from error
    if not isinstance(entries, list):
        raise BadAvatar(f"{path} is no list of cameras")
    cameras = []
    for index, entry in enumerate(entries):
        try:
            width, height = int(entry["width"]), int(entry["height"])
            pose = np.eye(4)
            pose[:3, :3] = np.array(entry["rotation"], np.float64)
            pose[:3, 3] = np.array(entry["position"], np.float64)
            K = np.array([[float(entry["fx"]), 0, width / 2], [0, float(entry["fy"]), height / 2], [0, 0, 1]])
            cameras.append((str(entry.get("img_name", index)), Camera(width, height, K, WORLD_FROM_FLAME @ pose)))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise BadAvatar(f"camera {index} of {path} is damaged", found=f"{type(error).__name__}: {error}") from error
    return tuple(cameras)


def cameras_text(cameras: Sequence[tuple[str, Camera]]) -> str:
    """Named cameras as a cameras.json; the principal point has no place in it."""
    entries = []
    for index, (name, camera) in enumerate(cameras):
        pose = np.linalg.inv(WORLD_FROM_FLAME) @ camera.world_from_camera
        entries.append(
            {
                "id": index,
                "img_name": name,
                "width": camera.width_px,
                "height": camera.height_px,
                "position": pose[:3, 3].tolist(),
                "rotation": pose[:3, :3].tolist(),
                "fy": float(camera.K[1, 1]),
                "fx": float(camera.K[0, 0]),
            }
        )
    return json.dumps(entries)


def _text(path: Path, kind: str) -> str:
    path = Path(path)
    try:
        if path.stat().st_size > MAX_TEXT_BYTES[kind]:
            raise BadAvatar(f"{path} is too large", expected=f"at most {MAX_TEXT_BYTES[kind]} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadAvatar(f"{path} cannot be read", found=str(error)) from error
