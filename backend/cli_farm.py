"""`farm`: what render farms need around the batch command."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from backend.checks import MAX_SIDE_PX
from backend.home import open_home
from backend.library import Library
from backend.options import add_device, add_home
from shared import __version__
from shared.errors import BadConfig, EnvironmentFailed, NotFound


def add_farm(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("farm", help="render farms: Slurm arrays, films, do machines render alike?")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    hashes = actions.add_parser(
        "hashes",
        help="hashes of fixed frames: machines that render alike print the same",
        description="Renders fixed frames of avatars and hashes every pass. With --compare the status is 1 where "
        "another machine's hashes differ.",
    )
    hashes.add_argument("avatars", nargs="*", metavar="AVATAR", help="ids of the library (default: all that are whole)")
    hashes.add_argument("--frames", type=int, default=4, help="frames of each, in two lights")
    hashes.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("WIDTH", "HEIGHT"))
    hashes.add_argument("--backwards", action="store_true", help="the last frame first: it must not matter")
    hashes.add_argument("--output", type=Path, metavar="FILE", help="keep them in a file")
    hashes.add_argument("--compare", type=Path, metavar="FILE", help="a file that another machine wrote")
    add_home(hashes)
    add_device(hashes)
    hashes.set_defaults(run=run_hashes)
    _add_slurm(actions)
    for name, run, text in (
        ("task", run_one_task, "render what is missing of one task's frames"),
        ("film", run_film, "join a job's pictures into its film"),
    ):
        action = actions.add_parser(name, help=f"{text} (the job's scripts call it)")
        action.add_argument("job", type=Path, metavar="JOB", help="folder that `effigy farm slurm` made")
        if name == "task":
            action.add_argument("task", type=int, metavar="TASK", help="number of the task, from 1")
        action.set_defaults(run=run)


def _add_slurm(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    slurm = actions.add_parser(
        "slurm",
        help="make (and send) a Slurm array that renders a shot",
        description="Asks Blender once what the shot holds, copies its avatars, pinned by their digests, into a job's "
        "folder and writes an array of frame chunks there, with a job after it that makes the film.",
    )
    slurm.add_argument("shot", type=Path, metavar="SHOT.blend")
    slurm.add_argument("--job", type=Path, help="the job's folder, on a disk all nodes share (default: SHOT.farm)")
    slurm.add_argument("--frames", default="", help="such as 1-48,60 (default: the scene's)")
    slurm.add_argument("--chunk-size", type=int, default=8, help="frames of one task")
    slurm.add_argument("--output", default="", help="where pictures go, as in Output Properties (default: the shot's)")
    slurm.add_argument("--scene", default="", help="scene to render (default: the file's active one)")
    slurm.add_argument("--film", type=Path, metavar="FILE.mp4", help="join the frames to a film at the end")
    slurm.add_argument("--fps", type=float, help="of the film (default: the scene's)")
    slurm.add_argument("--blender", default="blender", help="Blender's executable, on every node")
    slurm.add_argument("--home", type=Path, help="data folder with the avatars (default: $EFFIGY_HOME or ~/.effigy)")
    slurm.add_argument("--device", default="auto", help="of the tasks' backends: auto, cpu, cuda or cuda:N")
    slurm.add_argument(
        "--sbatch", action="append", default=[], metavar="=--OPTION", help="an option of sbatch: --sbatch=--gres=gpu:1"
    )
    slurm.add_argument("--retries", type=int, default=3, help="how often a task that failed or was killed starts again")
    slurm.add_argument("--submit", action="store_true", help="send it at once")
    slurm.set_defaults(run=run_slurm)


def run_slurm(arguments: argparse.Namespace) -> int:
    """Make the job's folder and its scripts; send them with --submit."""
    from backend.farm.job import FarmJob, write_job
    from backend.farm.slurm import submit, write_scripts
    from backend.farm.task import planned
    from backend.video import check_video

    shot: Path = arguments.shot.expanduser().absolute()
    if not shot.is_file():
        raise NotFound("There is no such shot", found=str(shot))
    if arguments.chunk_size < 1 or arguments.retries < 0:
        raise BadConfig("--chunk-size or --retries is out of range", expected="1 or more, 0 or more")
    if arguments.film is not None:
        check_video(arguments.film)
    pairs = (("--frames", arguments.frames), ("--output", arguments.output), ("--scene", arguments.scene))
    plan = planned(arguments.blender, shot, [word for name, value in pairs if value for word in (name, value)])
    library = Library(open_home(arguments.home).library)
    job = FarmJob(
        shot=str(shot),
        scene=plan["scene"],
        output=plan["output"],
        frames=tuple(plan["frames"]),
        pictures=tuple(plan["pictures"]),
        avatars={name: digest or library.summary(name).digest for name, digest in plan["avatars"].items()},
        chunk_size=arguments.chunk_size,
        blender=arguments.blender,
        device=arguments.device,
        film="" if arguments.film is None else str(arguments.film.expanduser().absolute()),
        fps=arguments.fps or plan["fps"],
    )
    folder = (arguments.job or shot.with_suffix(".farm")).expanduser().absolute()
    write_job(folder, job, library)
    script = write_scripts(folder, job, arguments.sbatch, arguments.retries)
    print(f"{len(job.frames)} frames in {job.tasks} tasks: {folder}")
    print(submit(script) if arguments.submit else f"To send it: sh {script}")
    return 0


