"""`relight render`: a relightable avatar in any light, any motion, free cameras or a capture's, with its passes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from backend.checks import MAX_SIDE_PX
from backend.options import add_home
from backend.relight_words import capture_folder, read_words, split_words
from backend.video import check_video, video_or_none
from shared.errors import BadCapture, BadConfig, EnvironmentFailed
from shared.types import Camera, Environment, Motion

PASSES = ("combined", "diffuse", "specular", "albedo", "normal", "roughness", "metallic", "occlusion", "mask", "depth")
LIT = ("combined", "diffuse", "specular")


def add_relight_render(actions: Any) -> argparse.ArgumentParser:
    """Declare it; words, --data and --device are added by the caller."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "render",
        help="render a relightable avatar in a light",
        description="Writes OUTPUT/PASS/00000.png … for each pass (depth as .npy, m): through a free camera, or with "
        "--capture through the capture's own cameras, in its poses or those of --motion.",
    )
    parser.add_argument("--avatar", help="an id of the library, or a NAME.avatar folder (or the first word)")
    parser.add_argument("--hdri", help=".hdr, .exr, picture or .npz with radiance (default: the light of the capture)")
    parser.add_argument("--rotation", type=float, default=0.0, help="degrees the light is turned about the up axis")
    parser.add_argument("--turn", type=float, default=0.0, help="degrees the light turns on over the frames")
    parser.add_argument("--strength", type=float, default=1.0, help="factor of the light (default 1)")
    parser.add_argument(
        "--exposure", type=float, default=0.0, metavar="EV", help="stops the pictures are brightened by"
    )
    parser.add_argument("--background", action="store_true", help="show the light behind the person")
    parser.add_argument("--motion", help="our .npz, or a body motion of AMASS or SMPL-X (default: still)")
    parser.add_argument("--capture", help="a capture to be seen through the cameras of")
    parser.add_argument("--only", choices=("train", "test", "val"), help="with --capture: only these images")
    parser.add_argument("--camera", help="with --capture: only this camera")
    parser.add_argument("--frames", type=int, help="how many pictures (default: the motion's)")
    parser.add_argument("--size", type=int, help="longest side in px (default 540, or as recorded)")
    parser.add_argument("--yaw", type=float, default=0.0, help="free camera: degrees around the avatar; 0 is in front")
    parser.add_argument("--pitch", type=float, default=5.0, help="free camera: degrees above its middle")
    parser.add_argument("--fov", type=float, default=25.0, help="free camera: vertical field of view, degrees")
    parser.add_argument("--orbit", type=float, default=0.0, help="free camera: degrees it turns over the frames")
    parser.add_argument("--passes", default="combined", help=f"comma separated (default combined): {', '.join(PASSES)}")
    parser.add_argument("--output", type=Path, default=Path("relit"), help="folder for the pictures (default: relit)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write the combined pictures as an MP4 as well")
    parser.add_argument("--fps", type=float, help="the video's frames a second (default: the motion's)")
    add_home(parser)
    parser.set_defaults(run=render_relit)
    return parser


