"""`extract-geometry`: the surface of a trained body, canonical or posed frame by frame, as HF-Avatar's script does."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import check_writable, prepare_device, trained_from
from backend.home import default_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.surface_body.inference import FieldMesh

MOST = 2048


def add_extract_geometry(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "extract-geometry",
        help="the surface of a signed-distance body at any resolution, canonical or posed",
        description="Marching cubes near the surface only. canonical: one mesh in the star pose. posed: the person "
        "in frames of a capture, an OBJ or PLY and an .npz for each with the original's keys (vertices, triangles in "
        "the body's own axes, E, K, camera_e, rh, th, hit_mask, alpha_mask, H, W; world = rh.T @ v + th) and a picture "
        "of its normals. --texture and --rig leave a mesh/ folder as 'effigy mesh' does.",
    )
    parser.add_argument("avatar", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    parser.add_argument("--resolution", type=int, default=512, help="cells along the longest side (default: 512)")
    parser.add_argument("--mcthreshold", type=float, default=0.0, metavar="M", help="distance of the surface, m (0)")
    parser.add_argument("--space", choices=("canonical", "posed"), default="canonical", help="default: canonical")
    parser.add_argument(
        "--posed",
        choices=("mesh", "field"),
        default="mesh",
        help="with --space posed: the canonical mesh skinned, so that all frames have its triangles (default), or the "
        "field marched anew in each pose as the original does, where touching parts are one surface",
    )
    parser.add_argument("--n_frames", "--n-frames", type=int, default=-1, help="with posed: so many frames (-1: all)")
    parser.add_argument(
        "--mode", choices=("val", "nvs", "unseen", "odp"), default="val", help="with posed: which frames"
    )
    parser.add_argument("--novel_pose", "--novel-pose", metavar="FILE|FOLDER", help="with --mode odp: the motion")
    parser.add_argument("--view", type=int, default=-1, help="with posed: the camera that is written along (-1: usual)")
    parser.add_argument("--capture", help="with posed: a capture (default: the one it was trained from, if it ships)")
    parser.add_argument("--texture", type=int, nargs="?", const=2048, metavar="PX", help="write mesh/ with textures")
    parser.add_argument("--rig", action="store_true", help="write mesh/ with armature weights, for Blender")
    parser.add_argument(
        "--faces", type=int, default=60_000, help="with --texture or --rig: at most about so many; 0 all"
    )
    parser.add_argument("--format", choices=("obj", "ply"), default="obj", help="of the files (default: obj)")
    parser.add_argument("--close", action="store_true", help="close a body that leaves the box instead of refusing it")
    parser.add_argument("--output", type=Path, help="folder (default: ./NAME_geometry)")
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=extract_geometry)


def extract_geometry(arguments: argparse.Namespace) -> int:
    """Extract, write, tell how long it took."""
    from avatars.avatar_folder import load_avatar
    from avatars.surface_body.inference import field_mesh, field_of
    from avatars.surface_body.mesh_files import write_mesh_file

    _check(arguments)
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    folder = Library(library).path(avatar_id)
    device = prepare_device(arguments.device)
    avatar = load_avatar(folder, device)
    model = field_of(avatar, device)
    output = (arguments.output or Path(f"{folder.stem}_geometry")).expanduser()
    check_writable(output)
    begun, marched = time.perf_counter(), arguments.space == "posed" and arguments.posed == "field"
    if not marched or arguments.texture is not None or arguments.rig:
        found = field_mesh(model, arguments.resolution, arguments.mcthreshold, _at_box(arguments))
        _tell(arguments, found, time.perf_counter() - begun)
    if arguments.space == "canonical":
        write_mesh_file(output / f"canonical.{arguments.format}", found.vertices, found.faces, found.colours)
    else:
        _posed(arguments, folder, avatar, model, None if marched else found, output)
    if arguments.texture is not None or arguments.rig:
        _rigged(arguments, avatar, model, found, output, folder.stem)
    print(output)
    return 0


def _at_box(arguments: argparse.Namespace) -> str:
    return "close" if arguments.close else "refuse"


def _tell(arguments: argparse.Namespace, found: FieldMesh, seconds: float) -> None:
    print(
        f"{len(found.faces)} faces, {len(found.vertices)} vertices at {arguments.resolution}: {seconds:.1f} s, "
        f"{found.evaluations / 1e6:.1f} million distances"
    )


def _check(arguments: argparse.Namespace) -> None:
    if not 16 <= arguments.resolution <= MOST:
        raise BadConfig("--resolution is out of range", found=str(arguments.resolution), expected=f"16 to {MOST}")
    if not abs(arguments.mcthreshold) <= 0.2:
        raise BadConfig(
            "--mcthreshold is no distance near a body", found=f"{arguments.mcthreshold:g} m", expected="-0.2 to 0.2"
        )
    if arguments.n_frames < -1 or arguments.n_frames == 0:
        raise BadConfig(
            "--n_frames is out of range", found=str(arguments.n_frames), expected="at least 1, or -1 for all"
        )
    if (arguments.mode == "odp") != (arguments.novel_pose is not None):
        raise BadConfig("--mode odp and --novel_pose belong together", do="Give both or none")


def _posed(
    arguments: argparse.Namespace, folder: Path, avatar: Any, model: Any, found: FieldMesh | None, output: Path
) -> None:
    from avatars.captures.opening import open_capture
    from avatars.evaluation.frame_lists import check_view, frame_views, frames_of, views_of
    from avatars.evaluation.frames import check_same_rig
    from avatars.evaluation.novel_poses import read_novel_poses
    from avatars.evaluation.posed_surfaces import batch_of
    from avatars.surface_body.mesh_files import write_posed_frame
    from avatars.surface_body.posed_mesh import posed_field_mesh

    capture = open_capture(arguments.capture or trained_from(folder))
    check_same_rig(avatar, capture)
    view = arguments.view if arguments.view >= 0 else views_of(capture, "nvs")[0]
    check_view(capture, view)
    if arguments.mode == "odp":
        motion = read_novel_poses(arguments.novel_pose, avatar.rig(), avatar.template()).motion
        frames = list(range(len(motion)))
    else:
        motion = capture.motion
        frames = list(dict.fromkeys(item.frame for item in frame_views(capture, arguments.mode, view)))
        frames = frames or list(frames_of(capture, "nvs"))
    frames = frames if arguments.n_frames == -1 else frames[: arguments.n_frames]
    rest_root = model.body.person.joints[0].cpu().numpy()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for frame in progress.track(frames, description="Posing"):
            pose = motion.at(frame)
            batch, mesh, begun = batch_of(pose, model.device), found, time.perf_counter()
            if mesh is None:
                mesh, vertices = posed_field_mesh(
                    model, batch, arguments.resolution, arguments.mcthreshold, _at_box(arguments)
                )
                if frame == frames[0]:
                    _tell(arguments, mesh, time.perf_counter() - begun)
            else:
                vertices = mesh.posed(model, *batch)
            write_posed_frame(
                output / "meshes" / f"view{view}_frame{frame:06d}",
                vertices,
                mesh,
                pose,
                rest_root,
                capture.cameras[view],
                arguments.format,
            )
    print(f"{len(frames)} frames posed, seen by view {view}")


def _rigged(arguments: argparse.Namespace, avatar: Any, model: Any, found: FieldMesh, output: Path, name: str) -> None:
    from avatars.surface.asset import MeshSettings, check_mesh_settings, make_mesh, save_mesh
    from avatars.surface.sources import with_surface
    from avatars.surface_body.inference import field_normals

    settings = MeshSettings(arguments.faces, arguments.texture or 1024)
    check_mesh_settings(settings)
    source = with_surface(avatar.mesh_source(field_normals(model)), found.vertices, found.faces)
    asset, textures = make_mesh(source, settings, name)
    save_mesh(output / "mesh", asset, textures)
    print(f"mesh/: {len(asset.mesh.faces)} faces, textures of {asset.provenance['texture_px']} px")
