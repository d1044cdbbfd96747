"""`capture refine`: a track mended by a head trained on the person: the same fit as in training, the avatar frozen."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import prepare_device
from backend.home import default_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from shared.errors import BadConfig

LEAST_PX = 32


def add_capture_refine(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = actions.add_parser(
        "refine",
        help="mend the track of a recording by a head trained on the person",
        description="Fits pose, jaw, gaze and expressions of every frame to its picture, the avatar frozen, and writes "
        "a motion: `effigy render --motion FILE` plays it, `effigy train --set data.parameters=FILE` trains with it.",
    )
    parser.add_argument("avatar", help="an RGB head: an id of the library, or a NAME.avatar folder")
    parser.add_argument("capture", help="the recording's folder, or the name of an embedded capture")
    parser.add_argument("--output", type=Path, default=Path("refined.npz"), help="file to write (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="of the fit, for each frame (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="longest side of the pictures, px (default: %(default)s)")
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=refine_capture)


def refine_capture(arguments: argparse.Namespace) -> int:
    """Fit and write."""
    import torch

    from avatars.captures.opening import open_capture
    from avatars.relit_head.start import trained_before
    from avatars.training.changed_data import write_refined
    from avatars.training.config import LossWeights, TrainConfig
    from avatars.training.data import load_pictures
    from avatars.training.refine_settings import RefineConfig
    from avatars.training.refit import fit_frames

    if arguments.steps < 1 or arguments.size < LEAST_PX:
        raise BadConfig(f"--steps must be at least 1 and --size at least {LEAST_PX}")
    if arguments.output.suffix != ".npz":
        raise BadConfig("--output is a file of another kind", found=arguments.output.name, expected="NAME.npz")
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    device = prepare_device(arguments.device)
    capture = open_capture(arguments.capture)
    config = TrainConfig(refine=RefineConfig("always"), losses=LossWeights(l1=0.8, ssim=0.2, alpha=0.1))
    folder = Library(library).path(avatar_id)
    trainer = trained_before(str(folder), config, capture, device, "the avatar")
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Fitting frames", total=len(capture.images))
        pictures = load_pictures(capture, range(len(capture.images)), arguments.size, torch.device(device))
        fit_frames(
            trainer,
            pictures,
            config.schedule.images,
            arguments.steps,
            lambda done: bar.update(task, completed=done),
        )
    if trainer.refinement is None:
        raise BadConfig("nothing was refined")
    written = write_refined(arguments.output, capture, trainer.refinement)
    Console().print(f"{written}: changed by {trainer.refinement.size()}", soft_wrap=True, highlight=False)
    return 0
