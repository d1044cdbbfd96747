"""`template`: the parametric heads at hand, and adding one from files of the user's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from avatars.templates.body_models import GENDERS, is_body_file, read_body_model
from avatars.templates.body_models import LICENCE as BODY_LICENCE
from avatars.templates.flame import EYELID_NAMES as EYELIDS
from avatars.templates.flame import LICENCE, VERSIONS, flame_version, read_flame
from avatars.templates.flame_teeth import TEETH_KINDS, TeethKind
from avatars.templates.installed import install, remove
from avatars.templates.opening import installed_templates
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
    for action in (adding, listing, removing):
        action.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")


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


def run_list(arguments: argparse.Namespace) -> int:
    """A table of ids and what they are."""
    found = installed_templates()
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    table = Table("id", "what it is")
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
