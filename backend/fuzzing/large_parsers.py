"""Whole recordings of other projects, body and head models, videos and avatars of others: the larger readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backend.fuzzing import capture_samples as captures
from backend.fuzzing import model_samples as models
from backend.fuzzing.runner import Parser
from backend.fuzzing.samples import body_motion, smpl_motions
from shared.errors import BadCapture


def _capture(folder: Path) -> Any:
    """Open it, and look at the first picture and its truths."""
    from avatars.captures.opening import open_capture

    with models.flame_installed():
        capture = open_capture(folder)
        return capture.rgba(0), capture.train_size(8)


def _own_capture(folder: Path) -> Any:
    from avatars.captures.opening import open_capture

    return open_capture(folder).rgba(0)


def _raw(folder: Path) -> Any:
    from avatars.captures.peoplesnapshot_raw import convert

    return convert(folder, folder / "out")


def _flame(folder: Path) -> Any:
    from avatars.templates.flame import read_flame

    lids = folder / "l_eyelid.npy", folder / "l_eyelid.npy"
    made = read_flame(folder / "flame2023.pkl", uv=folder / "flame_uv.npz", eyelids=lids)
    return made, read_flame(folder / "flame2023.pkl", uv=folder / "head_template_mesh.obj", teeth="none")


def _flame_uv(folder: Path) -> Any:
    """The files beside the model, which are read on their own first."""
    from avatars.templates.flame import FACES, VERTICES, read_uv

    first = np.arange(FACES) % (VERTICES - 2)
    faces = np.stack((first, first + 1, first + 2), 1)
    return [read_uv(folder / name, faces) for name in ("flame_uv.npz", "head_template_mesh.obj")]


def _body(folder: Path) -> Any:
    from avatars.templates.body_models import read_body_model

    return read_body_model(next(folder.iterdir()), kinds=models.body_kinds())


def _imported(folder: Path) -> Any:
    from avatars.formats.importing import import_avatar

    with models.flame_installed():
        source = folder / "model.ply"
        return import_avatar(source if source.exists() else next(folder.rglob("point_cloud.ply")))


def _teacher(folder: Path) -> Any:
    from avatars.relit_field.storage import open_teacher

    return open_teacher(folder / "tiny.teacher")


def _video(folder: Path) -> Any:
    from backend.clip_source import open_clip

    clip = open_clip(next(folder.glob("x.*")))
    shown = [picture.shape for _, picture in clip.pictures_from()]
    if not shown:
        raise BadCapture("the video has no picture that can be read")
    return shown


def _clip(folder: Path) -> Any:
    from backend.clip_source import open_clip

    return list(open_clip(folder).pictures_from())


def _novel_poses(folder: Path) -> Any:
    import torch

    from avatars.evaluation.novel_poses import read_novel_poses
    from avatars.templates.opening import embedded_template, reference_of
    from avatars.templates.rig import rig_of

    arrays = embedded_template("body")
    rig = rig_of(arrays, torch.from_numpy(arrays.joints), (0.0,))
    return read_novel_poses(str(folder / "x.npz"), rig, reference_of("effigy_human", view="body"))


LARGE_PARSERS = (
    Parser("peoplesnapshot", captures.peoplesnapshot, _own_capture),
    Parser("peoplesnapshot_raw", captures.raw_peoplesnapshot, _raw),
    Parser("rana", captures.rana, _own_capture),
    Parser("selfrecon", captures.selfrecon, _own_capture),
    Parser("zju_mocap", captures.zju, _own_capture),
    Parser("body_set", captures.body_set, _own_capture),
    Parser("nersemble", captures.nersemble, _capture),
    Parser("insta", captures.insta, _capture),
    Parser("video", captures.videos, _video),
    Parser("picture_folder", captures.clip_folder, _clip),
    Parser("novel_poses", lambda: smpl_motions() + body_motion(), _novel_poses),
    Parser("flame_model", models.flame, _flame, damaged=("flame2023.pkl", "l_eyelid.npy")),
    Parser("flame_uv", models.flame, _flame_uv, damaged=("flame_uv.npz", "head_template_mesh.obj")),
    Parser("body_model", models.body_models, _body),
    Parser("gaussian_avatars", models.gaussian_avatars, _imported),
    Parser("rgbavatar", models.rgbavatar, _imported),
    Parser("teacher", models.teacher, _teacher),
)
"""In the order of the table."""
