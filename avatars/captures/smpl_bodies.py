"""Bodies tracked with SMPL on a template at hand: joints by name, the world turned so that people stand upright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatars.templates.opening import TemplateReference, installed_templates, reference_of
from shared.errors import BadCapture, nearest
from shared.motions import MODEL_FROM_SMPL, SMPLX_JOINTS, WORLD_FROM_UP, SmplMotion, in_model_axes, likely_up
from shared.template import rest
from shared.types import Motion

OPEN_TEMPLATE = "effigy_human"


@dataclass(frozen=True, eq=False)
class Body:
    """A tracked body in Effigy's axes. world_from_file: [4, 4] turns the file's world (and its cameras) with it."""

    reference: TemplateReference
    motion: Motion
    world_from_file: NDArray[np.float64]
    up: str
    notes: tuple[str, ...]


def body_reference(name: str, wanted: str, gender: str, betas: NDArray[np.float32]) -> tuple[TemplateReference, str]:
    """The template for capture `name`: `wanted` by id, else the installed SMPL of that gender, else the open body.

    betas: [B], taken over by the template where it is SMPL's own or was asked for by id. Returns it with a sentence, ''
    where nothing needs saying. Raises BadCapture.
    """
    installed = installed_templates()
    ids = [one for one in installed if one.startswith("smpl") and not one.startswith("smplx")]
    fitting = [one for one in ids if gender and gender in one] or [one for one in ids if "neutral" in one] or ids
    if wanted and wanted not in installed:
        raise BadCapture(
            f"capture {name!r} wants the template {wanted!r}, which is not installed{nearest(wanted, installed)}",
            found=", ".join(installed),
            do="Add it with: effigy template add FILE",
        )
    chosen = wanted or (fitting[0] if fitting else OPEN_TEMPLATE)
    shape = tuple(float(number) for number in betas) if wanted or chosen != OPEN_TEMPLATE else ()
    reference = reference_of(chosen, shape=shape, view="body")
    if wanted or chosen != OPEN_TEMPLATE:
        return reference, ""
    return reference, (
        "No SMPL is installed, so the open body of mean shape stands in for the tracked one and will not fit well; "
        "add yours with: effigy template add SMPL_NEUTRAL.pkl"
    )


def tracked_body(name: str, motion: SmplMotion, *, template: str = "", gender: str = "", fps: float = 25.0) -> Body:
    """A body motion of SMPL's family on a template. Raises BadCapture."""
    reference, note = body_reference(name, template, gender, motion.betas)
    body = placed_body(name, reference, motion, fps=fps)
    notes = (*motion.notes, *((note,) if note else ()), f"The file's world has {body.up} up; it was turned upright")
    return replace(body, notes=notes)


def placed_body(
    name: str, reference: TemplateReference, motion: SmplMotion, *, up: str = "", fps: float = 25.0
) -> Body:
    """The motion on that template, standing upright, with the motion's own notes.

    up: the up axis of the file's world, '' to tell it by how the body stands. Expressions of SMPL-X go to a template
    whose own are named exp000 and so on. Raises BadCapture for a template that is no whole body.
    """
    arrays = reference.open()
    missing = [joint for joint in SMPLX_JOINTS[:22] if joint not in arrays.joint_names]
    if missing:
        raise BadCapture(
            f"the template {arrays.template_id!r} is no whole body, which capture {name!r} needs",
            found=f"no joint {missing[0]!r}",
            expected="SMPL's joints",
        )
    _, joints = rest(arrays, preset=reference.preset, shape=np.array(reference.shape, np.float32))
    up = up or likely_up(motion)
    pelvis_rest = joints[0].astype(np.float64)
    rotations, pelvis = in_model_axes(motion, up, pelvis_m=pelvis_rest @ MODEL_FROM_SMPL)
    turned = np.zeros((len(motion), len(arrays.joint_names), 3), np.float32)
    column: Mapping[str, int] = {joint: index for index, joint in enumerate(SMPLX_JOINTS)}
    for index, joint in enumerate(arrays.joint_names):
        if joint in column:
            turned[:, index] = rotations[:, column[joint]]
    expressions = np.zeros((len(motion), len(arrays.expression_names)), np.float32)
    for index, expression in enumerate(arrays.expression_names[: motion.expressions.shape[1]]):
        if expression == f"exp{index:03d}":
            expressions[:, index] = motion.expressions[:, index]
    world = np.eye(4)
    world[:3, :3] = WORLD_FROM_UP[up]
    made = Motion(turned, (pelvis - pelvis_rest).astype(np.float32), expressions, motion.fps or fps)
    return Body(reference, made, world, up, motion.notes)
