"""`edit`: a new version of an avatar by a prompt, in this process, with progress and a pausing Ctrl-C.

GaussianAvatar-Editor's own options are accepted, too: `effigy train --use_in2n …` is `effigy edit …`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from backend.cli_chosen import prepare_device
from backend.cli_train import add_gpus, overrides_of, show_training, training_progress
from backend.home import Home, open_home
from backend.interrupts import first_interrupt
from backend.library import SUFFIX, Library, avatar_place, check_name
from backend.options import add_device, add_home
from backend.training_run import into_library
from shared.errors import BadConfig, EnvironmentFailed

if TYPE_CHECKING:
    from avatars.training.config import TrainConfig

INTERRUPTED = 130
FILM_FRAMES, FILM_FPS = 60, 15.0
FILM = "before_and_after.mp4"
CHECKPOINT = re.compile(r"chkpnt(\d+)\.pth")
PUBLISHED_ADVERSARY = {
    "adversarial": "true",
    "edit.adversary": "edits",
    "edit.adversarial_from": "0.8333",
    "edit.adversary_warm_up": "0",
    "edit.weights.adversarial": "0.01",
    "edit.rates.discriminator": "0.0001",
}
IGNORED = (
    "--eval",
    "--bind_to_mesh",
    "--fix_gs_number",
    "--use_densify",
    "--white_background",
    "--use_mouth_loss",
    "--use_mouth_mask",
    "--filter_close_mouth_mask",
)
"""Of the original: said to do nothing there, or what is always done here."""


def add_edit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "edit",
        help="change an avatar by a prompt, as a new version",
        description="The same command again goes on where it was stopped (--again: anew). The parent stays as it is.",
    )
    add = parser.add_argument
    add("given", nargs="?", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    add("--avatar", help="the same")
    add("--prompt", "--text_prompt", default="", help="what is to change, in words")
    add("--editor", help="who edits the pictures (default: built_in; see effigy editors)")
    add("--capture", "-s", "--source_path", default="", help="edit its views (default: views made of the avatar alone)")
    add("--region", default="", help="only these, e.g. hair or skin,lips (default: everywhere)")
    add("--weights", type=Path, metavar="FILE", help="painted: .npy or .npz, one a vertex of the avatar's mesh")
    add("--strength", type=float, help="0..1 (default 0.8)")
    add("--text-guidance", "--guidance_scale", type=float, help="of diffusion editors (default: the editor's own)")
    add("--image-guidance", "--image_guidance_scale", type=float, help="of diffusion editors (default: its own)")
    add("--model", help="weights of a diffusion editor: a folder, or a name in the hub's cache")
    add("--seed", type=int, default=0)
    add("--preset", default="", help="edit_cpu or edit_cuda (default: for this machine)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. edit.rates.colour=0.02")
    add("--name", help="the new version's name (default: parent, prompt)")
    add("--again", action="store_true", help="edit anew though the same was done before")
    add("--no-video", action="store_true", help="no film of before and after")
    add_home(parser)
    add_device(parser)
    add_gpus(parser)
    own = parser.add_argument_group("as GaussianAvatar-Editor")
    add = own.add_argument
    add("--start_checkpoint", type=Path, help="GaussianAvatars' chkpntN.pth; the point cloud beside it is imported")
    add("-m", "--model_path", type=Path, help="GaussianAvatars' model folder; imported where it is not yet")
    add("--different_data", action="store_true", help="the avatar was trained on other sequences (nothing to say here)")
    add("--iterations", type=int, help="of the edit; with --start_checkpoint counted from the checkpoint's")
    add("--interval", type=int, help="steps between checkpoints")
    add("--use_in2n", action="store_true", help="InstructPix2Pix is the editor, unless --editor names another")
    add("--use_grad_mask", action="store_true", help="only what is seen moves: edit.wabe=hard_mask")
    add("--use_grad_mask_alphaT", action="store_true", help="steps by how much is seen: edit.wabe=mask")
    add("--use_gan", action="store_true", help="the adversarial term as published: edit.adversary=edits")
    add("--use_in2nssim", action="store_true", help="structure takes LPIPS' place in the last tenth")
    add("--edit_mask_dir", type=Path, metavar="DIR", help="only what is white in these masks, named as pictures of -s")
    add("--using_mask_continue", action="store_true", help="that --edit_mask_dir is meant (nothing else to say here)")
    add("--training_cano_only", action="store_true", help="edit views of the avatar at rest alone")
    add("--not_finetune_flame_params", action="store_true", help="accepted; edits never change motions")
    for name in IGNORED:
        add(name, action="store_true", help=argparse.SUPPRESS)
    for name in ("--port", "--ip", "--sh_degree"):
        add(name, help=argparse.SUPPRESS)
    parser.set_defaults(run=edit)


def edit(arguments: argparse.Namespace) -> int:
    """Edit, follow the progress, print the new avatar's id and the report."""
    console = Console()
    from avatars.text_edit.run import check_edit, edit_config
    from backend.edit_run import edited
    from backend.on_gpus import check_gpus

    home = open_home(arguments.home)
    device = prepare_device(arguments.device)
    check_gpus(arguments.gpus, device)
    parent = parent_of(arguments, home, device, console)
    config = edit_config(values_of(arguments), arguments.preset)
    weights = painted_weights(arguments, parent)
    capture = "" if arguments.training_cano_only else arguments.capture
    check_edit(config, parent, capture, weights)
    name = arguments.name or f"{parent.name.removesuffix(SUFFIX)} {arguments.prompt}"[:60].strip()
    name = name if arguments.name else re.sub(r"[/\\:*?<>|\"\x00-\x1f]", " ", name)
    check_name(name)
    folder = job_folder(home, name, parent, config, capture, weights)
    if arguments.again:
        shutil.rmtree(folder, ignore_errors=True)
    with training_progress(console) as (progress, task), first_interrupt("Pausing …") as interrupted:
        result = edited(
            config,
            parent,
            capture,
            folder,
            name=name,
            device=device,
            weights=weights,
            on_event=lambda told: show_training(progress, task, told),
            wanted=lambda: "pause" if interrupted.is_set() else "",
            gpus=arguments.gpus,
        )
    if result.state != "done":
        console.print("Paused. The same command goes on from here.")
        return INTERRUPTED
    if not arguments.no_video and importlib.util.find_spec("imageio_ffmpeg") is not None:
        film(parent, result.avatar_folder, arguments.capture, result.report_folder / FILM, config, device)
    seconds = result.metrics.get("training_seconds", math.nan)
    with first_interrupt("Pausing …") as interrupted:
        avatar_id, stopped = into_library(
            Path(result.avatar_folder),
            Library(home.library),
            name,
            lambda told: console.print(told, soft_wrap=True, highlight=False),
            lambda: "pause" if interrupted.is_set() else "",
        )
    if stopped:
        console.print("Paused. The same command goes on from here.")
        return INTERRUPTED
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    console.print(f"Avatar: {avatar_id}  ({seconds:.0f} s)")
    console.print(f"Report: {result.report_folder}", soft_wrap=True)
    return 0


