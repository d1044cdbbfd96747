"""Synthesise a capture from a terminal.

    python blender_addon/synthesise/cli.py --output FOLDER --preset man           (a Python that has bpy)
    blender -b --python blender_addon/synthesise/cli.py -- --output FOLDER        (an installed Blender)

Running it again with the same settings goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "blender_addon.synthesise"

from .._shared import errors, template
from .capture import synthesise_capture
from .settings import KNOWN, CaptureSettings

_FREE = ("shape",)


def parse(arguments: list[str]) -> tuple[CaptureSettings, Path, Path | None, tuple[int, int]]:
    """Settings, output folder, template file (None = embedded) and part (k, n) from command-line arguments."""
    parser = argparse.ArgumentParser(
        prog="synthesise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="capture folder to make or to continue")
    parser.add_argument("--part", default="0/1", help="K/N: only every N-th frame from frame K on, to share the work")
    parser.add_argument(
        "--like", choices=sorted(KNOWN), default="demo_head", help="capture whose settings are the defaults"
    )
    parser.add_argument("--template", type=Path, help="template .npz; the embedded human if left out")
    for field in fields(CaptureSettings):
        if field.name not in _FREE:
            kind = type(field.default)
            parser.add_argument("--" + field.name.replace("_", "-"), type=kind, help=f"demo_head: {field.default}")
    parser.add_argument("--shape", type=float, nargs="*", help="shape coefficients on top of the preset")
    chosen = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    output, file, part = chosen.pop("output"), chosen.pop("template", None), chosen.pop("part")
    like = KNOWN[chosen.pop("like")]
    k, _, n = part.partition("/")
    if not (k.isdecimal() and n.isdecimal() and int(k) < int(n)):
        raise errors.BadConfig("--part is not a share", found=repr(part), expected="K/N with K below N, like 0/4")
    if "shape" in chosen:
        chosen["shape"] = tuple(chosen["shape"])
    return replace(like, **chosen), output, file, (int(k), int(n))


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 1 a failure told in one sentence, 130 stopped with Ctrl-C (run again to continue)."""
    started = time.monotonic()

    def progress(done: int, total: int, message: str) -> bool:
        sys.stdout.write(f"{done}/{total} {time.monotonic() - started:.0f} s: {message}\n")
        sys.stdout.flush()
        return True

    try:
        settings, output, file, part = parse(arguments)
        result = synthesise_capture(settings, template.load_template(file), output, progress, part=part)
    except errors.EffigyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run again to continue.\n")
        return 130
    sys.stdout.write(f"{result.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]))
