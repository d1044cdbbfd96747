"""`evaluate`: an avatar against every frame of its capture, in numbers and in a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import Chosen, add_choice, check_writable, chosen, open_chosen, prepare_device
from shared.errors import BadConfig

BY_CAPTURE = "capture"
ORIGINAL_SPLIT = "-350"
PARTS = ("train", "test", "val")


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure an avatar against its capture",
        description="L1, L2, PSNR, SSIM, MS-SSIM, FLIP, and LPIPS where its weights are present, for every frame. Over "
        "white, means by the capture's own split, values cut to 0..1: the numbers of the training report. With "
        "--subject as RGBAvatar's calculate_metrics.py: over black, means before and after --split -350, not cut.",
    )
    add_choice(
        parser, "a capture's name or folder (default: the one it was trained from, where that ships with Effigy)"
    )
    parser.add_argument(
        "--split", help="'capture' (train, test), or an index such as -350: means before and from it on"
    )
    parser.add_argument("--background", choices=("white", "black"), help="behind both pictures")
    parser.add_argument("--clamp", action=argparse.BooleanOptionalAction, help="cut the avatar's values to 0..1 first")
    parser.add_argument("--size", type=int, help="longer side, px (default: as in the training report)")
    parser.add_argument("--only", choices=PARTS, help="only these images of the capture")
    parser.add_argument("--batch", type=int, default=10, help="images rendered at once")
    parser.add_argument("--lpips", type=Path, metavar="FOLDER", help="folder with LPIPS's weight files")
    parser.add_argument(
        "--output", type=Path, help="folder for metrics.* (default: the result folder, or ./NAME_metrics)"
    )
    parser.set_defaults(run=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure, write the files, print the means."""
    from avatars.evaluation.frames import check_same_rig
    from avatars.evaluation.measure import Viewing, measure_avatar
    from avatars.evaluation.results import capture_groups, index_groups, text_table, write_evaluation
    from avatars.training.lpips import find_lpips

    choice = chosen(arguments)
    index = split_index(arguments.split or (ORIGINAL_SPLIT if choice.result else BY_CAPTURE))
    device = prepare_device(arguments.device)
    avatar, capture = open_chosen(choice, device)
    check_same_rig(avatar, capture)
    images = capture.split(arguments.only) if arguments.only else tuple(range(len(capture.images)))
    if not images:
        raise BadConfig(f"capture {capture.name!r} has no {arguments.only} images")
    viewing = Viewing(
        size_px=arguments.size or report_size_px(choice, capture),
        background=arguments.background or ("black" if choice.result else "white"),
        clamp=choice.result is None if arguments.clamp is None else arguments.clamp,
        batch=arguments.batch,
    )
    output = arguments.output or choice.result or Path(f"{choice.title}_metrics")
    check_writable(output)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Measuring {choice.title}", total=len(images))
        measured = measure_avatar(
            avatar,
            capture,
            images,
            viewing,
            device=device,
            lpips=find_lpips(str(arguments.lpips or ""), device),
            tell=lambda done: progress.update(task, completed=done),
        )
    groups = capture_groups(capture, images) if index is None else index_groups(len(images), index)
    means = write_evaluation(output, avatar, capture, measured, groups, device)
    width, height = capture.train_size(viewing.size_px)
    print(f"{choice.title} against {capture.name}, {width}x{height} over {viewing.background}")
    print(text_table(means), end="")
    for name, rows in groups.items():
        if not len(rows):
            print(f"There are no frames {name}: the capture has {len(images)}.")
    print(output)
    return 0


def split_index(text: str) -> int | None:
    """None for 'capture', else the index. Raises BadConfig."""
    if text == BY_CAPTURE:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise BadConfig("--split is neither", found=text, expected="'capture' or an index such as -350") from error


def report_size_px(choice: Chosen, capture: Any) -> int:
    """The longer side its training report was measured at, or the recorded pictures' where that is not written."""
    from avatars.avatar_folder import read_description

    camera = capture.cameras[0]
    recorded = max(camera.width_px, camera.height_px)
    if not choice.folder.is_dir():  # a model.ply of RGBAvatar's
        return int(recorded)
    try:
        return int(read_description(choice.folder)["training"]["evaluation"]["size_px"])
    except (KeyError, TypeError, ValueError):
        return int(recorded)