def render_relit(arguments: argparse.Namespace) -> int:
    """Render every frame; a frame's files are written when it is done."""
    from avatars.avatar_folder import load_avatar
    from avatars.lighting.shading import exposed
    from avatars.scene import SceneInstance, has_materials, render_scene
    from backend.cli_render import flattened, straight_srgb
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.home import default_home
    from backend.library import Library, avatar_place

    words, loose = split_words(arguments.words)
    asked = read_words(words, ("avatar", "hdri", "capture", "name"))
    text = arguments.avatar or loose or asked.values.get("avatar")
    if not text:
        raise BadConfig("Name an avatar", expected="an id of the library, or a NAME.avatar folder")
    passes = _passes(arguments)
    if arguments.video is not None:
        check_video(arguments.video)
    library, avatar_id = avatar_place(text, (arguments.home or default_home()).expanduser() / "library")
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    avatar = load_avatar(Library(library).path(avatar_id), device)
    if not has_materials(avatar):
        raise BadConfig(
            f"avatar {avatar_id!r} holds colours, not materials",
            found=avatar.method,
            do="Render it with 'effigy render --environment', which relights by estimate",
        )
    console = Console(stderr=True)
    light = _light(arguments.hdri or asked.values.get("hdri"), arguments, console)
    shots = list(_shots(avatar, arguments, asked.values.get("capture")))
    output = Path(arguments.output).expanduser()
    try:
        for name in passes:
            (output / name).mkdir(parents=True, exist_ok=True)
        with video_or_none(arguments.video, arguments.fps or shots[0][1].fps) as video:
            for number, (frame, motion, camera) in enumerate(track(shots, f"Relighting {avatar_id}", console=console)):
                turned = None if light is None else _turned(light, arguments, number, len(shots))
                pose = motion.at(frame)
                instance = SceneInstance(
                    avatar, np.eye(4)[None], pose.rotations[None], pose.translation[None], pose.expression[None]
                )
                found = render_scene([instance], [camera], turned, passes, device=device)
                for name in passes:
                    picture = found[name].astype(np.float32)
                    if name in LIT:
                        gain = float(exposed(_one(), arguments.exposure))
                        picture[..., :3] *= gain
                        if arguments.background and turned is not None and name == "combined":
                            picture = _before(picture, turned, camera, gain)
                    _save(output / name, number, name, picture)
                    if video is not None and name == "combined":
                        video.add(flattened(straight_srgb(picture), white=False))
    except OSError as error:
        raise EnvironmentFailed(
            "The pictures cannot be written", found=f"{output}: {error.strerror}", do="Give another --output"
        ) from error
    print(output)
    return 0


def _one() -> Any:
    import torch

    return torch.ones(())


def _passes(arguments: argparse.Namespace) -> list[str]:
    passes = [name.strip() for name in arguments.passes.split(",") if name.strip()]
    unknown = [name for name in passes if name not in PASSES]
    if unknown or not passes:
        raise BadConfig("--passes names none", found=", ".join(unknown) or "nothing", expected=", ".join(PASSES))
    if arguments.video is not None and "combined" not in passes:
        passes.append("combined")
    for name, value, low, high in (
        ("size", arguments.size, 8, MAX_SIDE_PX),
        ("frames", arguments.frames, 1, 1_000_000),
        ("fov", arguments.fov, 1.0, 170.0),
        ("pitch", arguments.pitch, -89.0, 89.0),
        ("strength", arguments.strength, 0.0, 1e6),
        ("exposure", arguments.exposure, -30.0, 30.0),
    ):
        if value is not None and not low <= value <= high:
            raise BadConfig(f"--{name} is out of range", found=str(value), expected=f"{low} to {high}")
    return list(dict.fromkeys(passes))


def _light(text: str | None, arguments: argparse.Namespace, console: Console) -> Environment | None:
    """The light asked for; None keeps that of the capture."""
    from avatars.lighting.environment_files import read_environment
    from backend.cli_render import read_radiance

    if text is None:
        if arguments.rotation or arguments.turn or arguments.background:
            raise BadConfig("--rotation, --turn and --background belong to --hdri, which was not given")
        return None
    path = Path(text).expanduser()
    notes: tuple[str, ...] = ()
    if path.suffix == ".npz":
        found = Environment(read_radiance(path).astype(np.float32))
    else:
        found, notes = read_environment(path)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    return replace(
        found, rotation_rad=found.rotation_rad + math.radians(arguments.rotation), strength=arguments.strength
    )


def _turned(light: Environment, arguments: argparse.Namespace, number: int, count: int) -> Environment:
    if not arguments.turn:
        return light
    return replace(light, rotation_rad=light.rotation_rad + math.radians(arguments.turn) * number / max(count, 1))


