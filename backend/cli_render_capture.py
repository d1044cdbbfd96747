"""`render` through a capture's own cameras: the recorded person again (self-reenactment), or driven by another."""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from backend.checks import MAX_SIDE_PX
from backend.cli_chosen import check_writable, chosen, open_chosen, prepare_device
from backend.devices import usable_cores
from backend.video import check_video, video_or_none
from shared.errors import BadConfig, EnvironmentFailed
from shared.types import Camera, Motion

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.evaluation.frames import Shot
    from avatars.rgb_head.reenact import Reenactment, Transfer

FOLDER = "render_image"
ORBIT_PERIOD = 100


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how another person's motion arrives."""
    group = parser.add_argument_group("driven by another person (--motion)")
    group.add_argument("--motion", help="a capture (name or folder), a FLAME track (flame_param.npz), or our .npz")
    group.add_argument("--strength", type=float, help="how much of the source's expressions and turns (default 1)")
    group.add_argument(
        "--clip", type=float, help="1 stays within the avatar's training, 1.5 half as far beyond, 0 holds nothing"
    )
    group.add_argument("--neutral", type=int, metavar="FRAME", help="the source's neutral frame (default: calm ones)")
    group.add_argument(
        "--source-camera", metavar="NAME", help="the source's camera (default: --camera, or the frontal)"
    )
    group.add_argument("--smooth", type=float, metavar="HZ", help="One-Euro filter's cutoff for a still head")


def transfer_of(arguments: argparse.Namespace) -> Transfer | None:
    """The transfer that the options ask for; None where none was given. Raises BadConfig."""
    from avatars.rgb_head.reenact import Transfer

    for name, most in (("strength", 10.0), ("clip", 100.0), ("smooth", 100.0)):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= most:
            raise BadConfig(f"--{name} is out of range", found=str(value), expected=f"0 to {most:g}")
    given = (arguments.strength, arguments.clip, arguments.neutral, arguments.smooth)
    if all(value is None for value in given):
        return None
    if arguments.motion is None:
        raise BadConfig("--strength, --clip, --neutral and --smooth belong to --motion, which was not given")
    strength, clip, neutral, smooth = given
    return Transfer(1.0 if strength is None else strength, 1.0 if clip is None else clip, neutral, smooth or 0.0)


def driven_by(
    arguments: argparse.Namespace, avatar: Any, transfer: Transfer | None, camera: Camera | None, console: Console
) -> Reenactment:
    """The avatar's motion for a source, with a line for each thing that could not be carried over."""
    from avatars.rgb_head.reenact import reenacted
    from avatars.rgb_head.sources import read_source

    seen_by = arguments.source_camera or arguments.camera or ""
    found = reenacted(read_source(arguments.motion, avatar.rig(), seen_by), avatar, transfer, camera=camera)
    for note in found.notes:
        console.print(note, soft_wrap=True, highlight=False)
    return found


def render_capture(arguments: argparse.Namespace) -> int:
    """Render the capture's frames into OUTPUT/render_image/00000.png …, and a video where one is asked for."""
    from avatars.evaluation.frames import Shot, capture_shots, check_same_rig, over, render_shots
    from avatars.rgb_head.reenact import pinned
    from avatars.training.views import frontal_image

    console = Console(stderr=True)
    _check(arguments)
    choice, transfer = chosen(arguments), transfer_of(arguments)
    output = arguments.output or choice.result
    if output is None:
        raise BadConfig("--output is missing", expected="a folder")
    if arguments.size and not 8 <= max(arguments.size) <= MAX_SIDE_PX:
        raise BadConfig("--size is out of range", found=str(max(arguments.size)), expected=f"8 to {MAX_SIDE_PX} px")
    if arguments.video is not None:
        check_video(arguments.video)
    device = prepare_device(arguments.device)
    avatar, capture = open_chosen(choice, device)
    images = chosen_images(capture, arguments)
    longest = max(arguments.size) if arguments.size else max(_size(capture.cameras[0]))
    shots = capture_shots(capture, images, longest)
    motion = capture.motion
    if arguments.motion is not None:
        lens = shots[images.index(frontal_image(capture, images))].camera
        motion = driven_by(arguments, avatar, transfer, lens, console).motion
        shots = [Shot(frame, lens) for frame in range(len(motion))]
        avatar = pinned(avatar)
    else:
        check_same_rig(avatar, capture)
    shots = shots[: arguments.frames] if arguments.frames else shots
    shots = swung(shots, head_centre(avatar, motion, shots[0].frame, device), arguments)
    folder = output / FOLDER
    check_writable(folder)
    number = 0
    batches = render_shots(avatar, motion, shots, device, arguments.batch)
    batch_count = math.ceil(len(shots) / arguments.batch)
    fps = arguments.fps or motion.fps
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool, video_or_none(arguments.video, fps) as video:
        for drawn in track(batches, total=batch_count, description=f"Rendering {choice.title}", console=console):
            flat = as_bytes(over(drawn, 1.0 if arguments.white_bg else 0.0))
            pictures = straight_bytes(drawn) if arguments.alpha else flat
            saved = [
                pool.submit(save_picture, folder / f"{number + row:05d}.png", pictures[row])
                for row in range(len(pictures))
            ]
            number += len(pictures)
            for picture in flat if video is not None else ():
                assert video is not None
                video.add(picture)
            for one in saved:
                one.result()
    print(folder)
    return 0


