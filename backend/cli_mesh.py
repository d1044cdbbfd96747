"""`mesh`: a person as an ordinary rigged, textured mesh, for Blender and from there for any other program."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import prepare_device
from backend.meshes import INNER, mesh_place, write_mesh
from backend.options import add_device, add_home


def add_mesh(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "mesh",
        help="a person as a rigged, textured mesh for Blender",
        description="Makes the surface of a relightable teacher (NAME.teacher) or of an avatar lighter, unwraps it, "
        "paints colour, roughness, metallic and normals, and gives it the template's joints, weights and expressions. "
        "Bring the folder into Blender with Export > Import Mesh in the sidebar.",
    )
    parser.add_argument("source", metavar="SOURCE", help="an id of the library, a NAME.avatar or a NAME.teacher folder")
    parser.add_argument("--output", type=Path, help=f"folder to write (default: {INNER}/ in the source's folder)")
    parser.add_argument(
        "--faces", type=int, default=60_000, help="at most about so many triangles; 0 keeps all (60000)"
    )
    parser.add_argument(
        "--texture", type=int, default=0, metavar="PX", help="side of the textures (default: 2048, 1024 of Gaussians)"
    )
    parser.add_argument(
        "--normals",
        choices=("mesh", "field"),
        default="mesh",
        help="of a signed-distance body, painted over its mesh: the trained mesh's own, where the export is lighter "
        "than it (default), or those of the distance field it was made of. A teacher's are always its field's",
    )
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=mesh_command)


def mesh_command(arguments: argparse.Namespace) -> int:
    """Make it, and print where it is and what it has."""
    from avatars.surface.asset import MeshSettings, check_mesh_settings

    settings = MeshSettings(arguments.faces, arguments.texture)
    check_mesh_settings(settings)
    folder = mesh_place(arguments.source, arguments.home)
    output = (arguments.output or folder / INNER).expanduser()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Opening", total=None)
        asset = write_mesh(
            folder,
            output,
            settings,
            prepare_device(arguments.device),
            lambda what, done, of: bar.update(task, description=what, completed=done, total=of),
            field_normals=arguments.normals == "field",
        )
    kinds, px = ", ".join(asset.textures), asset.provenance["texture_px"]
    print(f"{len(asset.mesh.faces)} faces, {len(asset.mesh.vertices)} vertices, {kinds} at {px} px")
    print(output)
    return 0