def _shots(avatar: Any, arguments: argparse.Namespace, named: str | None) -> Iterator[tuple[int, Motion, Camera]]:
    """(frame, motion, camera) of every picture."""
    from avatars.evaluation.frames import check_same_rig

    given = arguments.capture or named
    motion = None if arguments.motion is None else _motion(Path(arguments.motion).expanduser(), avatar)
    if given is None:
        yield from _free(avatar, motion, arguments)
        return
    from avatars.captures.opening import open_capture
    from backend.cli_render_capture import chosen_images

    capture = open_capture(capture_folder(given, arguments.data))
    images = chosen_images(capture, arguments)
    if motion is None:
        check_same_rig(avatar, capture)
    longest = arguments.size or max(capture.cameras[0].width_px, capture.cameras[0].height_px)
    size, seen = capture.train_size(longest), dict[tuple[int, int], int]()
    for index in images:  # pictures of one place and time in several lights are one
        seen.setdefault((capture.images[index].camera, capture.images[index].frame), index)
    chosen = list(seen.values())[: arguments.frames]
    if motion is None:
        for index in chosen:
            yield capture.images[index].frame, capture.motion, capture.camera_of(index, size)
        return
    for frame in range(arguments.frames or len(motion)):
        yield frame % len(motion), motion, capture.camera_of(images[0], size)


def _free(avatar: Any, motion: Motion | None, arguments: argparse.Namespace) -> Iterator[tuple[int, Motion, Camera]]:
    from backend.cli_render import orbit_camera

    if motion is None:
        rest = np.asarray(avatar.rest_pose, np.float32)[None]
        expressions = len(avatar.rig().expression_names)
        motion = Motion(rest, np.zeros((1, 3), np.float32), np.zeros((1, expressions), np.float32), 25.0)
    count, side = arguments.frames or len(motion), arguments.size or 540
    vertices = avatar.proxy().vertices
    start = np.asarray(motion.translations[0], np.float64)
    for number in range(count):
        yaw = math.radians(arguments.yaw + arguments.orbit * number / max(count, 1))
        K, pose, distance = orbit_camera(
            vertices, side, side, yaw, math.radians(arguments.pitch), math.radians(arguments.fov)
        )
        pose[:3, 3] += start
        yield number % len(motion), motion, Camera(side, side, K, pose, distance / 100, distance * 100)


def _motion(path: Path, avatar: Any) -> Motion:
    """A motion of ours as it is, or a body motion by its joints' names. Raises BadCapture."""
    from avatars.captures.smpl_bodies import placed_body
    from avatars.formats.motions import read_motion
    from backend.cli_render import is_own_motion
    from shared.motions import read_smpl_motion

    if not path.is_file():
        raise BadCapture(f"{path} cannot be read", found="no such file", expected="an .npz with a motion")
    if is_own_motion(path):
        return read_motion(path, avatar.rig())
    return placed_body(path.stem, avatar.template(), read_smpl_motion(path)).motion


def _before(picture: NDArray[np.float32], light: Environment, camera: Camera, gain: float) -> NDArray[np.float32]:
    """Premultiplied linear RGBA over what the camera sees of the light."""
    import torch

    from avatars.lighting.latlong import columns_rows, looked_up
    from avatars.lit_pixels import pixel_rays
    from avatars.rendering import CameraBatch

    rays = pixel_rays(CameraBatch.from_cameras([camera]))[0]
    radiance = torch.from_numpy(np.array(light.radiance, np.float32))
    behind = looked_up(radiance, *columns_rows(rays, float(light.rotation_rad))).numpy() * light.strength * gain
    alpha = picture[..., 3:]
    return np.concatenate([picture[..., :3] + (1 - alpha) * behind, np.ones_like(alpha)], -1).astype(np.float32)


def _encoded(premultiplied: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Straight-alpha RGBA bytes; with RGB given, as premultiplied light over black."""
    from backend.cli_render import straight_srgb

    if premultiplied.shape[-1] == 4:
        return straight_srgb(premultiplied)
    opaque = np.ones_like(premultiplied[..., :1])
    return straight_srgb(np.concatenate([premultiplied, opaque], -1))[..., :3]


def _save(folder: Path, number: int, name: str, values: NDArray[np.float32]) -> None:
    from backend.cli_render import save_png

    if name == "depth":
        np.save(folder / f"{number:05d}.npy", values[..., 0])
    elif name in (*LIT, "albedo"):
        save_png(folder / f"{number:05d}.png", _encoded(values))
    elif name == "normal":
        save_png(folder / f"{number:05d}.png", ((values * 0.5 + 0.5).clip(0, 1) * 255 + 0.5).astype(np.uint8))
    else:
        save_png(folder / f"{number:05d}.png", (values[..., 0].clip(0, 1) * 255 + 0.5).astype(np.uint8))
