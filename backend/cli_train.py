"""`train`: make an avatar from a capture, on a running server or in this process, with progress and a clean Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from backend.cli_lists import add_client_options, client_of
from backend.following import begin_job, follow_job, pause_job
from backend.home import open_home
from backend.interrupts import first_interrupt
from backend.library import Library
from backend.result_folder import result_folder, train_into
from shared.client import BackendClient
from shared.errors import BadConfig, Cancelled, WorkerFailed
from shared.messages import StartTraining

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.training.config import TrainConfig
    from avatars.training.progress import TrainResult
    from avatars.training.rgbavatar_yaml import OriginalConfig

INTERRUPTED = 130
DEFAULT_CAPTURE, DEFAULT_PRESET, DEFAULT_ORIGINAL_PRESET = "demo_head", "demo_cpu", "rgb_head_offline"


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train an avatar",
        description="The same command again goes on where it was stopped, or says that it is done (--again: anew). "
        "With --subject it does what RGBAvatar's train_offline.py does.",
    )
    parser.add_argument("--capture", help="name of an embedded capture, or a folder (default: demo_head)")
    parser.add_argument(
        "--preset",
        "--config",
        metavar="PRESET",
        help="a training preset, or a YAML file of ours or RGBAvatar's "
        f"(default: {DEFAULT_PRESET}; with --subject {DEFAULT_ORIGINAL_PRESET})",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    parser.add_argument("--name", help="the avatar's name (default: the capture's)")
    parser.add_argument("--split", choices=("train", "test", "all"), default="train", help="images to train on")
    parser.add_argument("--log", action="store_true", help="write a TensorBoard log as well")
    parser.add_argument("--preload", action="store_true", help="accepted; pictures are in memory wherever they fit")
    parser.add_argument("--again", action="store_true", help="train anew though the same was trained before")
    parser.add_argument("--local", action="store_true", help="train in this process, without a server")
    add_gpus(parser)
    parser.add_argument("--home", type=Path, help="with --local: data folder (default: $EFFIGY_HOME or ~/.effigy)")
    parser.add_argument("--device", default="auto", help="with --local or --subject: auto, cpu, cuda or cuda:N")
    folder = parser.add_argument_group("as RGBAvatar: into <output_dir>/<subject>/<work_name>, in this process")
    folder.add_argument("--subject", help="the capture is <data_dir>/<subject>")
    folder.add_argument("--work_name", "--work-name", help="default: the time; deleted first where it is there")
    folder.add_argument("--data_dir", "--data-dir", help="default: the configuration's, or data")
    folder.add_argument("--output_dir", "--output-dir", help="default: the configuration's, or output")
    folder.add_argument("--resume", action="store_true", help="go on with a run that was stopped, deleting nothing")
    add_client_options(parser)
    parser.set_defaults(run=train)


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Declare --gpus of a command that trains."""
    parser.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="train on N GPUs of the machine at once (torchrun); a stopped run may go on with another number",
    )


def train(arguments: argparse.Namespace) -> int:
    """Train, follow the progress, print the avatar's id or the result folder."""
    console = Console()
    _check_forms(arguments)
    overrides = _all_overrides(arguments)
    preset = arguments.preset or (DEFAULT_ORIGINAL_PRESET if arguments.subject else DEFAULT_PRESET)
    original = _read_original(preset, console)
    if arguments.subject:
        return _train_into_folder(arguments, preset, overrides, original, console)
    asked = request_of(arguments, preset, overrides)
    if arguments.local:
        return _train_here(arguments, asked, console)
    with client_of(arguments) as client:
        return _train_there(client, asked, console)


def _check_forms(arguments: argparse.Namespace) -> None:
    if arguments.subject is None:
        for option in ("work_name", "data_dir", "output_dir", "resume"):
            if getattr(arguments, option):
                raise BadConfig(f"--{option} belongs to --subject, which was not given", do="Name a --subject")
    for option in ("capture", "name"):
        if arguments.subject is not None and getattr(arguments, option) is not None:
            raise BadConfig(
                f"--{option} does not go with --subject, which names capture and avatar", do="Leave one out"
            )


def _all_overrides(arguments: argparse.Namespace) -> dict[str, str]:
    overrides = overrides_of(arguments.set)
    if arguments.split != "train":
        overrides["split"] = arguments.split
    if arguments.log:
        overrides["reporting.tensorboard"] = "true"
    return overrides


def _read_original(preset: str, console: Console) -> OriginalConfig | None:
    """RGBAvatar's file where it is one, with a line for each key that does nothing here. Raises BadConfig."""
    if not preset.endswith((".yaml", ".yml")):
        return None
    from avatars.training.config import original_config

    original = original_config(preset)
    if original is None:
        return None
    if original.sampler is not None:
        raise BadConfig(
            f"{Path(preset).name} is a configuration of online training",
            found="train.sampler",
            do="Use it with: effigy online --config",
        )
    for remark in original.remarks:
        console.print(f"{Path(preset).name}: {remark}", soft_wrap=True, highlight=False)
    return original


