"""`relight speed`: the relightable student's half of `relight`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from backend.relight_words import read_words


def add_student_actions(actions: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Declare them; words, --data and --device are added by the caller."""
    speed = actions.add_parser(
        "speed",
        help="measure how fast a relightable person is drawn, beside the bare rasteriser",
        description="Without an avatar, of the open template with painted materials. Reading and writing is not timed.",
    )
    speed.add_argument("avatar", nargs="?", help="an id of the library, or a NAME.avatar folder")
    speed.add_argument("--surfels", type=int, default=50_000, help="without an avatar: how many (default 50000)")
    speed.add_argument("--size", type=int, default=540, help="side in px (default 540)")
    speed.add_argument("--seconds", type=float, default=1.0, help="about how long each timing takes (default 1)")
    speed.add_argument("--json", type=Path, help="write the numbers there, too")
    speed.add_argument("--profile", type=Path, help="write torch.profiler's tables there")
    speed.add_argument("--home", type=Path, help="the data folder, where the library is")
    speed.set_defaults(run=measure_speed)
    return (speed,)


def measure_speed(arguments: argparse.Namespace) -> int:
    """Print one row of times."""
    from avatars.relit_body import speed
    from backend.devices import resolve_device, usable_cores, use_cores

    read_words(arguments.words, ())
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    avatar = speed.sample_avatar(arguments.surfels, device)
    row = speed.measure(avatar, device=device, size_px=arguments.size, seconds=arguments.seconds)
    print(speed.HEADER)
    print(speed.line(row))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(speed.as_json(row), indent=1), encoding="utf-8")
    if arguments.profile is not None:
        arguments.profile.write_text(speed.profile(avatar, device=device, size_px=arguments.size), encoding="utf-8")
    return 0
