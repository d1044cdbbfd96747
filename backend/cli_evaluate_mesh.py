"""`evaluate-mesh`: how near a surface is to the true one."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backend.cli_evaluate_posed import add_posed_options, evaluate_posed, is_posed
from shared.errors import BadConfig

ENDINGS = (".ply", ".obj", ".off", ".stl", ".glb")
MAX_BYTES, MAX_FACES = 2 << 30, 20_000_000
WORST_M = 0.02
"""Distance that is drawn in the strongest colour."""


def add_evaluate_mesh(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate-mesh",
        help="chamfer distance, normals and points to surface of a mesh against the true one",
        description="Both are files (.ply, .obj, .off, .stl, .glb) in metres, in the same place and pose, or folders "
        "that 'effigy mesh' or a teacher left (NAME.teacher). Or an avatar and a capture with true surfaces, such as "
        "demo_body: its surface is measured in every pose that has one. Nothing is aligned.",
    )
    parser.add_argument("mesh", type=Path, help="the surface that was made, or an avatar (id or NAME.avatar)")
    parser.add_argument("truth", type=Path, help="the true surface, or a capture (name or folder)")
    parser.add_argument("--samples", type=int, default=100_000, help="points spread over each (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="of the points")
    parser.add_argument(
        "--output", type=Path, help="folder for metrics.json and distances.ply, the mesh coloured by error"
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")
    add_posed_options(parser)
    parser.set_defaults(run=evaluate_mesh_command)


def evaluate_mesh_command(arguments: argparse.Namespace) -> int:
    """Measure, print, and leave what can be looked at."""
    from avatars.surface.metrics import compare_surfaces

    if is_posed(arguments):
        return evaluate_posed(arguments)
    found, truth = read_triangles(arguments.mesh), read_triangles(arguments.truth)
    spans = [float(np.ptp(mesh[0], axis=0).max()) for mesh in (found, truth)]
    ratio = max(spans) / max(min(spans), 1e-9)
    if ratio > 100:
        raise BadConfig(
            "the two meshes are in different units, it seems",
            found=f"{spans[0]:.3g} and {spans[1]:.3g} across",
            expected="metres in both",
            do="Scale the one in millimetres by 0.001",
        )
    metrics = compare_surfaces(found, truth, arguments.samples, arguments.seed)
    if arguments.output is not None:
        write_distances(arguments.output.expanduser(), found, truth, metrics.as_json())
    if arguments.json:
        print(json.dumps(metrics.as_json(), indent=1))
        return 0
    table = Table("measure", "value")
    for name, value in (
        ("chamfer distance", f"{metrics.chamfer_m * 1000:.3f} mm"),
        ("mesh to truth", f"{metrics.accuracy_m * 1000:.3f} mm"),
        ("truth to mesh", f"{metrics.completeness_m * 1000:.3f} mm"),
        ("farthest", f"{metrics.farthest_m * 1000:.2f} mm"),
        ("normal error", f"{metrics.normal_error_deg:.2f} degrees of triangles"),
        ("", f"{metrics.shaded_error_deg:.2f} degrees as shaded"),
        ("normal consistency", f"{metrics.normal_consistency:.4f}"),
        ("within 2, 5, 10 mm", ", ".join(f"{share:.1%}" for share in metrics.within)),
        ("ARAH's chamfer, normals", f"{metrics.arah_chamfer_cm2:.4f} cm², {metrics.arah_normals:.4f}"),
    ):
        table.add_row(name, value)
    Console().print(table)
    return 0


def read_triangles(path: Path) -> tuple[Any, Any]:
    """Vertices [V, 3] and triangles [F, 3] of a file or folder. Raises BadConfig, BadAvatar."""
    from shared.mesh_asset import is_mesh_folder, read_mesh

    path = path.expanduser()
    if path.is_dir() and is_mesh_folder(path):
        asset = read_mesh(path)
        return asset.mesh.vertices.astype(np.float64), asset.mesh.faces[:, :3].astype(np.int64)
    if path.is_dir() and (path / "mesh.ply").is_file():
        path = path / "mesh.ply"
    if not path.is_file() or path.suffix.lower() not in ENDINGS:
        raise BadConfig(f"there is no mesh in {path}", expected=f"a file ({', '.join(ENDINGS)}) or a mesh folder")
    if path.stat().st_size > MAX_BYTES:
        raise BadConfig(f"{path.name} is too large", found=f"{path.stat().st_size} bytes", expected=f"{MAX_BYTES}")
    import trimesh

    from avatars.skinning.clothed import DAMAGE

    try:  # from memory: a path would let the file name others, textures and materials, to be read along
        content, kind = io.BytesIO(path.read_bytes()), path.suffix.lower().removeprefix(".")
        mesh: Any = trimesh.load(content, file_type=kind, force="mesh", process=False, skip_materials=True)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except DAMAGE as error:
        raise BadConfig(f"{path.name} is no intact mesh", found=str(error)[:120], do="Write it again") from error
    if vertices.ndim != 2 or not 0 < len(faces) <= MAX_FACES:
        raise BadConfig(f"{path.name} has no triangles", found=f"{len(faces)} faces")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise BadConfig(f"faces of {path.name} point outside its vertices, or those are not finite")
    return vertices, faces


def write_distances(folder: Path, found: Any, truth: Any, document: dict[str, Any]) -> None:
    """metrics.json, and distances.ply: white where the mesh is on the truth, red from 20 mm on. Raises BadConfig."""
    import trimesh

    from avatars.files import write_atomically
    from avatars.surface.metrics import distances_to

    folder.mkdir(parents=True, exist_ok=True)
    share = np.clip(distances_to(found[0], truth) / WORST_M, 0, 1)[:, None]
    colours = ((1 - share) * (1.0, 1.0, 1.0) + share * (0.8, 0.05, 0.05)) * 255
    vertices, faces = found
    mesh: Any = trimesh.Trimesh(vertices, faces, vertex_colors=colours.astype(np.uint8), process=False)
    write_atomically(folder / "distances.ply", mesh.export(file_type="ply"))
    write_atomically(folder / "metrics.json", (json.dumps(document, indent=1) + "\n").encode())
