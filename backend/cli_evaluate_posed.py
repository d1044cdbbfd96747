"""`evaluate-mesh AVATAR CAPTURE`: an avatar's surface against the true one, in poses that were recorded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from backend.options import add_device, add_home
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.evaluation.posed_surfaces import PosedSurface


def add_posed_options(parser: argparse.ArgumentParser) -> None:
    """Options of the posed comparison."""
    group = parser.add_argument_group("an avatar in the poses of a capture: evaluate-mesh AVATAR CAPTURE")
    group.add_argument("--frames", type=int, nargs="+", help="these frames (default: all with a true surface)")
    group.add_argument("--truth-folder", type=Path, metavar="FOLDER", help="numbered meshes, one for a frame")
    group.add_argument("--first", type=int, default=0, help="number of frame 0's file in --truth-folder (ARAH: 1)")
    group.add_argument(
        "--resolution",
        type=int,
        help="surface_body: its field's surface at this resolution (default: its trained mesh)",
    )
    add_home(group)
    add_device(group)


def is_posed(arguments: argparse.Namespace) -> bool:
    """Whether the two things named are an avatar and a capture rather than two meshes."""
    from avatars.captures.embedded import embedded_captures
    from avatars.captures.opening import layout_of

    truth = str(arguments.truth)
    folder = Path(truth).expanduser()
    return truth in embedded_captures() or (folder.is_dir() and bool(layout_of(folder)))


def evaluate_posed(arguments: argparse.Namespace) -> int:
    """Measure in every frame with a truth, print the means, leave geometry.json and geometry.png."""
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture
    from avatars.evaluation.frames import check_same_rig
    from avatars.evaluation.geometry import geometry_means, measure_geometry, mesh_folder, truth_of, write_geometry
    from backend.cli_chosen import prepare_device
    from backend.cli_evaluate_mesh import read_triangles
    from backend.home import default_home
    from backend.library import Library, avatar_place

    library, avatar_id = avatar_place(str(arguments.mesh), (arguments.home or default_home()).expanduser() / "library")
    device = prepare_device(arguments.device)
    avatar, capture = load_avatar(Library(library).path(avatar_id), device), open_capture(str(arguments.truth))
    check_same_rig(avatar, capture)
    if arguments.truth_folder is None:
        truth: Any = truth_of(capture)
    else:
        truth = mesh_folder(arguments.truth_folder.expanduser(), read_triangles, arguments.first)
    surface, kind = surface_to_measure(avatar, arguments.resolution, device)
    frames = tuple(arguments.frames or truth.frames)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Measuring {avatar_id}", total=len(frames))
        rows = measure_geometry(
            surface, capture, truth, frames, arguments.samples, lambda done: progress.update(task, completed=done)
        )
    if arguments.output is not None:
        write_geometry(arguments.output.expanduser(), surface, capture, truth, rows, kind)
    means = geometry_means(rows)
    if arguments.json:
        print(json.dumps({"surface": kind, "means": means}, indent=1))
        return 0
    print(f"{avatar_id} ({kind}) in {len(rows)} frames of {capture.name}")
    Console().print(geometry_table(means))
    return 0


def surface_to_measure(avatar: Any, resolution: int | None, device: str) -> tuple[PosedSurface, str]:
    """The avatar's own surface, or its field's at a resolution, with words for it. Raises BadAvatar, BadConfig."""
    from avatars.evaluation.posed_surfaces import batch_of, surface_of

    if resolution is None:
        return surface_of(avatar)
    if resolution < 16:
        raise BadConfig("--resolution is too small", found=str(resolution), expected="at least 16")
    from avatars.surface_body.inference import field_mesh, field_of

    model = field_of(avatar, device)
    found = field_mesh(model, resolution, at_box="close")
    return lambda pose: (found.posed(model, *batch_of(pose, device)), found.faces), f"field at {resolution}"


def geometry_table(means: Any) -> Table:
    """Means by part, in millimetres and degrees."""
    table = Table("poses", "chamfer", "to truth", "from truth", "normal error", "as shaded", "consistency")
    for name, one in means.items():
        lengths = [f"{one[key] * 1000:.2f} mm" for key in ("chamfer_m", "accuracy_m", "completeness_m")]
        turned = [f"{one[key]:.1f} deg" for key in ("normal_error_deg", "shaded_error_deg")]
        table.add_row(name, *lengths, *turned, f"{one['normal_consistency']:.4f}")
    return table
