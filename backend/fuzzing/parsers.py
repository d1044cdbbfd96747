"""The table of everything that reads bytes from strangers, with valid samples of each."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from backend.fuzzing import samples
from backend.fuzzing.large_parsers import LARGE_PARSERS
from backend.fuzzing.runner import Parser
from backend.fuzzing.small_parsers import SMALL_PARSERS
from backend.fuzzing.wire_samples import messages, read_answer, read_parts
from shared.errors import BadCapture, BadConfig


def _only(folder: Path, *suffixes: str) -> Path:
    return next(
        path for path in sorted(folder.rglob("*")) if path.is_file() and (path.suffix in suffixes or not suffixes)
    )


def _capture(folder: Path) -> Any:
    from avatars.captures.opening import open_capture

    capture = open_capture(folder)
    return [capture.rgba(index) for index in range(len(capture.images))]


def _avatar(folder: Path) -> Any:
    from avatars.avatar_folder import describe_avatar, load_avatar, load_preview, read_description

    place = folder / "tiny.avatar"
    describe_avatar(place)
    read_description(place)
    load_preview(place)
    return load_avatar(place)


def _avatar_parts(folder: Path) -> Any:
    """As `load_avatar` reads a folder whose digests are right."""
    from avatars.avatar_folder import loaded_parts, weights_of

    try:
        document = json.loads((folder / "parts.json").read_bytes())
        if not (isinstance(document, dict) and isinstance(document.get("method"), str)):
            raise BadCapture("these are no parts")
        if not all(isinstance(document.get(key), dict) for key in ("template", "model")):
            raise BadCapture("these are no parts")
    except (ValueError, RecursionError) as error:
        raise BadCapture("these are no parts") from error
    return loaded_parts("tiny", document, weights_of(folder / "weights.safetensors", "tiny"), "cpu")


def _checkpoint(folder: Path) -> Any:
    from avatars.training.checkpoint import newest_checkpoint

    return newest_checkpoint(folder)


def _ply(folder: Path) -> Any:
    from avatars.formats.splat_ply import read_splat_ply

    return read_splat_ply(folder / "x.ply")


def _spz(folder: Path) -> Any:
    from avatars.formats.spz import read_spz

    return read_spz(folder / "x.spz")


def _environment(folder: Path) -> Any:
    from avatars.lighting.environment_files import read_environment

    return read_environment(_only(folder))


def _picture(folder: Path) -> Any:
    from avatars.captures.images import has_alpha, read_mask, read_premultiplied

    path = _only(folder)
    if path.suffix == ".npy":
        return read_mask(path, (16, 8))
    has_alpha(path)
    return read_premultiplied(path, (16, 8))


def _pickle(folder: Path) -> Any:
    from avatars.templates.restricted_pickle import read_pickle

    return read_pickle(folder / "x.pkl", error_class=BadCapture)


def _aist(folder: Path) -> Any:
    from avatars.evaluation.novel_poses import pickled_motion

    return pickled_motion(folder / "x.pkl")


def _frame(folder: Path) -> Any:
    from avatars.captures.metrical_frame import read_metrical_frame

    return read_metrical_frame(_only(folder, ".frame"))


def _annots(folder: Path) -> Any:
    from avatars.captures.annots import read_annots

    return read_annots(folder / "zju" / "annots.npy")


def _smpl(folder: Path) -> Any:
    from shared.motions import in_model_axes, read_smpl_motion

    return in_model_axes(read_smpl_motion(folder / "x.npz"))


def _flame_params(folder: Path) -> Any:
    from avatars.formats.flame_params import read_flame_params

    return read_flame_params(folder / "x.npz")


def _motion(folder: Path) -> Any:
    import torch

    from avatars.formats.motions import read_motion
    from avatars.templates.opening import embedded_template
    from avatars.templates.rig import rig_of

    arrays = embedded_template("bust")
    return read_motion(folder / "x.npz", rig_of(arrays, torch.from_numpy(arrays.joints), (0.0,)))


def _driving(folder: Path) -> Any:
    import torch

    from avatars.rgb_head.sources import read_source
    from avatars.templates.opening import embedded_template
    from avatars.templates.rig import rig_of

    arrays = embedded_template("bust")
    return read_source(str(folder / "x.npz"), rig_of(arrays, torch.from_numpy(arrays.joints), (0.0,)))


def _true_surfaces(folder: Path) -> Any:
    from avatars.captures.true_surfaces import read_true_surfaces

    return read_true_surfaces(folder / "surfaces.npz").mesh(0)


def _weight_volume(folder: Path) -> Any:
    from avatars.skinning.weight_volume_files import read_weight_volume

    return read_weight_volume(folder / "x.npz", 2)


def _template(folder: Path) -> Any:
    from shared.template import load_template

    return load_template(folder / "template.npz")


def _camera_path(folder: Path) -> Any:
    from shared.camera_files import read_path

    return read_path((folder / "x.json").read_bytes(), "x.json")


def _mesh(folder: Path) -> Any:
    from shared.mesh_asset import read_mesh

    return read_mesh(folder)


def _body_json(folder: Path) -> Any:
    from avatars.captures.body_files import calibration_json

    return calibration_json(folder / "x.json")


def _body_csv(folder: Path) -> Any:
    from avatars.captures.body_files import calibration_csv

    return calibration_csv(folder / "x.csv")


def _settings(folder: Path) -> Any:
    from avatars.training.config import load_config

    return load_config(str(folder / "x.yaml"))


def _journal(folder: Path) -> Any:
    from backend.jobs import Journal

    return Journal(folder / "journal.jsonl")


def _clothed(folder: Path) -> Any:
    from avatars.skinning.clothed import read_mesh_ply

    return read_mesh_ply(folder / "x.ply")


def _weights(folder: Path) -> Any:
    from avatars.text_edit.gates import read_weights

    return read_weights(_only(folder))


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        one.name: one
        for one in (
            Parser("wire", messages, parse=read_parts),
            Parser("wire_answers", messages, parse=read_answer),
            Parser("avatar", samples.avatar_folder, _avatar, sealed=True),
            Parser("avatar_parts", samples.avatar_parts, _avatar_parts),
            Parser("checkpoint", samples.checkpoint, _checkpoint, sealed=True),
            Parser("capture", samples.effigy_capture, _capture),
            Parser("pictures", samples.pictures, _picture),
            Parser("environment", samples.environments, _environment),
            Parser("ply", samples.splats, _ply, damaged=("x.ply",)),
            Parser("spz", samples.splats, _spz, damaged=("x.spz",)),
            Parser("mesh", samples.mesh_folder, _mesh),
            Parser("mesh_ply", samples.clothed_mesh, _clothed),
            Parser("pickle", samples.pickles, _pickle),
            Parser("pickled_motion", samples.aist, _aist),
            Parser("tracker_frame", samples.frames, _frame),
            Parser("annots", samples.annots, _annots),
            Parser("smpl_motion", samples.smpl_motions, _smpl),
            Parser("flame_params", samples.flame_motion, _flame_params),
            Parser("motion", samples.our_motion, _motion),
            Parser("driving", lambda: samples.our_motion() + samples.flame_motion(), _driving),
            Parser("true_surfaces", samples.true_surfaces, _true_surfaces),
            Parser("weight_volume", samples.weight_volume, _weight_volume),
            Parser("template", samples.template, _template),
            Parser("camera_path", samples.camera_paths, _camera_path),
            Parser("body_calibration", samples.body_cameras, _body_json, damaged=("x.json",)),
            Parser("body_cameras", samples.body_cameras, _body_csv, damaged=("x.csv",)),
            Parser("settings", samples.settings, _settings),
            Parser("journal", samples.journal, _journal),
            Parser("painted_weights", lambda: ({"x.npy": samples.npy(samples.numbers(9))},), _weights),
            *SMALL_PARSERS,
            *LARGE_PARSERS,
        )
    }
)
"""What is fuzzed, by name."""


def table(module: str) -> Mapping[str, Parser]:
    """The parsers of a module that has a PARSERS like this one's, this one's for ''. Raises BadConfig."""
    if not module:
        return PARSERS
    try:
        found: Mapping[str, Parser] = importlib.import_module(module).PARSERS
    except (ImportError, AttributeError) as error:
        raise BadConfig(f"{module} holds no table of parsers", found=str(error), expected="PARSERS") from error
    return found