def swung(shots: list[Shot], centre: NDArray[np.float64], arguments: argparse.Namespace) -> list[Shot]:
    """The shots with their cameras turned around the vertical line through `centre`, as the orbit options ask."""
    if not arguments.orbit and not arguments.orbit_amplitude:
        return shots
    return [
        replace(shot, camera=turned(shot.camera, centre, math.radians(orbit_deg(arguments, index, len(shots)))))
        for index, shot in enumerate(shots)
    ]


def orbit_deg(arguments: argparse.Namespace, index: int, count: int) -> float:
    """How far the camera has gone around at picture `index` of `count`: part of --orbit, and the amplitude's swing."""
    swing = arguments.orbit_amplitude * math.sin(2 * math.pi * index / arguments.orbit_period)
    return float(arguments.orbit * index / max(count, 1) + swing)


def turned(camera: Camera, centre: NDArray[np.float64], angle_rad: float) -> Camera:
    """The camera carried around the vertical (z) line through `centre` [3] m; its picture keeps the same middle."""
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    turn = np.eye(4)
    turn[:3, :3] = ((cosine, -sine, 0.0), (sine, cosine, 0.0), (0.0, 0.0, 1.0))
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return replace(camera, world_from_camera=turn @ camera.world_from_camera)


def head_centre(avatar: Any, motion: Motion, frame: int, device: str) -> NDArray[np.float64]:
    """Median of the avatar's Gaussians [3] m in one frame."""
    import torch

    parts = (motion.rotations, motion.translations, motion.expressions)
    with torch.no_grad():
        posed = avatar.pose(*(torch.from_numpy(part[frame : frame + 1].copy()).to(device) for part in parts))
    found: NDArray[np.float64] = np.median(posed.means[0].cpu().numpy().astype(np.float64), axis=0)
    return found


def as_bytes(images: Any) -> NDArray[np.uint8]:
    """Values in 0..1 as rounded bytes."""
    found: NDArray[np.uint8] = (images.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()
    return found


def straight_bytes(premultiplied: Any) -> NDArray[np.uint8]:
    """Straight-alpha RGBA [B, H, W, 4] of premultiplied display-encoded RGBA."""
    import torch

    alpha = premultiplied[..., 3:]
    colours = torch.where(alpha > 1e-3, premultiplied[..., :3] / alpha.clamp_min(1e-3), 0.0)
    return as_bytes(torch.cat((colours, alpha), -1))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.server:
        raise BadConfig("--server renders free cameras only", do="Leave --server out; a capture is rendered here")
    if arguments.environment is not None:
        raise BadConfig("--environment lights free cameras only", do="Leave --capture and --subject out")
    if arguments.alpha and arguments.white_bg:
        raise BadConfig("--alpha leaves the background out and --white_bg paints it", do="Give one of them")
    for name, least in (("batch", 1), ("orbit_period", 1), ("frames", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise BadConfig(f"--{name.replace('_', '-')} is too small", found=str(value), expected=f"at least {least}")


def chosen_images(capture: Capture, arguments: argparse.Namespace) -> tuple[int, ...]:
    """The pictures asked for: all, or those of one part and one camera. Raises BadConfig."""
    images = capture.split(arguments.only) if arguments.only else tuple(range(len(capture.images)))
    if arguments.camera is not None:
        if arguments.camera not in capture.camera_names:
            raise BadConfig(
                f"capture {capture.name!r} has no camera {arguments.camera!r}",
                expected=", ".join(dict.fromkeys(capture.camera_names)),
            )
        images = tuple(i for i in images if capture.camera_names[capture.images[i].camera] == arguments.camera)
    if not images:
        raise BadConfig(f"capture {capture.name!r} has no such images", found=f"--only {arguments.only}")
    return images


def _size(camera: Camera) -> tuple[int, int]:
    return camera.width_px, camera.height_px


def save_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a PNG under its name only once it is whole. Raises EnvironmentFailed."""
    from PIL import Image

    beside = path.with_suffix(".tmp")
    try:
        Image.fromarray(picture).save(beside, format="PNG")
        beside.replace(path)
    except OSError as error:
        raise EnvironmentFailed("A picture cannot be written", found=f"{path}: {error.strerror}") from error
