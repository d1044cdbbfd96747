"""`online`: a head that learns while its frames arrive, in this process or on a server; and `benchmark online`."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from backend.cli_lists import add_client_options, client_of
from backend.cli_train import overrides_of
from backend.following import newest_job
from backend.interrupts import first_interrupt
from backend.online_run import check_online, default_preset, open_source, told
from backend.options import add_device
from backend.result_folder import SETTINGS, ResultFolder, delete_result, result_folder, write_as_rgbavatar
from shared.client import BackendClient
from shared.errors import BadConfig, Cancelled, EffigyError, EnvironmentFailed, WorkerFailed
from shared.messages import ChangeJob, JobInfo, StartOnline

INTERRUPTED = 130
SHOW_EVERY_S, LOG_EVERY_S, STOP_WAIT_S = 0.5, 2.0, 60.0
ACTIVE = ("queued", "running", "paused")


def add_online(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "online",
        help="train a head while its frames arrive",
        description="Ctrl-C ends the stream there and saves. The result is <output_dir>/<subject>/<work_name>/, or "
        "with --server an avatar of the server's library, which Blender can show from its first frames on.",
    )
    source = parser.add_argument_group("frames (one of)")
    source.add_argument("--capture", help="replay a capture: its name or folder")
    source.add_argument("--video", help="replay a video file, with --track and, where it has no alpha, --mask")
    source.add_argument("--listen", metavar="ADDRESS", help="wait for a tracker at tcp://127.0.0.1:PORT")
    source.add_argument("--live", metavar="SOURCE", help="follow a face in a camera (its number) or a video file")
    parser.add_argument("--track", default="", help="with --video: the .npz or folder with its poses and cameras")
    parser.add_argument("--mask", default="", help="with --video: a second video, white where the person is")
    parser.add_argument("--camera", default="", help="with --capture: the only camera to show")
    parser.add_argument("--video_fps", "--video-fps", type=float, default=25.0, help="of a replay; 0: as recorded")
    parser.add_argument("--preset", "--config", help="an online preset or a YAML file, RGBAvatar's online.yaml too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. sampler.pool=500")
    parser.add_argument("--subject", help="the result's name; without a source the capture is <data_dir>/SUBJECT")
    parser.add_argument("--work_name", "--work-name", help="default: the time; deleted first where it is there")
    parser.add_argument("--data_dir", "--data-dir", default="data")
    parser.add_argument("--output_dir", "--output-dir", default="output")
    parser.add_argument("--log", action="store_true", help="write a TensorBoard log as well")
    add_device(parser)
    parser.add_argument("--server", action="store_true", help="learn on the running server; Blender can look on")
    add_client_options(parser)
    parser.set_defaults(run=online)


def add_online_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare `benchmark online`."""
    parser = kinds.add_parser("online", help="held-out quality after so many seconds of live training")
    parser.add_argument("--capture", default="demo_head")
    parser.add_argument("--preset", help="an online preset or YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0, 60.0], help="when to look")
    parser.add_argument("--post", type=int, default=0, help="images of post-processing when the stream is over")
    parser.add_argument("--render-fps", type=float, default=0.0, help="pictures a second asked for meanwhile")
    parser.add_argument("--offline", action="store_true", help="also offline, with as many images")
    add_device(parser)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_online)


def online(arguments: argparse.Namespace) -> int:
    """Learn, follow the progress, print where the result is."""
    asked, subject = request_of(arguments)
    console = Console()
    if arguments.server:
        with client_of(arguments) as client:
            return _learn_there(client, asked, console)
    return _learn_here(arguments, asked, subject, console)


def request_of(arguments: argparse.Namespace) -> tuple[StartOnline, str]:
    """What is asked for, and the name of the result. Raises BadConfig."""
    given = [
        (name, getattr(arguments, name)) for name in ("capture", "video", "listen", "live") if getattr(arguments, name)
    ]
    if len(given) > 1:
        raise BadConfig("Name one source of frames", found=" and ".join(f"--{name}" for name, _ in given))
    if not given:
        if not arguments.subject:
            raise BadConfig("Name a source of frames", expected="--capture, --video with --track, --listen or --live")
        given = [("capture", str(Path(arguments.data_dir).expanduser() / arguments.subject))]
    (source, location) = given[0]
    place = Path(location).expanduser()
    if source != "listen" and place.exists():
        location = str(place.absolute())
    if source == "live":
        source, unnamed = "track", location.strip().isdecimal()
    else:
        unnamed = source == "listen"
    subject = arguments.subject or ("tracked" if unnamed else place.stem)
    preset = arguments.preset or ""
    file = Path(preset).expanduser()
    preset = str(file.absolute()) if file.suffix and file.is_file() else preset
    asked = StartOnline(
        uuid.uuid4().hex,
        subject,
        source,
        location,
        _absolute(arguments.track),
        _absolute(arguments.mask),
        arguments.camera,
        preset,
        overrides_of(arguments.set),
        arguments.video_fps,
    )
    return asked, subject


def _absolute(text: str) -> str:
    """A server has another working folder."""
    return str(Path(text).expanduser().absolute()) if text else ""


