"""`template`: the parametric heads at hand, and adding one from files of the user's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from avatars.skinning.weight_volume import RESOLUTION, harmonic_volume
from avatars.skinning.weight_volume_files import read_weight_volume, write_weight_volume
from avatars.templates.big_pose import big_pose, surface_triangles
from avatars.templates.body_models import GENDERS, is_body_file, read_body_model
from avatars.templates.body_models import LICENCE as BODY_LICENCE
from avatars.templates.flame import EYELID_NAMES as EYELIDS
from avatars.templates.flame import LICENCE, VERSIONS, flame_version, read_flame
from avatars.templates.flame_teeth import TEETH_KINDS, TeethKind
from avatars.templates.installed import install, remove
from avatars.templates.opening import installed_templates, reference_of
from backend.options import add_home
from backend.tables import folding_table
from shared.errors import BadTemplate
from shared.template import TemplateArrays

UV_NAMES, EYELID_NAMES = ("flame_uv.npz", "head_template_mesh.obj"), ("l_eyelid.npy", "r_eyelid.npy")


def add_template(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("template", help="list templates, or add FLAME, SMPL-X or SMPL from your own files")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="convert a model once and keep it")
    adding.add_argument(
        "model", type=Path, help="generic_model.pkl (FLAME 2020), flame2023.pkl, SMPLX_NEUTRAL.npz or an SMPL .pkl"
    )
    adding.add_argument("--uv", type=Path, help=f"UV layout: {' or '.join(UV_NAMES)} (default: beside the model)")
    adding.add_argument(
        "--eyelids",
        type=Path,
        nargs=2,
        metavar=("LEFT", "RIGHT"),
        help="l_eyelid.npy r_eyelid.npy (default: beside the model)",
    )
    adding.add_argument("--no-eyelids", action="store_true", help="leave eyelids out even if they lie beside the model")
    adding.add_argument(
        "--teeth", choices=TEETH_KINDS, help="teeth to add (default: rgbavatar for 2020, gaussian_avatars for 2023)"
    )
    adding.add_argument("--version", choices=VERSIONS, default="", help="which FLAME, where the name does not say it")
    adding.add_argument(
        "--gender", choices=GENDERS, default="", help="of SMPL-X or SMPL, where the name does not say it"
    )
    adding.add_argument("--replace", action="store_true", help="replace another template of the same id")
    adding.set_defaults(run=run_add)
    listing = actions.add_parser("list", help="the templates at hand")
    listing.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    listing.set_defaults(run=run_list)
    removing = actions.add_parser("remove", help="delete a template that was added")
    removing.add_argument("id", help="its id")
    removing.set_defaults(run=run_remove)
    weighing = actions.add_parser("weights", help="a body's skinning weights as a volume (lbs_weights_grid.npz)")
    weighing.add_argument("id", help="template of a whole body")
    weighing.add_argument("--preset", default="", help="person of Effigy's own template")
    what = weighing.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="file to write")
    what.add_argument("--check", type=Path, help="file of MMLPHuman or AnimatableGaussians to compare with the body")
    weighing.add_argument("--resolution", type=int, default=RESOLUTION, help=f"voxels a side (default {RESOLUTION})")
    weighing.set_defaults(run=run_weights)
    for action in (adding, listing, removing, weighing):
        add_home(action)


def run_add(arguments: argparse.Namespace) -> int:
    """Convert, store, and say under which id."""
    model: Path = arguments.model
    version = arguments.version or flame_version(model)
    teeth: TeethKind = arguments.teeth or ("gaussian_avatars" if version == "2023" else "rgbavatar")
    if not model.is_file():
        raise BadTemplate(f"there is no file {model}", expected="generic_model.pkl, flame2023.pkl or SMPLX_NEUTRAL.npz")
    if is_body_file(model):
        return _added(read_body_model(model, gender=arguments.gender), "", BODY_LICENCE, replace=arguments.replace)
    uv = arguments.uv or next((path for path in (model.parent / name for name in UV_NAMES) if path.is_file()), None)
    eyelids = (arguments.eyelids[0], arguments.eyelids[1]) if arguments.eyelids else None
    if eyelids is None and teeth != "gaussian_avatars":  # that project's data has none
        eyelids = _eyelids_beside(model)
    if arguments.no_eyelids:
        eyelids = None
    arrays = read_flame(model, uv=uv, eyelids=eyelids, teeth=teeth, version=version)
    lids = "with eyelids" if EYELIDS[0] in arrays.expression_names else "no eyelids"
    return _added(arrays, f"; UV from {uv}, {lids}", LICENCE, replace=arguments.replace)


def _added(arrays: TemplateArrays, more: str, licence: str, *, replace: bool) -> int:
    path = install(arrays, replace=replace)
    print(f"Added {arrays.template_id} ({installed_templates()[arrays.template_id]}{more}) as {path}.")
    print(f"{licence}; avatars made with it are bound by that, too.")
    return 0


def run_weights(arguments: argparse.Namespace) -> int:
    """Write the volume of a body in the canonical pose, or say how far a file's weights are from the body's own."""
    arrays = reference_of(arguments.id, preset=arguments.preset, view="body").open()
    canonical = big_pose(arrays, preset=arguments.preset)
    triangles = surface_triangles(arrays)
    skin = np.unique(triangles)
    vertices, weights = canonical.vertices[skin], arrays.weights[skin]
    if arguments.output is not None:
        volume = harmonic_volume(canonical.vertices, triangles, arrays.weights, resolution=arguments.resolution)
        write_weight_volume(arguments.output, volume)
    else:
        joints = len(arrays.joint_names)
        volume = read_weight_volume(arguments.check, joints, vertices=vertices, weights=weights)
    away = np.abs(volume.at(vertices) - weights).sum(1)
    voxel_mm = 1000 * float((volume.high - volume.low)[0]) / (volume.grid.shape[0] - 1)
    print(
        f"{'Wrote' if arguments.output else 'Read'} {arguments.output or arguments.check}: "
        f"{' x '.join(map(str, volume.grid.shape[:3]))} voxels of {voxel_mm:.1f} mm, {volume.grid.shape[3]} joints; "
        f"weights at the skin differ from the body's own by {away.mean():.3f} on average (sum over joints, 2 at most)."
    )
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A table of ids and what they are."""
    found = installed_templates()
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    table = folding_table("id", "what it is")
    for name, text in found.items():
        table.add_row(name, text)
    Console().print(table)
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Delete one."""
    print(f"Removed {remove(arguments.id)}.")
    return 0


def _eyelids_beside(model: Path) -> tuple[Path, Path] | None:
    left, right = (model.parent / name for name in EYELID_NAMES)
    return (left, right) if left.is_file() and right.is_file() else None