def values_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What the options say, as texts of `edit_config`. Raises BadConfig."""
    if arguments.use_grad_mask and arguments.use_grad_mask_alphaT:
        raise BadConfig("--use_grad_mask and --use_grad_mask_alphaT exclude each other", do="Choose one")
    values = {"prompt": arguments.prompt, "region": arguments.region, "seed": str(arguments.seed)}
    for name in ("strength", "text_guidance", "image_guidance", "model"):
        if getattr(arguments, name) is not None:
            values[name] = str(getattr(arguments, name))
    editor = arguments.editor or ("ip2p" if arguments.use_in2n else "")
    values |= {"editor": editor} if editor else {}
    values |= {"wabe": "hard_mask"} if arguments.use_grad_mask else {}
    values |= {"wabe": "mask"} if arguments.use_grad_mask_alphaT else {}
    values |= PUBLISHED_ADVERSARY if arguments.use_gan else {}
    values |= {"edit.late_structure": "0.9"} if arguments.use_in2nssim else {}
    values |= {"edit.instants": "1"} if arguments.training_cano_only else {}
    if arguments.iterations is not None:
        steps = arguments.iterations - begun_at(arguments.start_checkpoint)
        if steps < 1:
            raise BadConfig("--iterations ends before the checkpoint", found=str(arguments.iterations))
        values["iterations"] = str(steps)
    if arguments.interval is not None:
        values["reporting.checkpoint_images"] = str(arguments.interval)
    return values | overrides_of(arguments.set)


def begun_at(checkpoint: Path | None) -> int:
    """How many iterations made a checkpoint of GaussianAvatars, from its name. Raises BadConfig."""
    if checkpoint is None:
        return 0
    found = CHECKPOINT.fullmatch(checkpoint.name)
    if found is None:
        raise BadConfig("--start_checkpoint is none of GaussianAvatars'", found=checkpoint.name, expected="chkpntN.pth")
    return int(found[1])


def parent_of(arguments: argparse.Namespace, home: Home, device: str, console: Console) -> Path:
    """The folder of the avatar to edit; a model of GaussianAvatars is imported into the library first."""
    model = arguments.start_checkpoint.parent if arguments.start_checkpoint else arguments.model_path
    named = [text for text in (arguments.given, arguments.avatar) if text]
    if len(named) + (model is not None) != 1:
        raise BadConfig("Name one avatar", expected="AVATAR, --avatar, -m or --start_checkpoint")
    if model is None:
        library, avatar_id = avatar_place(named[0], home.library)
        return Library(library).path(avatar_id)
    from backend.importing import import_into_library
    from shared.desk_messages import StartImport

    cloud = model.expanduser()
    begun = begun_at(arguments.start_checkpoint)
    if begun and (cloud / "point_cloud" / f"iteration_{begun}").is_dir():
        cloud = cloud / "point_cloud" / f"iteration_{begun}"
    if begun and not (cloud / "point_cloud.ply").is_file() and not (cloud / "point_cloud").is_dir():
        raise BadConfig(
            f"there is no point cloud beside {arguments.start_checkpoint.name}, which itself is a pickle and not read",
            expected=f"point_cloud/iteration_{begun}/point_cloud.ply",
        )
    asked = StartImport(key="edit", source=str(cloud.absolute()), name=f"{model.name} original"[:60])
    avatar_id, notes = import_into_library(home, asked, device)
    for note in (f"Imported as {avatar_id}", *notes):
        console.print(note, soft_wrap=True, highlight=False)
    return Library(home.library).path(avatar_id)


def painted_weights(arguments: argparse.Namespace, parent: Path) -> NDArray[np.float32] | None:
    """How much each vertex of the avatar's mesh may change, painted or drawn; None for all. Raises BadConfig."""
    if arguments.edit_mask_dir is None:
        if arguments.using_mask_continue:
            raise BadConfig("--using_mask_continue needs masks", do="Name their folder with --edit_mask_dir")
        from avatars.text_edit.gates import read_weights

        return read_weights(arguments.weights) if arguments.weights else None
    if arguments.weights or not arguments.capture:
        raise BadConfig("--edit_mask_dir needs -s, whose pictures its masks are named as, and no --weights")
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture
    from avatars.text_edit.drawn import drawn_weights
    from avatars.text_edit.run import check_fits

    capture = open_capture(arguments.capture)
    check_fits(parent, capture)
    return drawn_weights(load_avatar(parent), capture, arguments.edit_mask_dir.expanduser())


