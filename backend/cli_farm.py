"""`farm`: what render farms need around the batch command."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from backend.checks import MAX_SIDE_PX
from backend.home import open_home
from backend.library import Library
from shared import __version__
from shared.errors import BadConfig, EnvironmentFailed, NotFound


def add_farm(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("farm", help="render farms: do machines render alike?")
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
    hashes.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")
    hashes.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    hashes.set_defaults(run=run_hashes)


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