def run_one_task(arguments: argparse.Namespace) -> int:
    """Render; Blender's status."""
    from backend.farm.job import read_job
    from backend.farm.task import run_task

    return run_task(read_job(arguments.job), arguments.job.absolute(), arguments.task)


def run_film(arguments: argparse.Namespace) -> int:
    """Join the pictures."""
    from backend.farm.film import make_film
    from backend.farm.job import read_job

    print(make_film(read_job(arguments.job)))
    return 0


def run_hashes(arguments: argparse.Namespace) -> int:
    """Print the hashes; 1 where they differ from those to compare with."""
    width, height = arguments.size
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX) or arguments.frames < 1:
        raise BadConfig(
            "Frames of this kind cannot be rendered",
            found=f"{arguments.frames} of {width}x{height}",
            expected=f"1 or more of 1 to {MAX_SIDE_PX} px a side",
        )
    from backend.devices import device_name, resolve_device, usable_cores, use_cores
    from backend.farm import hashes as made
    from backend.rendering import Studio

    there = made.read_hashes(arguments.compare) if arguments.compare else None
    library = Library(open_home(arguments.home).library)
    ids = arguments.avatars or [item.avatar_id for item in library.summaries() if not item.problem]
    if not ids:
        raise NotFound("There is no avatar in the library", found=str(library.folder), do="Train one first")
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    found = made.frame_hashes(
        Studio(library, device),
        ids,
        arguments.frames,
        (width, height),
        backwards=arguments.backwards,
        tell=lambda text: print(f"rendering {text}", file=sys.stderr, flush=True),
    )
    for each in found:
        print(f"{each.sha256}  {each.place}")
    print(f"{made.total(found)}  all {len(found)}")
    if arguments.output:
        machine = {"host": platform.node(), "device": device_name(device), "effigy": __version__}
        try:
            arguments.output.write_text(made.written(found, machine, (width, height)), encoding="utf-8")
        except OSError as error:
            raise EnvironmentFailed(
                "The hashes cannot be written", found=f"{arguments.output}: {error.strerror}"
            ) from error
    if there is None:
        return 0
    others, size_px = there
    if size_px != (width, height):
        raise BadConfig("The other machine's frames have another size", found="{}x{}".format(*size_px))
    differing = made.differences(found, [each for each in others if each.avatar_id in ids])
    print("\n".join(differing) if differing else "The same on both.", file=sys.stderr)
    return 1 if differing else 0
