"""Find the teacher a configuration names, and the pictures of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from avatars.captures.capture import Capture
from avatars.relit_body.capture_teacher import CaptureTeacher, CaptureTruth
from avatars.relit_body.painted import PaintedTeacher
from avatars.relit_body.pseudo_truth import open_pseudo_truth
from avatars.relit_body.settings import RelitConfig
from avatars.relit_body.taught import LiveTruth, check_truth
from avatars.relit_body.teacher import PseudoTruth, Teacher
from avatars.relit_field.storage import open_teacher
from avatars.templates.big_pose import big_pose_rotations
from shared.errors import BadConfig, BadTemplate
from shared.types import Environment


def find_teacher(name: str, capture: Capture, device: str) -> Teacher:
    """The teacher of that name for this capture, or the one in a NAME.teacher folder.

    Raises BadConfig, BadAvatar for a damaged folder, BadTemplate for a teacher of another template.
    """
    if Path(name).suffix == ".teacher":
        stored = open_teacher(Path(name).expanduser(), device)
        check_teacher(stored, capture)
        return stored
    if name not in ("painted", "capture"):
        raise BadConfig(
            f"there is no teacher {name!r}", expected="painted, capture, or the folder of one (NAME.teacher)"
        )
    arrays = capture.template.open()
    try:
        canonical = big_pose_rotations(arrays.joint_names)
    except BadTemplate:  # no whole body: its rest pose has nothing touching
        canonical = np.zeros((len(arrays.joint_names), 3), np.float32)
    if name == "capture":
        return CaptureTeacher(capture, torch.from_numpy(canonical.copy()))
    light = capture.environment or Environment(np.full((16, 32, 3), 0.6, np.float32))
    teacher = PaintedTeacher(capture.template, torch.from_numpy(canonical.copy()), light)
    check_teacher(teacher, capture)
    return teacher


def find_truth(config: RelitConfig, teacher: Teacher, capture: Capture, seed: int, device: str) -> PseudoTruth:
    """The pictures to learn from: a folder of them, a capture's own maps, or the teacher asked as training goes.

    Raises BadCapture for a folder that is damaged, not finished or of another recording.
    """
    if config.pseudo_truth:
        stored = open_pseudo_truth(Path(config.pseudo_truth).expanduser(), device)
        check_truth(stored, capture)
        return stored
    if isinstance(teacher, CaptureTeacher):
        return CaptureTruth(capture, device)
    return LiveTruth(teacher, capture, config.further if config.novel_every else 0, seed, device)


def check_teacher(teacher: Teacher, capture: Capture) -> None:
    """Refuse a teacher whose poses are not the capture's. Raises BadTemplate."""
    theirs, ours = teacher.template(), capture.template
    if (theirs.template_id, theirs.digest, theirs.view) != (ours.template_id, ours.digest, ours.view):
        raise BadTemplate(
            "the teacher was made with another template than the capture",
            found=f"{theirs.template_id} ({theirs.view})",
            expected=f"{ours.template_id} ({ours.view})",
            do="Train the teacher on this capture",
        )
