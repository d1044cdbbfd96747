"""`render`: pictures of an avatar from the command line, in this process or by a running server."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from backend.checks import MAX_SIDE_PX, check_render_request
from backend.cli_chosen import add_choice
from backend.cli_lists import add_client_options, client_of, connected_client
from backend.cli_render_capture import (
    ORBIT_PERIOD,
    add_transfer_options,
    driven_by,
    orbit_deg,
    render_capture,
    transfer_of,
)
from backend.devices import usable_cores
from backend.home import open_home
from backend.library import Library, avatar_place
from backend.many_frames import rendered_in_order
from backend.picture_writer import MOST_WRITERS, PictureWriter
from backend.video import check_video, video_or_none
from shared.client import BackendClient
from shared.errors import BadConfig, EffigyError, EnvironmentFailed
from shared.messages import AvatarDetail, AvatarInstance, GetAvatar, PutEnvironment, RenderRequest
from shared.npz import MAX_UNPACKED_BYTES, read_npz
from shared.types import Motion

FRAME_TIMEOUT_S = 600.0
MARGIN = 1.15
DEFAULT_SIZE = (512, 512)
MOTION_ARRAYS = ("rotations", "translations", "expressions")
Renderer = tuple[
    AvatarDetail,
    Callable[[Iterable[RenderRequest]], Iterator[NDArray[Any]]],
    Callable[[NDArray[Any]], str],
    Callable[[], Any] | None,
]


def add_render(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "render",
        help="render an avatar to PNG files",
        description="With --capture or --subject through the capture's cameras, every frame, into "
        "OUTPUT/render_image/00000.png: the recorded person again, or driven by --motion. Without them through a free "
        "camera, into OUTPUT/frame_0001.png and still.png.",
    )
    add_choice(parser, "a capture's name or folder, to be seen through its cameras")
    parser.add_argument("--avatar", dest="avatar_option", help="the same as AVATAR")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default with --subject: the result's)")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="default: 512 512 or as recorded"
    )
    parser.add_argument("--frames", type=int, help="how many pictures (default: the motion's, or 1)")
    parser.add_argument("--orbit", type=float, default=0.0, help="degrees the camera turns over the frames")
    parser.add_argument("--orbit-amplitude", type=float, default=0.0, help="degrees the camera swings to each side")
    parser.add_argument("--orbit-period", type=int, default=ORBIT_PERIOD, help="pictures of one swing there and back")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an MP4 as well")
    parser.add_argument("--fps", type=float, help="the video's frames a second (default: the motion's)")
    parser.add_argument("--white_bg", "--white-bg", action="store_true", help="over white instead of black")
    parser.add_argument("--alpha", action="store_true", help="RGBA (always so with a free camera)")
    add_transfer_options(parser)
    own = parser.add_argument_group("through a capture's cameras")
    own.add_argument("--only", choices=("train", "test", "val"), help="only these images of the capture")
    own.add_argument("--camera", metavar="NAME", help="only this camera of the capture")
    own.add_argument("--batch", type=int, default=10, help="pictures rendered at once")
    free = parser.add_argument_group("through a free camera")
    free.add_argument("--yaw", type=float, default=0.0, help="degrees around the avatar; 0 is in front")
    free.add_argument("--pitch", type=float, default=5.0, help="degrees above its middle")
    free.add_argument("--fov", type=float, default=25.0, help="vertical field of view, degrees")
    free.add_argument(
        "--environment", type=Path, help="HDRI (.hdr, .exr) to light it with, or .npz with radiance [H, W, 3]"
    )
    free.add_argument(
        "--writers",
        type=int,
        default=min(MOST_WRITERS, usable_cores()),
        help="threads that write pictures while the next are drawn (0: by turns; default: a core each, %(default)s)",
    )
    free.add_argument("--server", action="store_true", help="render on the running server instead of in this process")
    add_client_options(parser)
    parser.set_defaults(run=render)


def render(arguments: argparse.Namespace) -> int:
    """Render through a capture's cameras or a free one."""
    arguments.avatar = arguments.avatar or arguments.avatar_option
    if arguments.capture is not None or arguments.subject is not None:
        return render_capture(arguments)
    return render_free(arguments)


def render_free(arguments: argparse.Namespace) -> int:
    """Render the frames and one still, the middle one."""
    arguments.size = arguments.size or DEFAULT_SIZE
    check_options(arguments)
    output: Path = arguments.output
    with _renderer(arguments) as (detail, pictures_of, put_environment, avatar_of):
        motion = _motion(arguments, detail, avatar_of)
        count = arguments.frames or len(motion)
        environment = put_environment(read_radiance(arguments.environment)) if arguments.environment else ""
        try:
            output.mkdir(parents=True, exist_ok=True)
            with video_or_none(arguments.video, arguments.fps or motion.fps) as video:
                yaws = [arguments.yaw + orbit_deg(arguments, index, count) for index in range(count)]
                wanted = (
                    request_of(arguments, detail, motion, index, yaw, environment) for index, yaw in enumerate(yaws)
                )
                drawn = track(pictures_of(wanted), f"Rendering {detail.summary.name}", total=count, console=Console())

                def filmed(picture: NDArray[np.uint8]) -> None:
                    if video is not None:
                        video.add(flattened(picture, white=arguments.white_bg))

                with PictureWriter(arguments.writers, filmed) as writer:
                    for index, combined in enumerate(drawn):
                        paths = [output / f"frame_{index + 1:04d}.png"]
                        paths += [output / "still.png"] if index == count // 2 else []
                        writer.add(partial(write_pngs, paths, combined))
        except OSError as error:
            raise EnvironmentFailed(
                "The pictures cannot be written", found=f"{output}: {error.strerror}", do="Give another --output"
            ) from error
    print(output)
    return 0


