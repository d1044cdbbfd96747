"""`infer`: what HF-Avatar's infer.py does, in its early words (val, test) and its late ones (nvs, unseen, odp)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import check_writable, prepare_device, trained_from
from backend.home import default_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from backend.video import check_video, video_or_none
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.evaluation.drawn import Draw
    from avatars.evaluation.novel_poses import NovelPoses

UPS = ("x", "-x", "y", "-y", "z", "-z")
MODES = ("val", "test", "nvs", "unseen", "odp")
WAYS = ("gaussians", "mesh", "field")


def add_infer(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "infer",
        help="pictures of a body: views and poses held out beside the truth, or a novel motion",
        description="As HF-Avatar's infer.py. val: the capture's own frames with PSNR, SSIM and FLIP; nvs are "
        "training poses from cameras kept back, unseen are poses kept back, val is both. test, also odp: a motion "
        "of elsewhere (--novel_pose) seen by a camera of the capture. Writes prediction/, normal/, truth/, frames.json "
        "and a contact sheet. --novel_pose is only looked at in test and odp, as in the original.",
    )
    parser.add_argument("avatar", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    parser.add_argument(
        "--capture", help="a capture's name or folder (default: the one it was trained from, if it ships)"
    )
    parser.add_argument("--infer_mode", "--infer-mode", choices=MODES, default="val", help="default: val")
    parser.add_argument(
        "--novel_view", "--novel-view", type=int, default=-1, metavar="K", help="only camera K (-1: as the split says)"
    )
    parser.add_argument(
        "--novel_pose",
        "--novel-pose",
        metavar="FILE|FOLDER",
        help="a capture, an AMASS or smpl_params .npz, an AIST++ .pkl, a motion of ours, or a prepared subject",
    )
    parser.add_argument("--novel_pose_type", "--novel-pose-type", help="accepted; what a file is, is told by looking")
    parser.add_argument("--novel_pose_view", "--novel-pose-view", type=int, help="as --novel_view, for novel poses")
    parser.add_argument("--up", choices=UPS, help="up axis of --novel_pose's world (default: found from the body)")
    parser.add_argument("--in-place", action="store_true", help="leave the motion where its file has it")
    parser.add_argument(
        "--resolution_level", "--resolution-level", type=int, default=1, help="1, 2 or 4: a whole, half or quarter side"
    )
    parser.add_argument("--through", choices=WAYS, default="gaussians", help="what is drawn (default: gaussians)")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="each N-th frame (0: the original's steps)")
    parser.add_argument("--frames", type=int, help="at most so many pictures")
    parser.add_argument(
        "--legacy-metrics", action="store_true", help="the original's way to measure as well (over black, cropped)"
    )
    parser.add_argument("--lpips", default="", metavar="FOLDER", help="folder with LPIPS's weight files")
    parser.add_argument("--video", type=Path, metavar="FILE", help="with a novel pose: write an MP4 as well")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: ./NAME_MODE)")
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=infer)


def infer(arguments: argparse.Namespace) -> int:
    """Draw, measure where there is a truth, print the means and the folder."""
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture
    from avatars.evaluation.drawn import drawer
    from avatars.evaluation.frame_lists import PARTS

    novel = PARTS[arguments.infer_mode] == ("odp",)
    _check(arguments, novel)
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    folder = Library(library).path(avatar_id)
    device = prepare_device(arguments.device)
    avatar = load_avatar(folder, device)
    capture = open_capture(arguments.capture or trained_from(folder))
    draw = drawer(avatar, arguments.through, device)
    output = (arguments.output or Path(f"{folder.stem}_{arguments.infer_mode}")).expanduser()
    check_writable(output)
    if novel:
        _novel(arguments, avatar, capture, draw, output)
    else:
        _recorded(arguments, avatar, capture, draw, output, device)
    print(output)
    return 0


def _check(arguments: argparse.Namespace, novel: bool) -> None:
    if novel and arguments.novel_pose is None:
        raise BadConfig(
            f"--infer_mode {arguments.infer_mode} needs a --novel_pose", expected="a capture, .npz, .pkl or folder"
        )
    if arguments.video is not None:
        if not novel:
            raise BadConfig("--video belongs to --infer_mode test or odp", do="Leave it out, or give --novel_pose")
        check_video(arguments.video)
    if arguments.frames is not None and arguments.frames < 1:
        raise BadConfig("--frames is too small", found=str(arguments.frames), expected="at least 1")
    if arguments.resolution_level not in (1, 2, 4):
        raise BadConfig("unknown --resolution_level", found=str(arguments.resolution_level), expected="1, 2 or 4")


def _recorded(
    arguments: argparse.Namespace, avatar: Any, capture: Capture, draw: Draw, output: Path, device: str
) -> None:
    from avatars.evaluation.frame_lists import frame_views
    from avatars.evaluation.frames import check_same_rig
    from avatars.evaluation.infer import infer_frames
    from avatars.evaluation.posed_surfaces import surface_of
    from avatars.training.lpips import find_lpips

    check_same_rig(avatar, capture)
    views = frame_views(capture, arguments.infer_mode, arguments.novel_view, arguments.every)[: arguments.frames]
    if not views:
        raise BadConfig(f"capture {capture.name!r} has no frames for {arguments.infer_mode}")
    surface, _ = surface_of(avatar)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Rendering {capture.name}", total=len(views))
        found = infer_frames(
            draw,
            capture,
            views,
            output,
            level=arguments.resolution_level,
            device=device,
            lpips=find_lpips(arguments.lpips, device),
            legacy=(lambda frame: surface(capture.motion.at(frame))[0]) if arguments.legacy_metrics else None,
            tell=lambda done: progress.update(task, completed=done),
        )
    for part, means in found.means.items():
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "pictures")
        print(f"{part}: {numbers or 'no truth'}  ({means['pictures']:.0f} pictures with truth)")


def _novel(arguments: argparse.Namespace, avatar: Any, capture: Capture, draw: Draw, output: Path) -> None:
    from avatars.evaluation.frame_lists import check_view, views_of
    from avatars.evaluation.infer import infer_motion, reduced
    from avatars.evaluation.novel_poses import read_novel_poses
    from shared.types import Motion

    view = arguments.novel_view if arguments.novel_pose_view is None else arguments.novel_pose_view
    view = view if view >= 0 else views_of(capture, "nvs")[0]
    check_view(capture, view)
    poses = read_novel_poses(arguments.novel_pose, avatar.rig(), avatar.template(), arguments.up or "")
    for note in poses.notes:
        print(note)
    if not arguments.in_place:
        poses = _standing(avatar, capture, poses)
    kept = slice(0, None, arguments.every or 1)
    motion = poses.motion
    parts = [part[kept][: arguments.frames] for part in (motion.rotations, motion.translations, motion.expressions)]
    motion = Motion(parts[0], parts[1], parts[2], motion.fps / (arguments.every or 1))
    camera = reduced(capture.cameras[view], arguments.resolution_level)
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        video_or_none(arguments.video, motion.fps) as video,
    ):
        task = progress.add_task(f"Rendering {poses.name}", total=len(motion))
        for picture in infer_motion(
            draw, motion, camera, view, output, lambda done: progress.update(task, completed=done)
        ):
            if video is not None:
                video.add(picture)
    print(f"odp: {len(motion)} frames of {poses.name} ({poses.kind}) seen by view {view}")


def _standing(avatar: Any, capture: Capture, poses: NovelPoses) -> NovelPoses:
    from avatars.evaluation.novel_poses import standing
    from avatars.evaluation.posed_surfaces import surface_of

    surface, _ = surface_of(avatar)
    first = capture.training_frames()[0]
    own, there = (surface(motion.at(at))[0] for motion, at in ((poses.motion, 0), (capture.motion, first)))
    return standing(poses, np.asarray(own), np.asarray(there))
