"""`reenact`: a head in new views, as itself, or driven by another person, into the folders of GaussianAvatars."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from backend.cli_chosen import check_writable, prepare_device
from backend.cli_render_capture import as_bytes, save_picture
from backend.devices import usable_cores
from backend.home import default_home
from backend.options import add_device, add_home
from backend.reenactment import PARTS, Performance, canonical, open_model, own_performances, target_performance
from backend.video import VideoFile
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.rgb_head.reenact import Transfer

FPS = 25.0
"""Of the films, as the original's."""
MESH, TEETH = "renders_mesh", "renders_teeth_mask"
MESH_PICTURES = {"render_mesh": MESH, "render_flame_mask": "renders_flame_mask", "vis_teeth_mask": TEETH}
"""Options -> folders of what is drawn of the avatar's mesh."""


def add_reenact(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "reenact", help="novel views, self-reenactment and cross-identity, with GaussianAvatars' options and folders"
    )
    add = parser.add_argument
    add(
        "-m",
        "--model_path",
        required=True,
        metavar="MODEL",
        help="an avatar, a result folder, GaussianAvatars' model",
    )
    add("-s", "--source_path", default="", metavar="SOURCE", help="the avatar's own recording (default: what it names)")
    add("-t", "--target_path", default="", metavar="TARGET", help="another recording, or a motion, that drives it")
    add("--iteration", type=int, default=-1, help="of GaussianAvatars' model (default: the newest)")
    add("--select_camera_id", default="-1", metavar="K", help="only this camera, by number or name")
    for part in PARTS:
        add(f"--skip_{part}", action="store_true", help=f"leave the {part} pictures out")
    add("--render_mesh", action="store_true", help="also the posed mesh over the pictures")
    add("--render_flame_mask", action="store_true", help="also where the posed mesh is, white on black")
    add("--vis_teeth_mask", action="store_true", help="also where the inside of the mouth is seen, white on black")
    add("--render_cano", action="store_true", help="at rest instead, one picture a camera, into SET_cano")
    add("--cano_openmouth", action="store_true", help="the same with the jaw down, into SET_cano_openmouth")
    add("-r", "--resolution", type=int, default=1, metavar="N", help="divide the sides of the pictures by N")
    background = parser.add_mutually_exclusive_group()
    background.add_argument("-w", "--white_background", action="store_true", help="the default")
    background.add_argument("--black_background", action="store_true")
    add("--output", type=Path, help="instead of MODEL (a library's avatar: output/NAME)")
    add("--no_video", action="store_true", help="pictures only")
    add("--batch", type=int, default=4, help="pictures rendered at once")
    add_home(parser)
    add_device(parser)
    group = parser.add_argument_group("how the target's motion arrives (-t)")
    add = group.add_argument
    add("--raw", action="store_true", help="every number of the target as it is, as the original")
    add("--strength", type=float, default=1.0, help="how much, relative to the target's neutral face (default 1)")
    add("--clip", type=float, default=1.0, help="1 stays within the avatar's training, 0 holds nothing")
    add("--neutral", type=int, metavar="FRAME", help="the target's neutral frame (default: calm ones)")
    add("--smooth", type=float, default=0.0, metavar="HZ", help="One-Euro filter's cutoff for a still head")
    add("--own_cameras", action="store_true", help="film with the camera of -s; focal lengths are made up for")
    parser.set_defaults(run=reenact)


def reenact(arguments: argparse.Namespace) -> int:
    """Render and print each folder."""
    from avatars.captures.opening import open_capture

    console = Console(stderr=True)
    transfer = transfer_of(arguments)
    for name in ("resolution", "batch"):
        if getattr(arguments, name) < 1:
            raise BadConfig(f"--{name} is too small", found=str(getattr(arguments, name)), expected="at least 1")
    device = prepare_device(arguments.device)
    library = (arguments.home or default_home()).expanduser() / "library"
    model = open_model(arguments.model_path, library, arguments.iteration, arguments.output, device)
    source = arguments.source_path or model.capture
    own = open_capture(source) if source else None
    camera = "" if arguments.select_camera_id in ("-1", "") else arguments.select_camera_id
    parts = tuple(part for part in PARTS if not getattr(arguments, f"skip_{part}"))
    if arguments.target_path:
        performance, notes = target_performance(
            model,
            arguments.target_path,
            own,
            transfer,
            parts=parts,
            camera=camera,
            own_cameras=arguments.own_cameras,
            divide=arguments.resolution,
        )
        performances = [performance]
        for note in notes:
            console.print(note, soft_wrap=True, highlight=False)
    elif own is None:
        raise BadConfig(f"{model.title} does not say where its recording is", do="Name it with -s, or a target with -t")
    else:
        performances = own_performances(model, own, parts, camera, arguments.resolution)
    if arguments.render_cano or arguments.cano_openmouth:
        performances = [canonical(one, arguments.cano_openmouth) for one in performances]
    films = not (arguments.no_video or arguments.render_cano or arguments.cano_openmouth)
    if films and importlib.util.find_spec("imageio_ffmpeg") is None:
        console.print("No films: the package imageio-ffmpeg is not installed (pip install 'effigy[video]').")
        films = False
    for performance in performances:
        folder = model.folder / performance.name / f"ours_{model.iteration}"
        write_performance(performance, folder, arguments, device, console, films=films)
        print(folder)
    return 0