def request_of(arguments: argparse.Namespace, preset: str, overrides: dict[str, str]) -> StartTraining:
    """The training asked for. Its key comes from its content, so the same command is the same job."""
    given = arguments.capture or DEFAULT_CAPTURE
    folder = Path(given).expanduser()
    capture = str(folder.absolute()) if folder.is_dir() else given
    file = Path(preset).expanduser()
    preset = str(file.absolute()) if file.suffix and file.is_file() else preset  # a server has another working folder
    name = arguments.name or folder.name
    content = json.dumps([name, capture, preset, overrides], sort_keys=True)
    key = uuid.uuid4().hex if arguments.again else hashlib.sha256(content.encode()).hexdigest()[:16]
    return StartTraining(key, name, capture, preset, overrides, arguments.gpus)


def overrides_of(texts: list[str]) -> dict[str, str]:
    """`--set` options as a table. Raises BadConfig."""
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadConfig("An override is not of the form KEY=VALUE", found=text, expected="for example seed=1")
        overrides[name] = value
    return overrides


# --- on a server -----------------------------------------------------------------------------------------------------
def _train_there(client: BackendClient, asked: StartTraining, console: Console) -> int:
    job = begin_job(client, asked)
    try:
        with training_progress(console) as (progress, task):
            job = follow_job(client, job, lambda told: show_training(progress, task, told))
    except KeyboardInterrupt:
        console.print("Pausing …")
        pause_job(client, job)
        console.print(f"Paused. The same command goes on, and so does: effigy jobs resume {job.job_id}")
        return INTERRUPTED
    if job.state == "done":
        _tell_done(console, job.avatar_id, job.report_folder)
        return 0
    if job.state == "failed":
        raise WorkerFailed(f"Training {job.name} failed: {job.message}")
    raise Cancelled(f"The job was {job.state} elsewhere", do=f"To go on: effigy jobs resume {job.job_id}")


# --- here --------------------------------------------------------------------------------------------------------
def _train_here(arguments: argparse.Namespace, asked: StartTraining, console: Console) -> int:
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.training_run import run_training

    home = open_home(arguments.home)
    folder = home.jobs / f"local-{re.sub(r'[^A-Za-z0-9_-]+', '_', asked.name)[:40]}-{asked.key}"
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    with training_progress(console) as (progress, task), first_interrupt("Pausing …") as interrupted:
        outcome = run_training(
            asked,
            folder,
            Library(home.library),
            device,
            lambda told: show_training(progress, task, told),
            lambda: "pause" if interrupted.is_set() else "",
        )
    if outcome.state == "done":
        _tell_done(console, outcome.avatar_id, outcome.report_folder)
        return 0
    console.print("Paused. The same command goes on from here.")
    return INTERRUPTED


def _train_into_folder(
    arguments: argparse.Namespace,
    preset: str,
    overrides: dict[str, str],
    original: OriginalConfig | None,
    console: Console,
) -> int:
    from backend.devices import resolve_device, usable_cores, use_cores

    data_dir = arguments.data_dir or (original.data_dir if original is not None else "data")
    output_dir = arguments.output_dir or (original.output_dir if original is not None else "output")
    if arguments.resume and not arguments.work_name:
        raise BadConfig("--resume needs the --work_name of the run to go on with")
    result = result_folder(data_dir, output_dir, arguments.subject, arguments.work_name)
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    with training_progress(console) as (progress, task), first_interrupt("Pausing …") as interrupted:
        state, notes = train_into(
            result,
            preset,
            overrides,
            device,
            lambda told: show_training(progress, task, told),
            lambda: "pause" if interrupted.is_set() else "",
            resume=arguments.resume,
            gpus=arguments.gpus,
        )
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    if state == "done":
        console.print(f"Result: {result.path}", soft_wrap=True)
        return 0
    console.print(f"Paused. To go on: the same command with --work_name {result.path.name} --resume", soft_wrap=True)
    return INTERRUPTED


# --- showing -----------------------------------------------------------------------------------------------------
def train_in_sight(
    config: TrainConfig,
    place: str,
    capture: Capture,
    output: Path,
    *,
    name: str,
    device: str,
    console: Console,
    gpus: int,
) -> TrainResult:
    """training_run.trained with its progress on the console; the first Ctrl-C pauses it."""
    from backend.training_run import trained

    with training_progress(console) as (progress, task), first_interrupt("Pausing …") as interrupted:
        return trained(
            config,
            place,
            output,
            name=name,
            device=device,
            on_event=lambda told: show_training(progress, task, told),
            wanted=lambda: "pause" if interrupted.is_set() else "",
            gpus=gpus,
            capture=capture,
        )


@contextlib.contextmanager
def training_progress(console: Console) -> Iterator[tuple[Progress, TaskID]]:
    """A line of progress for `show_training`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task("Waiting", total=None, speed="", losses="")


def show_training(progress: Progress, task: TaskID, told: Any) -> None:
    """Show a JobInfo or avatars.training's Progress; both name these fields alike."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in list(told.losses.items())[:4])
    eta = f" {told.eta_s:.0f} s left" if told.eta_s else ""
    progress.update(
        task,
        description=(told.message or "Training")[:60],
        completed=told.step,
        total=told.steps or None,
        speed=f"{told.images_per_s:.1f} images/s" if told.images_per_s else "",
        losses=losses + eta,
    )


def _tell_done(console: Console, avatar_id: str, report_folder: str) -> None:
    console.print(f"Avatar: {avatar_id}")
    console.print(f"Report: {report_folder}", soft_wrap=True)
