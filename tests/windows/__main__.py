"""Run a script in a windowed Blender with the add-on of this working tree, beside a backend; save what it grabs.

    python -m tests.windows prepare [4.3 5.2]              make the chroots (needs root; minutes once, then cached)
    python -m tests.windows run SCRIPT [--blender 4.3] [--out FOLDER] [--library FOLDER] [--no-backend]
                                                                [--gpu-backend vulkan] [-- words…]

SCRIPT defines `main(w)`, a generator; see tests/windows/inside/window.py for what `w` can do. The words after -- are
its w.arguments; OUT among them is its folder of results as the machine outside names it. Without --library the
backend's library holds the untrained head 'tiny'.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from blender_addon.build import BuildError
from tests.windows import debian
from tests.windows.session import SessionFailed, WindowedBlender, build_extension, running_backend


def run(options: argparse.Namespace) -> int:
    """Run one script; its results on standard output, its pictures and log in --out."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="effigy-window-") as temporary:
        folder = Path(temporary)
        blender = WindowedBlender(
            options.blender, folder / "session", tuple(options.size), gpu_backend=options.gpu_backend
        )
        blender.install(build_extension(folder))
        home = folder / "backend"
        (home / "library").mkdir(parents=True)
        if options.library:
            shutil.copytree(options.library, home / "library", dirs_exist_ok=True)
        else:
            from tests.tiny import tiny_avatar

            tiny_avatar(home / "library")
        print(f"ready after {time.monotonic() - begin:.1f} s", file=sys.stderr)
        try:
            with nullcontext("") if options.no_backend else running_backend(home) as address:
                words = [str(blender.folder / "out") if word == "OUT" else word for word in options.words]
                found = blender.run(options.script, *words, address=address, timeout_s=options.timeout)
        finally:
            shutil.copytree(blender.folder / "out", options.out, dirs_exist_ok=True)
    log = found.pop("log")
    print(log if options.verbose else "", end="")
    print(found)
    print(f"pictures and log are in {options.out}; {time.monotonic() - begin:.1f} s in all", file=sys.stderr)
    return 0


def main() -> int:
    """The command line; the process's exit status."""
    parser = argparse.ArgumentParser(
        prog="tests.windows", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("versions", nargs="*", default=list(debian.RELEASES))
    one = commands.add_parser("run")
    one.add_argument("script", type=Path)
    one.add_argument("--blender", choices=debian.RELEASES, default="4.3")
    one.add_argument("--out", type=Path, default=Path("windowed"))
    one.add_argument("--library", type=Path, help="a folder of NAME.avatar folders")
    one.add_argument("--no-backend", action="store_true")
    one.add_argument("--size", type=int, nargs=2, default=(1280, 800), metavar=("WIDTH", "HEIGHT"))
    one.add_argument("--gpu-backend", choices=("opengl", "vulkan"), default="opengl")
    one.add_argument("--timeout", type=float, default=120.0)
    one.add_argument("--verbose", action="store_true", help="print Blender's log as well")
    before, after = sys.argv[1:], []
    if "--" in before:
        place = before.index("--")
        before, after = before[:place], before[place + 1 :]
    options = parser.parse_args(before, argparse.Namespace(words=after))
    try:
        if options.command == "run":
            return run(options)
        for version in options.versions:
            print(f"Blender {version}: {debian.chroot(version)}")
    except (debian.Unavailable, SessionFailed, BuildError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
