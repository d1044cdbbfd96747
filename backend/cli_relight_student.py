"""The student's half of `relight`: distill, render, speed. The original's words are accepted beside our options."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from backend.cli_train import add_gpus, overrides_of, train_in_sight
from backend.options import add_home
from backend.relight_words import capture_folder, read_words, split_words, teacher_folder
from shared.errors import BadConfig

INTERRUPTED = 130


def add_student_actions(actions: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Declare them; words, --data and --device are added by the caller."""
    distil = actions.add_parser(
        "distill",
        help="train a relightable avatar from a teacher",
        description="Leaves OUTPUT/NAME.avatar and OUTPUT/report. The same command again goes on. Pseudo ground truth "
        "of the teacher is taken from beside it, and rendered first where it is missing.",
    )
    distil.add_argument("--capture", help="the recording's folder, or the name of an embedded one")
    distil.add_argument(
        "--teacher", help="a NAME.teacher folder; 'capture': a synthetic capture's own ground truth; or 'painted'"
    )
    distil.add_argument("--pseudo-gt", help="folder that 'relight pseudo-gt' left (default: beside the teacher)")
    distil.add_argument("--preset", default="relit_body", help="relit_body (CUDA), relit_body_cpu, or a YAML")
    distil.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    distil.add_argument("--name", help="the avatar's name (default: the recording's)")
    distil.add_argument("--output", type=Path, default=Path("relight"), help="folder to write (default: relight)")
    add_gpus(distil)
    distil.set_defaults(run=distill)

    from backend.cli_relight_render import add_relight_render

    render = add_relight_render(actions)
    speed = actions.add_parser(
        "speed",
        help="measure how fast a relightable person is drawn, beside the bare rasteriser",
        description="Without an avatar, of the open template with painted materials. Reading and writing is not timed.",
    )
    speed.add_argument("--avatar", help="an id of the library, or a NAME.avatar folder")
    speed.add_argument("--surfels", type=int, default=50_000, help="without an avatar: how many (default 50000)")
    speed.add_argument("--size", type=int, default=540, help="side in px (default 540)")
    speed.add_argument("--seconds", type=float, default=1.0, help="about how long each timing takes (default 1)")
    speed.add_argument("--json", type=Path, help="write the numbers there, too")
    speed.add_argument("--profile", type=Path, help="write torch.profiler's tables there")
    add_home(speed)
    speed.set_defaults(run=measure_speed)
    return (distil, render, speed)


def distill(arguments: argparse.Namespace) -> int:
    """Distil in this process with progress and a clean Ctrl-C."""
    from avatars.captures.opening import open_capture
    from avatars.training.config import load_config
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.on_gpus import check_gpus

    asked = read_words(arguments.words, ("capture", "teacher", "pseudo_truth", "name", "seed", "steps"))
    if asked.mode not in ("", "distill", "student"):
        raise BadConfig(
            f"training_mode={asked.mode} is not this command's", do=f"Use effigy relight {asked.mode} for it"
        )
    given = arguments.capture or asked.values.get("capture")
    if not given:
        raise BadConfig("no recording is given", do="Name one with --capture")
    overrides = overrides_of(arguments.set)
    teacher = arguments.teacher or asked.values.get("teacher")
    if teacher:
        known = teacher in ("painted", "capture")
        overrides["relit.teacher"] = teacher if known else str(teacher_folder(teacher).absolute())
    overrides |= {
        key: asked.values[word]
        for word, key in (("steps", "schedule.images"), ("seed", "seed"))
        if word in asked.values
    }
    config = load_config(arguments.preset, overrides)
    if config.method != "relit_body":
        raise BadConfig(f"preset {arguments.preset!r} distils no student", found=config.method, expected="relit_body")
    place = capture_folder(given, arguments.data)
    capture = open_capture(place)
    device = resolve_device(arguments.device)
    check_gpus(arguments.gpus, device)
    use_cores(usable_cores())
    stated = arguments.pseudo_gt or asked.values.get("pseudo_truth")
    if stated:
        config = load_config(arguments.preset, overrides | {"relit.pseudo_truth": _truth_folder(stated, arguments)})
    elif not config.relit.pseudo_truth and Path(config.relit.teacher).suffix == ".teacher":
        folder = Path(config.relit.teacher).expanduser().with_suffix(".pseudo-gt")
        if _render_missing(folder, given, config.relit.teacher, config.size_px, arguments):
            return INTERRUPTED
        config = load_config(arguments.preset, overrides | {"relit.pseudo_truth": str(folder)})
    name = arguments.name or asked.values.get("name") or capture.name
    console = Console()
    output = Path(arguments.output).expanduser()
    result = train_in_sight(
        config, place, capture, output, name=name, device=device, console=console, gpus=arguments.gpus
    )
    if result.state != "done":
        console.print("Paused. The same command goes on.")
        return INTERRUPTED
    console.print(f"Avatar: {output / name}.avatar", soft_wrap=True)
    console.print(f"Report: {result.report_folder}", soft_wrap=True)
    return 0


def _truth_folder(text: str, arguments: argparse.Namespace) -> str:
    """Pseudo ground truth by folder, or by the original's name below --data."""
    return str(Path(capture_folder(text, arguments.data)).absolute())


def _render_missing(folder: Path, capture: str, teacher: str, size_px: int, arguments: argparse.Namespace) -> int:
    """Render the teacher's pictures into `folder` where they are not whole; rows that are there stay."""
    from backend.cli_relight import render_pseudo

    return render_pseudo(
        argparse.Namespace(
            words=[],
            teacher=teacher,
            capture=capture,
            output=folder,
            motion=None,
            poses=310,
            no_training=False,
            size=size_px,
            samples=0,
            data=arguments.data,
            device=arguments.device,
        )
    )


def measure_speed(arguments: argparse.Namespace) -> int:
    """Print one row of times."""
    from avatars.avatar_folder import load_avatar
    from avatars.relit_body import speed
    from avatars.relit_body.avatar import RelitAvatar
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.home import default_home
    from backend.library import Library, avatar_place

    words, loose = split_words(arguments.words)
    asked = read_words(words, ("avatar", "capture", "hdri"))
    text = arguments.avatar or loose or asked.values.get("avatar")
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    if text:
        library, avatar_id = avatar_place(text, (arguments.home or default_home()).expanduser() / "library")
        avatar = load_avatar(Library(library).path(avatar_id), device)
        if not isinstance(avatar, RelitAvatar):
            raise BadConfig(
                f"avatar {avatar_id!r} is no relightable person", found=avatar.method, expected="relit_body"
            )
    else:
        avatar = speed.sample_avatar(arguments.surfels, device)
    row = speed.measure(avatar, device=device, size_px=arguments.size, seconds=arguments.seconds)
    print(speed.HEADER)
    print(speed.line(row))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(speed.as_json(row), indent=1), encoding="utf-8")
    if arguments.profile is not None:
        arguments.profile.write_text(speed.profile(avatar, device=device, size_px=arguments.size), encoding="utf-8")
    return 0
