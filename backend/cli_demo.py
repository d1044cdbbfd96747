"""`demo`: the main job end to end; what `python install.py demo` runs once its environments are made."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from backend.cli_train import overrides_of
from backend.options import add_device

KINDS = {
    "head": ("demo_head", "demo_cpu"),
    "body": ("demo_body", "mlp_body_cpu"),
    "relit": ("demo_relight", "relit_body_cpu"),
    "surface": ("demo_body", "surface_cpu"),
}
"""What is shown -> the capture, after which the avatar is named, and the preset."""


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("demo", help="train an avatar and render an animated, relit film of it in Blender")
    parser.add_argument("--output", type=Path, required=True, help="folder for everything the demo makes")
    parser.add_argument(
        "--blender",
        action="append",
        required=True,
        metavar="WORD",
        help="command that runs a Blender script, one option per word: a Python with bpy, or blender -b --python",
    )
    parser.add_argument(
        "--avatar",
        choices=tuple(KINDS),
        default="head",
        help="a talking head, a walking body, one whose materials the light falls on, or one with a surface of its own "
        "(default: head)",
    )
    parser.add_argument(
        "--capture", help="name of an embedded capture, or a folder (default: the one that ships for it)"
    )
    parser.add_argument(
        "--preset",
        help=f"a training preset, or a YAML file (default: {' or '.join(kind[1] for kind in KINDS.values())})",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    parser.add_argument("--frames", type=int, default=60, help="frames of the film")
    parser.add_argument("--size", type=int, default=512, help="side of the film in pixels")
    add_device(parser)
    parser.set_defaults(run=demo)


def demo(arguments: argparse.Namespace) -> int:
    """Run it; the last line printed is the output folder."""
    from backend.demo import DemoSettings, run_demo

    name, preset = KINDS[arguments.avatar]
    wanted = arguments.capture or name
    folder = Path(wanted).expanduser()
    settings = DemoSettings(
        output=arguments.output.expanduser().absolute(),
        blender=tuple(arguments.blender),
        name=name,
        capture=str(folder.absolute()) if folder.is_dir() else wanted,
        preset=arguments.preset or preset,
        overrides=overrides_of(arguments.set),
        frames=arguments.frames,
        size_px=arguments.size,
        device=arguments.device,
        mesh=arguments.avatar == "surface",
    )
    console = Console()
    output = run_demo(settings, console)
    console.print(str(output), soft_wrap=True, highlight=False)
    return 0