# --- on a server -----------------------------------------------------------------------------------------------------
def _learn_there(client: BackendClient, asked: StartOnline, console: Console) -> int:
    client.events()
    job: JobInfo = client.request(asked, timeout_s=STOP_WAIT_S)
    try:
        with _line(console) as show:
            shown_id = ""
            while job.state in ACTIVE:
                if job.avatar_id and job.avatar_id != shown_id:
                    shown_id = job.avatar_id
                    console.print(f"Learning as the avatar {shown_id}")
                show(job.message, job.images_per_s, job.losses)
                job = newest_job(client, job)
    except KeyboardInterrupt:
        console.print("Ending the stream and saving …")
        job = client.request(ChangeJob(job.job_id, "stop"))
        until = time.monotonic() + STOP_WAIT_S
        while job.state in ACTIVE and time.monotonic() < until:
            job = newest_job(client, job)
    if job.state == "done":
        console.print(f"Avatar: {job.avatar_id}")
        console.print(f"Report: {job.report_folder}", soft_wrap=True)
        return 0
    if job.state == "failed":
        raise WorkerFailed(f"Learning {job.name} failed: {job.message}")
    raise Cancelled(f"The live training was {job.state}")


# --- here --------------------------------------------------------------------------------------------------------
def _learn_here(arguments: argparse.Namespace, asked: StartOnline, subject: str, console: Console) -> int:
    from avatars.online.config import load_online_config
    from avatars.online.session import Session
    from avatars.training.tensorboard import FOLDER, TensorBoardLog, check_tensorboard
    from backend.devices import resolve_device, usable_cores, use_cores

    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    asked = replace(asked, preset=asked.preset or default_preset(device))
    if arguments.log:
        check_tensorboard()
    check_online(asked)
    config = load_online_config(asked.preset, asked.overrides)
    source = open_source(asked, config)
    result = result_folder(arguments.data_dir, arguments.output_dir, subject, arguments.work_name)
    _prepare(result, asked)
    session = Session(source, config, device, result.path)
    log = TensorBoardLog(result.path / FOLDER) if arguments.log else None
    if asked.source == "listen":
        console.print(f"Waiting for a tracker at {source.address}")
    try:
        with _line(console) as show, first_interrupt("Ending the stream and saving …") as interrupted:
            session.start()
            noted = 0.0
            while not session.over() and not interrupted.is_set():
                time.sleep(SHOW_EVERY_S)
                status = session.status
                text, losses = told(status)
                show(text, status.learner.images_per_s, losses)
                if log is not None and time.monotonic() - noted > LOG_EVERY_S:
                    noted = time.monotonic()
                    log.note(_progress(session, text, losses))
        session.stop()
        if session.failure is not None:
            raise session.failure
        if not session.status.learner.images:
            raise EffigyError("Nothing was learned, so nothing was saved", found=told(session.status)[0])
        session.save(result.avatar, subject)
        notes = write_as_rgbavatar(result)
    finally:
        session.close()
        if log is not None:
            log.finish({})
        if not session.status.learner.images:
            shutil.rmtree(result.path, ignore_errors=True)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    for reason, count in session.status.left_out.items():
        console.print(f"{count} frames left out: {reason}")
    console.print(f"Result: {result.path}", soft_wrap=True)
    return INTERRUPTED if interrupted.is_set() else 0


def _prepare(result: ResultFolder, asked: StartOnline) -> None:
    """An empty result folder with the note where the capture is, which `evaluate` and `render` read."""
    capture = asked.location if asked.source == "capture" else ""
    try:
        if result.path.exists():
            delete_result(result.path)
        result.path.mkdir(parents=True)
        document = {"subject": result.subject, "capture": capture, "source": asked.source, "location": asked.location}
        (result.path / SETTINGS).write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailed(
            "The result folder cannot be written",
            found=f"{error.filename or result.path}: {error.strerror}",
            do="Choose another --output_dir",
        ) from error


def _progress(session: Any, text: str, losses: dict[str, float]) -> Any:
    from avatars.training.progress import Progress

    inner = session.status.learner
    return Progress(inner.images, 0, inner.images_per_s, losses, message=text, preview=session.preview())


@contextlib.contextmanager
def _line(console: Console) -> Iterator[Any]:
    """A status line; yields a function of (message, images a second, losses)."""
    with console.status("Waiting") as status:

        def show(message: str, images_per_s: float, losses: dict[str, float]) -> None:
            numbers = " ".join(f"{name} {value:.4f}" for name, value in list(losses.items())[:3])
            status.update(f"{message}, {images_per_s:.1f} images/s  {numbers}")

        yield show


def benchmark_online(arguments: argparse.Namespace) -> int:
    """Run avatars.online.benchmark and print its figures."""
    from avatars.captures.opening import open_capture
    from avatars.online.benchmark import OnlineBenchmark, run_online_benchmark
    from avatars.online.config import load_online_config
    from avatars.warm_up import compile_kernels
    from backend.devices import resolve_device, usable_cores, use_cores

    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    overrides = overrides_of(arguments.set)
    if arguments.post:
        overrides["post_process_images"] = str(arguments.post)
    config = load_online_config(arguments.preset or default_preset(device), overrides)
    if device == "cpu":
        compile_kernels()
    wanted = OnlineBenchmark(tuple(arguments.seconds), arguments.render_fps, arguments.offline)
    found = run_online_benchmark(open_capture(arguments.capture), config, device, wanted, print)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text, encoding="utf-8")
    return 0
