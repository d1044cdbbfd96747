"""Body and head models as their owners hand them out, heads true in sizes and all empty, and avatars that hang on them.

Nothing of the licensed files is here. Directions are stored as small integers, which the readers take for numbers, so
that a file has megabytes where the true one has hundreds.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backend.fuzzing.runner import Files
from backend.fuzzing.samples import flame_motion, npy, npz, numbers, written
from backend.fuzzing.small_samples import training_arguments

if TYPE_CHECKING:
    from avatars.templates.body_models import BodyKind

SPLATS = 40


def _triangles(count: int, vertices: int) -> NDArray[np.uint32]:
    first = np.arange(count) % (vertices - 2)
    return np.stack((first, first + 1, first + 2), 1).astype(np.uint32)


def _regressor(joints: int, vertices: int) -> NDArray[np.float32]:
    found = np.zeros((joints, vertices), np.float32)
    found[np.arange(joints), np.arange(joints)] = 1
    return found


@cache
def flame() -> tuple[Files, ...]:
    """FLAME's pickle, its UV layout as .npz and .obj, and an eyelid."""
    from avatars.templates import flame as kind

    faces, corners = _triangles(kind.FACES, kind.VERTICES), _triangles(kind.FACES, kind.UV_VERTICES)
    arrays = {
        "kintree_table": np.array([[2**32 - 1, *kind.PARENTS[1:]], range(5)], np.int64),
        "v_template": numbers(kind.VERTICES, 3),
        "f": faces,
        "J_regressor": _regressor(5, kind.VERTICES),
        "weights": np.full((kind.VERTICES, 5), 0.2, np.float32),
        "posedirs": np.zeros((kind.VERTICES, 3, 36), np.int8),
        "shapedirs": np.zeros((kind.VERTICES, 3, kind.SHAPES + kind.EXPRESSIONS), np.int8),
    }
    uv = (np.abs(numbers(kind.UV_VERTICES, 2)) % 1).astype(np.float32)
    lines = [f"vt {u:.4f} {v:.4f}" for u, v in uv.tolist()]
    pairs = np.stack((faces, corners), -1).astype(np.int64) + 1
    lines += ["f " + " ".join(f"{a}/{b}" for a, b in face) for face in pairs.tolist()]
    files = {"flame2023.pkl": pickle.dumps(arrays, 2), "head_template_mesh.obj": "\n".join(lines).encode()}
    files |= {"flame_uv.npz": npz(vt=uv, ft=corners), "l_eyelid.npy": npy(np.zeros((kind.VERTICES, 3), np.float32))}
    return (files,)


def body_kinds() -> tuple[BodyKind, BodyKind]:
    """SMPL-X and SMPL of a few vertices each: at their true sizes one file takes seconds."""
    from avatars.templates.body_models import SMPL, SMPLX

    return replace(SMPLX, vertices=64, faces=40), replace(SMPL, vertices=60, faces=36)


def body_models() -> tuple[Files, ...]:
    """SMPL-X as .npz and SMPL as .pkl, of the sizes of `body_kinds`."""
    return ({"SMPLX_NEUTRAL.npz": _body(True)}, {"basicModel_f_lbs.pkl": _body(False)})


@cache
def _body(smplx: bool) -> bytes:
    kind = body_kinds()[0 if smplx else 1]
    joints, count = len(kind.joint_names), kind.vertices
    weights = np.zeros((count, joints), np.float32)
    weights[:, 0] = 1
    arrays: dict[str, Any] = {
        "kintree_table": np.stack((np.array((2**32 - 1, *kind.parents[1:])), np.arange(joints))).astype(np.int64),
        "v_template": numbers(count, 3),
        "f": _triangles(kind.faces, count),
        "J_regressor": _regressor(joints, count),
        "weights": weights,
        "shapedirs": np.zeros((count, 3, 12), np.int8),
        "posedirs": np.zeros((count, 3, 9 * (joints - 1)), np.int8),
    }
    return npz(**arrays) if smplx else pickle.dumps(arrays, 2)


