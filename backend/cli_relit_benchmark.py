"""`benchmark relight`: how fast a relightable person is drawn, and how well teacher and student are relit."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from backend.cli_train import overrides_of
from backend.options import add_device
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.evaluation.relighting import RelitFigures
    from avatars.evaluation.relit_maps import Subject

GOALS = (
    "Goals on one H200: student relit at 540 x 540 in an unseen pose at least 300 FPS and at most 3 times raw 2DGS, a "
    "new light to its first frame at most 50 ms, teacher at most 20 minutes, distillation at most 10, student not more "
    "than 0.3 dB below its teacher."
)


def add_relight_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    relight = kinds.add_parser(
        "relight", help="relightable people: speed, and quality in unseen light", description=GOALS
    )
    relight.add_argument("--avatar", type=Path, help="a student: NAME.avatar (default: speed of an untrained one)")
    relight.add_argument("--teacher", type=Path, help="a teacher to measure beside it: NAME.teacher")
    relight.add_argument("--capture", default="demo_relight", help="recording with ground truth (default: %(default)s)")
    relight.add_argument("--surfels", type=int, default=75_000, help="of the untrained student (default: %(default)s)")
    relight.add_argument("--size", type=int, default=540, metavar="PX", help="longest side (default: %(default)s)")
    relight.add_argument("--images", type=int, default=0, help="measure only so many held-out pictures (0: all)")
    relight.add_argument("--teacher-images", type=int, default=0, help="the same for the teacher, which is slow")
    relight.add_argument(
        "--samples", type=int, default=0, help="the teacher's light directions a pixel (0: as trained)"
    )
    relight.add_argument("--seconds", type=float, default=1.0, help="about how long each timing takes; 0: no timings")
    relight.add_argument("--train", action="store_true", help="first train a teacher, render its pictures, and distil")
    relight.add_argument("--teacher-preset", default="relit_teacher_paper", help="with --train (default: %(default)s)")
    relight.add_argument("--preset", default="relit_body", help="with --train: the student's (default: %(default)s)")
    relight.add_argument("--poses", type=int, default=310, help="with --train: further poses (default: %(default)s)")
    relight.add_argument("--teacher-set", action="append", default=[], metavar="KEY=VALUE", help="teacher's overrides")
    relight.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="student's overrides")
    add_device(relight)
    relight.add_argument("--output", type=Path, default=Path("relight_benchmark"), help="folder (default: %(default)s)")
    relight.set_defaults(run=benchmark_relight)


def benchmark_relight(arguments: argparse.Namespace) -> int:
    """Train where asked, then timings, then quality; the report is written after each part."""
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture
    from avatars.evaluation.relit_report import markdown
    from backend.devices import device_name, resolve_device, usable_cores, use_cores

    use_cores(usable_cores())
    device = resolve_device(arguments.device)
    console = Console()
    capture = open_capture(arguments.capture)
    output = Path(arguments.output).expanduser()
    output.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"device": device_name(device), "size_px": arguments.size}
    teacher, student = arguments.teacher, arguments.avatar
    if arguments.train:
        teacher, student, facts["training"] = _trained(arguments, capture, output, device, console)
    avatar = None if student is None else load_avatar(student, device)
    if arguments.seconds > 0:
        facts["speed"] = _speed(arguments, avatar, device, console)
        _write(output, facts)
    if teacher is None and avatar is None:
        return 0
    figures = _quality(arguments, capture, teacher, avatar, device, facts)
    print(markdown(figures))
    console.print(f"Report: {output}", soft_wrap=True)
    return 0


def _speed(arguments: argparse.Namespace, avatar: Any, device: str, console: Console) -> dict[str, Any]:
    """One row of avatars.relit_body.speed, of the avatar given or of an untrained one of --surfels."""
    from avatars.relit_body import speed

    timed = avatar if avatar is not None else speed.sample_avatar(arguments.surfels, device)
    row = speed.measure(timed, device=device, size_px=arguments.size, seconds=arguments.seconds)
    console.print(speed.HEADER, highlight=False, soft_wrap=True)
    console.print(speed.line(row), highlight=False, soft_wrap=True)
    return {"untrained": avatar is None, **asdict(row)}


def _quality(
    arguments: argparse.Namespace,
    capture: Capture,
    teacher: Path | None,
    avatar: Any,
    device: str,
    facts: dict[str, Any],
) -> RelitFigures:
    """Teacher, student and the constant picture on the held-out pictures; the report is written on the way."""
    from avatars.evaluation.relighting import measure_relighting
    from avatars.evaluation.relit_maps import AvatarSubject, ConstantSubject, TeacherSubject, images_to_measure
    from avatars.evaluation.relit_report import write_relit_report

    if arguments.size < 16 or arguments.images < 0 or arguments.teacher_images < 0:
        raise BadConfig("--size, --images or --teacher-images is too small", found=str(arguments.size))
    size = capture.train_size(arguments.size)
    few = arguments.teacher_images if teacher is not None and arguments.teacher_images else arguments.images
    images = images_to_measure(capture, few)
    subjects: list[Subject] = []
    if teacher is not None:
        subjects.append(TeacherSubject.opened(teacher, capture, device, arguments.samples))
    if avatar is not None:
        subjects.append(AvatarSubject("student", avatar, capture, device))
    subjects.append(ConstantSubject(capture, size))
    shown = images_to_measure(capture, min(6, len(images))) if not few else images[:6]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Measuring", total=None)
        begun = time.monotonic()
        figures = measure_relighting(
            capture,
            subjects,
            images,
            size,
            device=device,
            show=shown,
            tell=lambda done, of: bar.update(task, completed=done, total=of),
        )
    facts["measured_seconds"] = round(time.monotonic() - begun, 1)
    write_relit_report(Path(arguments.output).expanduser(), figures, capture, facts)
    return figures


def _trained(
    arguments: argparse.Namespace, capture: Capture, output: Path, device: str, console: Console
) -> tuple[Path, Path, dict[str, float]]:
    from backend.relit_pipeline import teach_and_distil

    return teach_and_distil(
        capture,
        output,
        name=capture.name,
        device=device,
        teacher=(arguments.teacher_preset, overrides_of(arguments.teacher_set)),
        student=(arguments.preset, overrides_of(arguments.set)),
        poses=arguments.poses,
        size_px=arguments.size,
        samples=arguments.samples,
        tell=lambda message: console.print(message, highlight=False),
    )


def _write(output: Path, facts: dict[str, Any]) -> None:
    from avatars.evaluation.relit_report import FIGURES
    from avatars.files import write_atomically

    write_atomically(output / FIGURES, json.dumps(facts, indent=1).encode())
