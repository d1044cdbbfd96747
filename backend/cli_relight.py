"""`relight`: relightable people (DNF-Avatar), from the implicit teacher on; the original's words are accepted, too."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from backend.cli_relight_student import add_student_actions
from backend.cli_train import add_gpus, overrides_of, train_in_sight
from backend.interrupts import first_interrupt
from backend.options import add_device
from backend.relight_words import capture_folder, read_words, teacher_folder
from shared.errors import BadConfig

INTERRUPTED = 130
WORDS_HELP = "words of the original's launcher, e.g. implicit_branch/dataset=peoplesnapshot/male-3-casual"


def add_relight(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its actions."""
    parser = commands.add_parser(
        "relight", help="relightable people: teacher, pseudo ground truth, distillation, relit pictures"
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    teacher = actions.add_parser(
        "teacher",
        help="train an implicit teacher from one recording",
        description="Leaves OUTPUT/NAME.teacher and OUTPUT/report. The same command again goes on.",
    )
    teacher.add_argument("--capture", help="the recording's folder, or the name of an embedded one")
    teacher.add_argument(
        "--preset", default="relit_teacher_paper", help="relit_teacher_paper (CUDA) or _cpu, or a YAML"
    )
    teacher.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    teacher.add_argument("--name", help="the teacher's name (default: the recording's)")
    teacher.add_argument("--output", type=Path, default=Path("relight"), help="folder to write (default: relight)")
    add_gpus(teacher)
    teacher.set_defaults(run=train_teacher)
    pseudo = actions.add_parser(
        "pseudo-gt",
        help="render what a student learns from: all training pictures and 310 further poses",
        description="The same command again goes on where it was stopped.",
    )
    pseudo.add_argument("--teacher", help="a NAME.teacher folder")
    pseudo.add_argument("--capture", help="the recording it was trained on")
    pseudo.add_argument("--output", type=Path, help="folder to write (default: NAME.pseudo-gt beside the teacher)")
    pseudo.add_argument("--motion", type=Path, help="poses of an AMASS or SMPL-X .npz in place of the varied ones")
    pseudo.add_argument("--poses", type=int, default=310, help="how many further poses, 0 for none (default 310)")
    pseudo.add_argument("--no-training", action="store_true", help="leave the training pictures out")
    pseudo.add_argument("--size", type=int, default=540, help="longest side in px (default 540)")
    pseudo.add_argument("--samples", type=int, default=0, help="light directions a pixel (default: as trained)")
    pseudo.set_defaults(run=render_pseudo)
    student = add_student_actions(actions)
    for action in (teacher, pseudo, *student):
        action.add_argument("words", nargs="*", metavar="KEY=VALUE", help=WORDS_HELP)
        action.add_argument("--data", type=Path, default=Path("load"), help="where named data sets lie (default: load)")
        add_device(action)


def train_teacher(arguments: argparse.Namespace) -> int:
    """Train in this process with progress and a clean Ctrl-C."""
    from avatars.captures.opening import open_capture
    from avatars.training.config import TEACHER, load_config
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.on_gpus import check_gpus

    asked = read_words(arguments.words, ("capture", "name", "steps", "seed"))
    if asked.mode not in ("", "teacher"):
        raise BadConfig(
            f"training_mode={asked.mode} is not this command's",
            do="Distil with: effigy relight distill",
        )
    overrides = overrides_of(arguments.set)
    overrides |= {
        key: asked.values[word]
        for word, key in (("steps", "schedule.images"), ("seed", "seed"))
        if word in asked.values
    }
    config = load_config(arguments.preset, overrides)
    if config.method != TEACHER:
        raise BadConfig(f"preset {arguments.preset!r} trains no teacher", found=config.method, expected=TEACHER)
    given = arguments.capture or asked.values.get("capture")
    if not given:
        raise BadConfig("no recording is given", do="Name one with --capture")
    place = capture_folder(given, arguments.data)
    capture = open_capture(place)
    name = arguments.name or asked.values.get("name") or capture.name
    device = resolve_device(arguments.device)
    check_gpus(arguments.gpus, device)
    use_cores(usable_cores())
    console = Console()
    output = Path(arguments.output).expanduser()
    result = train_in_sight(
        config, place, capture, output, name=name, device=device, console=console, gpus=arguments.gpus
    )
    if result.state != "done":
        console.print("Paused. The same command goes on.")
        return INTERRUPTED
    console.print(f"Teacher: {output / name}.teacher", soft_wrap=True)
    console.print(f"Report: {result.report_folder}", soft_wrap=True)
    return 0


def render_pseudo(arguments: argparse.Namespace) -> int:
    """Render rows that are missing, with progress and a clean Ctrl-C."""
    from avatars.captures.opening import open_capture
    from avatars.relit_body.pose_set import poses_of_motion, varied_poses
    from avatars.relit_body.pseudo_truth import render_pseudo_truth
    from avatars.relit_field.storage import DESCRIPTION, open_teacher
    from backend.devices import resolve_device, usable_cores, use_cores
    from shared.errors import Cancelled
    from shared.motions import read_smpl_motion

    asked = read_words(arguments.words, ("capture", "teacher", "name"))
    teacher_text = arguments.teacher or asked.values.get("teacher")
    given = arguments.capture or asked.values.get("capture")
    if not teacher_text or not given:
        raise BadConfig("a teacher and its recording are needed", do="Give --teacher and --capture")
    if arguments.size < 8 or arguments.poses < 0:
        raise BadConfig("--size or --poses is too small", found=f"{arguments.size}, {arguments.poses}")
    folder = teacher_folder(teacher_text)
    use_cores(usable_cores())
    teacher = open_teacher(folder, resolve_device(arguments.device), samples=arguments.samples)
    capture = open_capture(capture_folder(given, arguments.data))
    poses = None
    if arguments.motion is not None:
        poses = poses_of_motion(teacher.template(), read_smpl_motion(arguments.motion), arguments.poses or 310)
    elif arguments.poses:
        poses = varied_poses(teacher.template(), arguments.poses)
    output = Path(arguments.output or folder.with_suffix(".pseudo-gt")).expanduser()
    digest = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["sha256"]
    console = Console()
    with Progress(console=console) as bar, first_interrupt("Stopping …") as interrupted:
        task = bar.add_task("Rendering", total=None)
        try:
            rows = render_pseudo_truth(
                teacher,
                capture,
                poses,
                output,
                longest_px=arguments.size,
                training=not arguments.no_training,
                identity=f"{digest} {arguments.samples}",
                tell=lambda done, of: bar.update(task, completed=done, total=of),
                wanted=lambda: not interrupted.is_set(),
            )
        except Cancelled as stopped:
            console.print(str(stopped))
            return INTERRUPTED
    console.print(f"Pseudo ground truth: {rows} pictures in {output}", soft_wrap=True)
    return 0
