"""From one recording to a relightable avatar in one call: teacher, its pictures, student; each part timed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.captures.capture import Capture

TEACHER_FOLDER, PICTURES_FOLDER, STUDENT_FOLDER = "teacher", "pseudo-gt", "student"


def teach_and_distil(
    capture: Capture,
    output: Path,
    *,
    name: str,
    device: str,
    teacher: tuple[str, Mapping[str, str]],
    student: tuple[str, Mapping[str, str]],
    poses: int,
    size_px: int,
    tell: Callable[[str], None] = lambda message: None,
    samples: int = 0,
) -> tuple[Path, Path, dict[str, float]]:
    """Train a teacher, render its pictures of the training views and `poses` further ones, distil a student from them.

    teacher, student: preset and overrides of each. size_px: longest side of the teacher's pictures, at least
    what the student is trained at. Returns the folders
    NAME.teacher and NAME.avatar and the minutes of "teacher", "pseudo_truth" and "distillation". What an earlier run
    into `output` finished is used as it is. Raises BadConfig, BadCapture, EnvironmentFailed.
    """
    from avatars.relit_body.pose_set import varied_poses
    from avatars.relit_body.pseudo_truth import render_pseudo_truth
    from avatars.relit_field.storage import DESCRIPTION, open_teacher
    from avatars.training.config import TEACHER, load_config
    from avatars.training.loop import train

    taught_by, learns = load_config(*_as_given(teacher)), load_config(*_as_given(student))
    for config, method, whose in ((taught_by, TEACHER, teacher), (learns, "relit_body", student)):
        if config.method != method:
            raise BadConfig(f"preset {whose[0]!r} is of another method", found=config.method, expected=method)
    minutes: dict[str, float] = {}

    def timed(part: str, begun: float) -> None:
        minutes[part] = round((time.monotonic() - begun) / 60, 3)
        tell(f"{part.replace('_', ' ')}: {minutes[part]:.2f} minutes")

    folder = output / TEACHER_FOLDER / f"{name}.teacher"
    begun = time.monotonic()
    if not folder.is_dir():
        train(taught_by, capture, output / TEACHER_FOLDER, name=name, device=device, on_event=lambda told: None)
        timed("teacher", begun)
    begun = time.monotonic()
    digest = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["sha256"]
    field = open_teacher(folder, device, samples=samples)
    render_pseudo_truth(
        field,
        capture,
        varied_poses(field.template(), poses) if poses else None,
        output / PICTURES_FOLDER,
        longest_px=max(size_px, learns.size_px),
        identity=f"{digest} {samples}",
    )
    timed("pseudo_truth", begun)
    avatar = output / STUDENT_FOLDER / f"{name}.avatar"
    begun = time.monotonic()
    if not avatar.is_dir():
        told = {"relit.teacher": str(folder), "relit.pseudo_truth": str(output / PICTURES_FOLDER)}
        learns = load_config(student[0], told | dict(student[1]))
        train(learns, capture, output / STUDENT_FOLDER, name=name, device=device, on_event=lambda told: None)
        timed("distillation", begun)
    return folder, avatar, minutes


def _as_given(preset: tuple[str, Mapping[str, str]]) -> tuple[str, dict[str, Any]]:
    return preset[0], dict(preset[1])