def transfer_of(arguments: argparse.Namespace) -> Transfer | None:
    """How the target's motion arrives; None for as it is. Raises BadConfig."""
    from avatars.rgb_head.reenact import Transfer

    for name, most in (("strength", 10.0), ("clip", 100.0), ("smooth", 100.0)):
        value = getattr(arguments, name)
        if not 0 <= value <= most:
            raise BadConfig(f"--{name} is out of range", found=str(value), expected=f"0 to {most:g}")
    given = Transfer(arguments.strength, arguments.clip, arguments.neutral, arguments.smooth)
    if (given != Transfer() or arguments.own_cameras) and not arguments.target_path:
        raise BadConfig("--strength, --clip, --neutral, --smooth and --own_cameras belong to -t, which was not given")
    if arguments.raw:
        if given != Transfer():
            raise BadConfig("--raw takes every number as it is", found="other options that change them")
        return None
    return given


def write_performance(
    performance: Performance,
    folder: Path,
    arguments: argparse.Namespace,
    device: str,
    console: Console,
    *,
    films: bool,
) -> None:
    """renders/, gt/ (if recorded), those of the mesh (if asked for) with %05d.png, and a film of each beside them."""
    from avatars.evaluation.frames import over, render_shots
    from avatars.evaluation.mesh_pictures import MeshPainter

    level = 0.0 if arguments.black_background else 1.0
    meshes = {kind for option, kind in MESH_PICTURES.items() if getattr(arguments, option)}
    painter = MeshPainter(performance.avatar) if meshes else None
    kinds = ["renders", *(["gt"] if performance.images else []), *sorted(meshes)]
    for kind in kinds:
        check_writable(folder / kind)
        for old in (folder / kind).glob("[0-9][0-9][0-9][0-9][0-9].png"):  # of a longer run
            old.unlink()
    shots = performance.shots
    batches = render_shots(performance.avatar, performance.motion, shots, device, arguments.batch)
    count = math.ceil(len(shots) / arguments.batch)
    number = 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=usable_cores()))
        videos = {
            kind: stack.enter_context(VideoFile(folder / f"{kind}.mp4", FPS)) for kind in (kinds if films else ())
        }
        for drawn in track(batches, total=count, description=f"Rendering {performance.name}", console=console):
            saved = []
            for picture in as_bytes(over(drawn, level)):
                shot = shots[number]
                made = {"renders": picture}
                if performance.images:
                    made["gt"] = recorded(performance, number, level)
                if painter is not None:
                    seen = (performance.motion, shot.frame, shot.camera)
                    below = made["gt"] if performance.itself else picture
                    for kind in meshes:
                        made[kind] = painter.over(below, *seen) if kind == MESH else painter.mask(*seen, kind == TEETH)
                for kind, one in made.items():
                    saved.append(pool.submit(save_picture, folder / kind / f"{number:05d}.png", one))
                    if films:
                        videos[kind].add(one)
                number += 1
            for waiting in saved:
                waiting.result()


def recorded(performance: Performance, number: int, level: float) -> NDArray[np.uint8]:
    """The recorded picture [H, W, 3] of one shot over a grey of `level`."""
    assert performance.capture is not None
    camera = performance.shots[number].camera
    rgba = performance.capture.rgba(performance.images[number], (camera.width_px, camera.height_px)).astype(np.float32)
    return (rgba[..., :3] + (255 - rgba[..., 3:]) * level + 0.5).clip(0, 255).astype(np.uint8)
