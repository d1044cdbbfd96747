"""`render`: pictures of an avatar from the command line, in this process or by a running server."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from backend.checks import MAX_SIDE_PX, check_render_request
from backend.cli_lists import add_client_options, client_of
from backend.home import open_home
from backend.library import Library, avatar_place
from shared.errors import BadConfig, EffigyError, EnvironmentFailed
from shared.messages import AvatarDetail, AvatarInstance, GetAvatar, PutEnvironment, RenderRequest
from shared.npz import read_npz
from shared.types import Motion

FRAME_TIMEOUT_S = 600.0
MARGIN = 1.15
Renderer = tuple[AvatarDetail, Callable[[RenderRequest], NDArray[Any]], Callable[[NDArray[Any]], str]]


def add_render(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("render", help="render an avatar to PNG files")
    parser.add_argument("--avatar", required=True, help="an id of the library, or a NAME.avatar folder")
    parser.add_argument("--motion", type=Path, help=".npz with rotations, translations, expressions (a capture's do)")
    parser.add_argument("--frames", type=int, help="how many pictures (default: the motion's, or 1)")
    parser.add_argument("--output", type=Path, required=True, help="folder for frame_0001.png … and still.png")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--yaw", type=float, default=0.0, help="degrees around the avatar; 0 is in front")
    parser.add_argument("--pitch", type=float, default=5.0, help="degrees above its middle")
    parser.add_argument("--orbit", type=float, default=0.0, help="degrees the camera turns over the frames")
    parser.add_argument("--fov", type=float, default=25.0, help="vertical field of view, degrees")
    parser.add_argument("--environment", type=Path, help=".npz with radiance [H, W, 3] to light it with")
    parser.add_argument("--server", action="store_true", help="render on the running server instead of in this process")
    parser.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_client_options(parser)
    parser.set_defaults(run=render)


def render(arguments: argparse.Namespace) -> int:
    """Render the frames and one still, the middle one."""
    output: Path = arguments.output
    check_options(arguments)
    with _renderer(arguments) as (detail, picture_of, put_environment):
        motion = read_motion(arguments.motion, detail) if arguments.motion else still_motion(detail)
        count = arguments.frames or len(motion)
        environment = put_environment(read_radiance(arguments.environment)) if arguments.environment else ""
        try:
            output.mkdir(parents=True, exist_ok=True)
            for index in track(range(count), description=f"Rendering {detail.summary.name}", console=Console()):
                yaw = arguments.yaw + arguments.orbit * index / count
                picture = picture_of(request_of(arguments, detail, motion, index, yaw, environment))
                save_png(output / f"frame_{index + 1:04d}.png", picture)
                if index == count // 2:
                    save_png(output / "still.png", picture)
        except OSError as error:
            raise EnvironmentFailed(
                "The pictures cannot be written", found=f"{output}: {error.strerror}", do="Give another --output"
            ) from error
    print(output)
    return 0


def check_options(arguments: argparse.Namespace) -> None:
    """Raises BadConfig for numbers no picture can be made with."""
    width, height = arguments.size
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise BadConfig("--size is out of range", found=f"{width}x{height}", expected=f"1 to {MAX_SIDE_PX} px a side")
    if not 1.0 <= arguments.fov <= 170.0:
        raise BadConfig("--fov is out of range", found=str(arguments.fov), expected="1 to 170 degrees")
    if not -89.0 <= arguments.pitch <= 89.0:
        raise BadConfig("--pitch is out of range", found=str(arguments.pitch), expected="-89 to 89 degrees")
    if arguments.frames is not None and arguments.frames < 1:
        raise BadConfig("--frames is out of range", found=str(arguments.frames), expected="1 or more")


def request_of(
    arguments: argparse.Namespace, detail: AvatarDetail, motion: Motion, index: int, yaw: float, environment: str
) -> RenderRequest:
    """The picture of frame `index` (motions repeat) from `yaw` degrees."""
    pose = motion.at(index % len(motion))
    width, height = arguments.size
    K, world_from_camera, distance = orbit_camera(
        detail.proxy.vertices,
        width,
        height,
        math.radians(yaw),
        math.radians(arguments.pitch),
        math.radians(arguments.fov),
    )
    instance = AvatarInstance(
        detail.summary.avatar_id,
        detail.summary.digest,
        np.eye(4)[None],
        pose.rotations[None],
        pose.translation[None],
        pose.expression[None],
    )
    return RenderRequest(
        "final command line",
        (instance,),
        width,
        height,
        K[None],
        world_from_camera[None],
        near_m=distance / 100,
        far_m=distance * 100,
        environment=environment,
    )


def orbit_camera(
    vertices: NDArray[np.float32], width: int, height: int, yaw_rad: float, pitch_rad: float, fov_rad: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """K [3, 3], world_from_camera [4, 4] and distance m of a camera that has all of `vertices` [V, 3] in view.

    It looks at the middle of their bounding box from yaw (0: from -y, towards the face) and pitch above it.
    """
    low, high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
    centre, radius = (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 1e-3)
    focal = height / 2 / math.tan(fov_rad / 2)
    half_angle = math.atan(min(width, height) / 2 / focal)
    distance = radius * MARGIN / math.sin(half_angle)
    back = np.array(
        [math.sin(yaw_rad) * math.cos(pitch_rad), -math.cos(yaw_rad) * math.cos(pitch_rad), math.sin(pitch_rad)]
    )
    right = np.array([math.cos(yaw_rad), math.sin(yaw_rad), 0.0])
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.stack((right, np.cross(-back, right), -back), axis=1)
    world_from_camera[:3, 3] = centre + distance * back
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]), world_from_camera, distance


def still_motion(detail: AvatarDetail) -> Motion:
    """One instant: the pose it was captured in, without expression."""
    joints, expressions = len(detail.rig.joint_names), len(detail.rig.expression_names)
    rest = np.asarray(detail.rest_pose, np.float32).reshape(1, joints, 3)
    return Motion(rest, np.zeros((1, 3), np.float32), np.zeros((1, expressions), np.float32), 25.0)


def read_motion(path: Path, detail: AvatarDetail) -> Motion:
    """A motion of this avatar's rig from an .npz. Raises EffigyError."""
    arrays = _read(path)
    missing = [name for name in ("rotations", "translations", "expressions") if name not in arrays]
    if missing:
        raise EffigyError(f"{path.name} is no motion", found="no " + ", ".join(missing))
    fps = float(arrays["fps"].reshape(-1)[0]) if arrays.get("fps", np.zeros(0)).size else 25.0
    motion = Motion(arrays["rotations"], arrays["translations"], arrays["expressions"], fps)
    found = (motion.rotations.shape[1], motion.expressions.shape[1])
    wanted = (len(detail.rig.joint_names), len(detail.rig.expression_names))
    if found != wanted or len(motion) == 0:
        raise EffigyError(
            f"{path.name} is a motion of another rig",
            found=f"{found[0]} joints, {found[1]} expressions, {len(motion)} frames",
            expected=f"{wanted[0]} joints, {wanted[1]} expressions",
        )
    return motion