def _motion(arguments: argparse.Namespace, detail: AvatarDetail, avatar_of: Callable[[], Any] | None) -> Motion:
    """Still, a motion of this rig as it is, or a source's motion carried over. Raises EffigyError."""
    transfer = transfer_of(arguments)
    if arguments.motion is None:
        return still_motion(detail)
    path = Path(arguments.motion).expanduser()
    if transfer is None and path.suffix == ".npz" and is_own_motion(path):
        from avatars.formats.motions import read_motion

        return read_motion(path, detail.rig)
    if avatar_of is None:
        raise BadConfig("Another person's motion is carried over in this process only", do="Leave --server out")
    return driven_by(arguments, avatar_of(), transfer, None, Console(stderr=True)).motion


def check_options(arguments: argparse.Namespace) -> None:
    """Raises BadConfig for numbers no picture can be made with."""
    width, height = arguments.size
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise BadConfig("--size is out of range", found=f"{width}x{height}", expected=f"1 to {MAX_SIDE_PX} px a side")
    if not 1.0 <= arguments.fov <= 170.0:
        raise BadConfig("--fov is out of range", found=str(arguments.fov), expected="1 to 170 degrees")
    if not -89.0 <= arguments.pitch <= 89.0:
        raise BadConfig("--pitch is out of range", found=str(arguments.pitch), expected="-89 to 89 degrees")
    if arguments.avatar is None:
        raise BadConfig("Name an avatar", expected="an id of the library, or a NAME.avatar folder")
    if arguments.output is None:
        raise BadConfig("--output is missing", expected="a folder")
    for name in ("only", "camera", "work_name"):
        if getattr(arguments, name) is not None:
            raise BadConfig(f"--{name} belongs to --capture or --subject, which was not given")
    if arguments.video is not None:
        check_video(arguments.video)
    if not 0 <= arguments.writers <= 64:
        raise BadConfig("--writers is out of range", found=str(arguments.writers), expected="0 to 64")
    if arguments.orbit_period < 1:
        raise BadConfig("--orbit-period is too small", found=str(arguments.orbit_period), expected="at least 1")
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


def is_own_motion(path: Path) -> bool:
    """Whether an .npz is a motion without names, which is then of the avatar's own rig. Raises EffigyError."""
    arrays = _read(path)
    return all(name in arrays for name in MOTION_ARRAYS) and "expression_names" not in arrays


def read_radiance(path: Path) -> NDArray[Any]:
    """[H, W, 3] linear radiance from an HDRI or an .npz; doubts about it go to standard error. Raises EffigyError."""
    if path.suffix.lower() == ".npz":
        radiance = _read(path).get("radiance")
    else:
        from avatars.lighting.environment_files import read_environment

        light, notes = read_environment(path)
        radiance = light.radiance
        for note in notes:
            Console(stderr=True).print(note, soft_wrap=True, highlight=False)
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


def flattened(straight: NDArray[np.uint8], *, white: bool) -> NDArray[np.uint8]:
    """Straight-alpha RGBA [H, W, 4] over white or black, [H, W, 3], blended as displays do."""
    alpha = straight[..., 3:].astype(np.float32) / 255
    mixed: NDArray[np.uint8] = (straight[..., :3] * alpha + (1 - alpha) * (255.0 if white else 0.0) + 0.5).astype(
        np.uint8
    )
    return mixed


def write_pngs(paths: Sequence[Path], combined: NDArray[Any]) -> NDArray[np.uint8]:
    """One premultiplied linear picture at every path; as it was written. Raises OSError."""
    picture = straight_srgb(combined)
    for path in paths:
        save_png(path, picture)
    return picture


def save_png(path: Path, straight: NDArray[np.uint8]) -> None:
    """Write RGBA or RGB bytes as a PNG, in one step. Raises OSError."""
    from PIL import Image

    beside = path.with_suffix(".tmp")
    Image.fromarray(straight).save(beside, format="PNG")
    beside.replace(path)


@contextlib.contextmanager
def _renderer(arguments: argparse.Namespace) -> Iterator[Renderer]:
    """The avatar's detail, what renders, what takes an environment, and (here only) what loads the avatar."""
    if arguments.server:
        with client_of(arguments) as client:
            detail = client.request(GetAvatar(arguments.avatar), timeout_s=60.0)
            maps: list[NDArray[Any]] = []

            def another() -> BackendClient:
                one = connected_client(arguments)
                for radiance in maps:
                    one.put_environment(radiance)
                return one

            def many(requests: Iterable[RenderRequest]) -> Iterator[NDArray[Any]]:
                for frame in rendered_in_order(requests, another, timeout_s=FRAME_TIMEOUT_S):
                    yield frame.passes["combined"]

            def handed_over(radiance: NDArray[Any]) -> str:
                maps.append(radiance)
                return client.put_environment(radiance)

            yield detail, many, handed_over, None
        return
    from backend.devices import resolve_device, use_cores
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

    yield studio.detail(avatar_id), partial(map, picture), put, lambda: studio.avatar(avatar_id)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    from avatars.captures.options import small_file

    return read_npz(small_file(path, MAX_UNPACKED_BYTES), path.name, EffigyError)
