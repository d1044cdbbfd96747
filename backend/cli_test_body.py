"""`test`: what MMLPHuman's test.py does - training poses and cameras beside the truth, novel poses, and the speed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import check_writable, prepare_device
from backend.cli_evaluate import PARTS
from backend.home import default_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from backend.video import check_video, video_or_none
from shared.errors import BadConfig

DEFAULT_SIZE = (1024, 1024)
UPS = ("x", "-x", "y", "-y", "z", "-z")


def add_test(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "test",
        help="pictures of a trained body: its capture's poses beside the truth, novel poses, speed",
        description="As MMLPHuman's test.py. With --data_dir: gt/, result/ and mask/ with PSNR, SSIM, FLIP (and LPIPS "
        "and FID where their weights are) over the capture's own test split. With --pose_path (AMASS of any width, or "
        "smpl_params.npz) and --cam_path: eight-digit PNGs. --test holds novel poses inside the training poses.",
    )
    parser.add_argument("--model_dir", "--model-dir", "--avatar", dest="model_dir", required=True, help="the avatar")
    parser.add_argument("--out_dir", "--out-dir", "--output", dest="out_dir", type=Path, help="folder for pictures")
    parser.add_argument("--data_dir", "--data-dir", "--capture", dest="data_dir", help="a capture's name or folder")
    parser.add_argument("--pose_path", "--pose-path", type=Path, help="AMASS .npz or smpl_params.npz")
    parser.add_argument("--cam_path", "--cam-path", type=Path, help="camera JSON (default: one that sees the motion)")
    parser.add_argument("--test", action="store_true", help="hold novel poses inside the training poses")
    parser.add_argument("--test_speed", "--test-speed", action="store_true", help="tell ms and FPS of all pictures")
    parser.add_argument("--only", choices=PARTS, help="with --data_dir: which images (default: test)")
    parser.add_argument("--cam_ids", "--cam-ids", nargs="+", metavar="NAME", help="with --data_dir: only these cameras")
    parser.add_argument("--num_frame", "--num-frame", type=int, help="at most so many frames")
    parser.add_argument("--begin_ith_frame", "--begin-ith-frame", type=int, default=0)
    parser.add_argument("--frame_interval", "--frame-interval", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="default: 1024 1024 or recorded")
    parser.add_argument("--up", choices=UPS, help="up axis of --pose_path's world (default: found from the body)")
    parser.add_argument("--lpips", default="", metavar="FOLDER", help="folder with LPIPS's weight files")
    parser.add_argument("--fid", metavar="FOLDER", help="folder with the Inception weights FID is measured with")
    parser.add_argument("--video", type=Path, metavar="FILE", help="with --pose_path: write an MP4 as well")
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=test)


def test(arguments: argparse.Namespace) -> int:
    """Render and measure, in this process."""
    from avatars.avatar_folder import load_avatar
    from avatars.mlp_body.testing import as_body

    _check(arguments)
    library, avatar_id = avatar_place(arguments.model_dir, (arguments.home or default_home()).expanduser() / "library")
    device = prepare_device(arguments.device)
    body = as_body(load_avatar(Library(library).path(avatar_id), device), clamped=arguments.test)
    if arguments.out_dir is not None:
        check_writable(arguments.out_dir)
    if arguments.data_dir is not None:
        return _on_capture(arguments, body, device)
    return _on_motion(arguments, body, device)


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.data_dir is None) == (arguments.pose_path is None):
        raise BadConfig("Name what to render", expected="--data_dir, or --pose_path with or without --cam_path")
    if arguments.out_dir is None and not arguments.test_speed:
        raise BadConfig("--out_dir is missing", expected="a folder, or --test_speed alone")
    for name, least in (("num_frame", 1), ("begin_ith_frame", 0), ("frame_interval", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise BadConfig(f"--{name} is too small", found=str(value), expected=f"at least {least}")
    owners = {"pose_path": ("cam_path", "video", "up"), "data_dir": ("only", "fid")}
    for name, belongs in ((name, owner) for owner, names in owners.items() for name in names):
        if getattr(arguments, name) is not None and getattr(arguments, belongs) is None:
            raise BadConfig(f"--{name} belongs to --{belongs}, which was not given")
    if arguments.video is not None:
        check_video(arguments.video)


def _on_capture(arguments: argparse.Namespace, body: Any, device: str) -> int:
    from avatars.captures.opening import open_capture
    from avatars.evaluation.frames import capture_shots, check_same_rig
    from avatars.mlp_body.testing import compare, timed
    from avatars.training.inception import find_inception
    from avatars.training.lpips import find_lpips

    capture = open_capture(arguments.data_dir)
    check_same_rig(body, capture)
    images = _images(arguments, capture)
    camera = capture.cameras[0]
    longest = max(arguments.size or (camera.width_px, camera.height_px))
    if arguments.out_dir is not None:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"Rendering {capture.name}", total=len(images))
            means = compare(
                body,
                capture,
                images,
                arguments.out_dir,
                device,
                longest_px=longest,
                lpips=find_lpips(arguments.lpips, device),
                inception=find_inception(arguments.fid or "", device),
                tell=lambda done: progress.update(task, completed=done),
            )
        print("  ".join(f"{name} {value:.4f}" for name, value in means.items()), f" ({len(images)} images)")
        print(arguments.out_dir)
    if arguments.test_speed:
        _tell_speed(*timed(body, capture.motion, capture_shots(capture, images, longest), device), len(images))
    return 0


def _images(arguments: argparse.Namespace, capture: Any) -> tuple[int, ...]:
    """The pictures asked for. Raises BadConfig."""
    images = capture.split(arguments.only or "test")
    known = tuple(dict.fromkeys(capture.camera_names))
    for name in arguments.cam_ids or ():
        if name not in known:
            raise BadConfig(f"capture {capture.name!r} has no camera {name!r}", expected=", ".join(known))
    if arguments.cam_ids:
        images = tuple(i for i in images if capture.camera_names[capture.images[i].camera] in arguments.cam_ids)
    frames = sorted({capture.images[index].frame for index in images})
    frames = frames[arguments.begin_ith_frame :: arguments.frame_interval][: arguments.num_frame]
    images = tuple(index for index in images if capture.images[index].frame in set(frames))
    if not images:
        found = f"{arguments.only or 'test'}, {len(frames)} frames"
        raise BadConfig(f"capture {capture.name!r} has no such images", found=found)
    return images


def _on_motion(arguments: argparse.Namespace, body: Any, device: str) -> int:
    from avatars.captures.options import small_file
    from avatars.evaluation.frames import Shot
    from avatars.mlp_body.testing import body_view, motion_for, render_motion, timed
    from shared.camera_files import MAX_BYTES, read_path
    from shared.motions import read_smpl_motion
    from shared.types import Motion

    read = read_smpl_motion(arguments.pose_path)
    for note in read.notes:
        print(note)
    motion, up = motion_for(body.rig(), read, arguments.up or "", arguments.frame_interval)
    kept = slice(arguments.begin_ith_frame, arguments.begin_ith_frame + (arguments.num_frame or len(motion)))
    motion = Motion(motion.rotations[kept], motion.translations[kept], motion.expressions[kept], motion.fps)
    if not len(motion):
        raise BadConfig("--begin_ith_frame is beyond the motion", found=str(arguments.begin_ith_frame))
    if arguments.cam_path is not None:
        content = small_file(arguments.cam_path, MAX_BYTES)
        camera = read_path(content, arguments.cam_path.name, up).cameras[0]
    else:
        camera = body_view(body.proxy().vertices, motion, *(arguments.size or DEFAULT_SIZE))
    if arguments.out_dir is not None:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"Rendering {read.name}", total=len(motion))
            with video_or_none(arguments.video, motion.fps) as video:
                for picture in render_motion(
                    body,
                    motion,
                    camera,
                    arguments.out_dir,
                    device,
                    lambda done: progress.update(task, completed=done),
                ):
                    if video is not None:
                        video.add(picture)
        print(arguments.out_dir)
    if arguments.test_speed:
        shots = [Shot(frame, camera) for frame in range(len(motion))]
        _tell_speed(*timed(body, motion, shots, device), len(motion))
    return 0


def _tell_speed(total_ms: float, per_s: float, count: int) -> None:
    print(f"{count} frames in {total_ms:.1f} ms: {total_ms / count:.2f} ms a frame, {per_s:.1f} FPS")