def read_radiance(path: Path) -> NDArray[Any]:
    """[H, W, 3] linear radiance from an .npz. Raises EffigyError."""
    radiance = _read(path).get("radiance")
    if radiance is None or radiance.ndim != 3 or radiance.shape[2] != 3:
        raise EffigyError(f"{path.name} is no environment map", expected="an array 'radiance' [H, W, 3]")
    half: NDArray[np.float16] = np.clip(radiance, 0, 65504).astype(np.float16)
    return half


def straight_srgb(combined: NDArray[Any]) -> NDArray[np.uint8]:
    """[H, W, 4] uint8 sRGB with straight alpha, as PNG wants it, of premultiplied linear RGBA."""
    alpha = np.clip(combined[..., 3:].astype(np.float32), 0, 1)
    linear = np.where(alpha > 1e-4, combined[..., :3].astype(np.float32) / np.maximum(alpha, 1e-4), 0).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (np.concatenate((encoded, alpha), -1) * 255 + 0.5).astype(np.uint8)


def save_png(path: Path, combined: NDArray[Any]) -> None:
    """Write premultiplied linear RGBA as a PNG, in one step. Raises OSError."""
    from PIL import Image

    beside = path.with_suffix(".tmp")
    Image.fromarray(straight_srgb(combined), "RGBA").save(beside, format="PNG")
    beside.replace(path)


@contextlib.contextmanager
def _renderer(arguments: argparse.Namespace) -> Iterator[Renderer]:
    """The avatar's detail, a function that renders, and one that takes an environment: here, or on the server."""
    if arguments.server:
        with client_of(arguments) as client:
            detail = client.request(GetAvatar(arguments.avatar), timeout_s=60.0)
            yield (
                detail,
                lambda request: client.render(request, timeout_s=FRAME_TIMEOUT_S).passes["combined"],
                client.put_environment,
            )
        return
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.rendering import Studio

    folder, avatar_id = avatar_place(arguments.avatar, open_home(arguments.home).library)
    use_cores(usable_cores())
    studio = Studio(Library(folder), resolve_device(arguments.device))

    def put(radiance: NDArray[Any]) -> str:
        digest = hashlib.sha256(radiance.tobytes()).hexdigest()
        studio.put_environment(PutEnvironment(digest, radiance))
        return digest

    def picture(request: RenderRequest) -> NDArray[Any]:
        check_render_request(request)
        combined: NDArray[Any] = studio.render(request).images[0]
        return combined

    yield studio.detail(avatar_id), picture, put


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path.read_bytes(), path.name, EffigyError)
    except OSError as error:
        raise EffigyError(f"{path} cannot be read", found=str(error.strerror)) from error