@cache
def _flame_home() -> tempfile.TemporaryDirectory[str]:
    """A home folder with FLAME 2020 and 2023 added, made of the samples above; kept until the process ends."""
    from avatars.templates.flame import read_flame
    from avatars.templates.installed import install

    place = tempfile.TemporaryDirectory(prefix="effigy-fuzz-")
    folder = Path(place.name)
    for name, content in flame()[0].items():
        (folder / name).write_bytes(content)
    lids = folder / "l_eyelid.npy", folder / "l_eyelid.npy"
    for version, eyelids in (("2020", lids), ("2023", None)):
        for teeth in ("rgbavatar", "gaussian_avatars"):
            model = folder / "flame2023.pkl"
            made = read_flame(model, uv=folder / "flame_uv.npz", eyelids=eyelids, teeth=teeth, version=version)
            with _home(folder):
                install(made)
    return place


@contextmanager
def flame_installed() -> Iterator[None]:
    """Within it, FLAME is among the templates of this process's user."""
    with _home(Path(_flame_home().name)):
        yield


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("EFFIGY_HOME")
    os.environ["EFFIGY_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["EFFIGY_HOME"]
        else:
            os.environ["EFFIGY_HOME"] = before


@cache
def gaussian_avatars() -> tuple[Files, ...]:
    """GaussianAvatars' model folder."""
    from avatars.formats.gaussian_avatars import write_point_cloud
    from avatars.formats.splats import Splats

    n = SPLATS
    cloud = Splats(numbers(n, 3), numbers(n, 4) + 1, numbers(n, 3) - 1, numbers(n), numbers(n, 16, 3))
    face = np.arange(n)
    made = written(lambda folder: write_point_cloud(folder / "point_cloud.ply", cloud, face))
    iteration = "point_cloud/iteration_30"
    files = {f"{iteration}/point_cloud.ply": made["point_cloud.ply"]}
    files |= {f"{iteration}/flame_param.npz": flame_motion()[0]["x.npz"], **training_arguments()[0]}
    return (files,)


@cache
def rgbavatar() -> tuple[Files, ...]:
    """RGBAvatar's model.ply with its config.yaml and the subject's flame_param.npz."""
    from avatars.formats.rgbavatar_network import RgbAvatarSettings, parameter_count, settings_text
    from avatars.formats.rgbavatar_ply import RgbAvatarFile, write_rgbavatar_ply

    settings = RgbAvatarSettings(blendshapes=4, use_mlp_proj=False)
    blendshapes, packed = settings.blendshapes, parameter_count(settings.inputs, settings.blendshapes, mlp=False)
    n = packed + 8
    file = RgbAvatarFile(
        positions=numbers(n, 3),
        opacities=numbers(n),
        scales=numbers(n, 3) - 7,
        rotations=numbers(n, 4) + 1,
        colours=numbers(n, 3),
        position_deltas=np.zeros((blendshapes, n, 3), np.float32),
        rotation_deltas=np.zeros((blendshapes, n, 4), np.float32),
        colour_deltas=np.zeros((blendshapes, n, 3), np.float32),
        packed=np.append(numbers(packed), np.zeros(8, np.float32)),
        face=(np.arange(n) % 9000).astype(np.int32),
        barycentrics=np.full((n, 3), 1 / 3, np.float32),
    )
    made = written(lambda folder: write_rgbavatar_ply(folder / "model.ply", file))
    beside = {"config.yaml": settings_text(settings).encode()}
    return ({**made, **beside, "flame_param.npz": flame_motion()[0]["x.npz"]},)


@cache
def teacher() -> tuple[Files, ...]:
    """An untrained implicit teacher of the embedded human, as small as its checks allow."""
    import torch

    from avatars.relit_field.model import TeacherModel
    from avatars.relit_field.settings import TeacherConfig
    from avatars.relit_field.storage import AboutTeacher, save_teacher
    from avatars.templates.opening import reference_of
    from avatars.training.typed import from_mapping

    values = {
        "fields": {"grid": {"levels": 2, "table_log2": 8, "base": 4}, "width": 8, "start": "sphere"},
        "articulation": {"volume": 8},
        "mesh_resolution": 8,
        "light": {"lobes": 2},
    }
    config = from_mapping(TeacherConfig, values, "teacher")
    model = TeacherModel(config, reference_of("effigy_human", preset="man", view="body"), torch.device("cpu"))
    known: dict[str, Any] = {"step": 1, "size_px": 8, "training": {}, "provenance": {}, "recording": "", "joints": ()}
    about = AboutTeacher(**{name: known.get(name, "x") for name in AboutTeacher.__dataclass_fields__})
    preview = np.zeros((8, 8, 4), np.uint8)
    return (written(lambda folder: save_teacher(folder / "tiny.teacher", model, about, preview)),)