def job_folder(
    home: Home, name: str, parent: Path, config: TrainConfig, capture: str, weights: NDArray[np.float32] | None
) -> Path:
    """Where the run keeps its things: the same for the same edit of the same avatar."""
    from avatars.avatar_folder import avatar_digest

    painted = "" if weights is None else hashlib.sha256(weights.tobytes()).hexdigest()
    values = dataclasses.asdict(config)
    values.pop("reporting")
    content = json.dumps([name, avatar_digest(parent), capture, painted, values], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    return home.jobs / f"edit-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:40]}-{key}"


def film(before: Path, after: Path, capture: str, path: Path, config: TrainConfig, device: str) -> None:
    """A short film, before beside after, through a motion of the capture, or of the avatar's own template."""
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture
    from avatars.evaluation.frames import over, render_shots
    from avatars.text_edit.generated import film_shots
    from avatars.training.evaluation import as_uint8
    from backend.video import VideoFile

    pair = [load_avatar(before, device), load_avatar(after, device)]
    recorded = open_capture(capture) if capture else None
    motion, shots = film_shots(pair[0], recorded, FILM_FRAMES, config.size_px, config.seed, device)
    streams: list[Any] = [render_shots(avatar, motion, shots, device, 1) for avatar in pair]
    try:
        with VideoFile(path, FILM_FPS) as video:
            for both in zip(*streams, strict=True):
                video.add(np.concatenate([as_uint8(over(one, 1.0)[0]) for one in both], 1))
    except OSError as error:
        raise EnvironmentFailed("The film cannot be written", found=f"{path}: {error.strerror}") from error
