"""The FLAME template a recording needs: the installed one, or a sentence with the command that installs it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from avatars.captures.flame_axes import to_model
from avatars.templates.opening import TemplateReference, installed_templates, reference_of
from shared.errors import BadCapture, nearest
from shared.template import TemplateArrays

FLAME_VERTICES = 5023
STATIC_OFFSETS = (5023, 5083, 5143)
"""Rows a static offset may have: FLAME's own, with RGBAvatar's teeth, with those of GaussianAvatars."""
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "2020": "effigy template add generic_model.pkl --uv flame_uv.npz --eyelids l_eyelid.npy r_eyelid.npy",
        "2023": "effigy template add flame2023.pkl --uv head_template_mesh.obj --teeth gaussian_avatars",
    }
)
EXPRESSION = re.compile(r"exp(\d{3})")
LIDS = ("eyelid_left", "eyelid_right")


def flame_reference(name: str, version: str, wanted: str, preferred: Sequence[str]) -> TemplateReference:
    """The installed template for capture `name`: `wanted` by id, else the first preferred one, else any of the version.

    Raises BadCapture with the command that installs it.
    """
    installed = installed_templates()
    if wanted:
        if wanted not in installed:
            raise BadCapture(
                f"capture {name!r} wants the template {wanted!r}, which is not installed{nearest(wanted, installed)}",
                found=", ".join(installed) or "none",
                do=f"Install it with: {COMMANDS[version]}",
            )
        return reference_of(wanted)
    prefix = f"flame{version}"
    ids = [one for one in preferred if one in installed] + [one for one in installed if one.startswith(prefix)]
    if ids:
        return reference_of(ids[0])
    raise BadCapture(
        f"capture {name!r} needs a template of FLAME {version}, which is not installed",
        found=", ".join(one for one in installed if one.startswith("flame")) or "no FLAME template",
        do=f"Get FLAME {version} from its owners and run: {COMMANDS[version]}",
    )


def expression_columns(
    arrays: TemplateArrays, expressions: NDArray[np.float64], lids: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Weights [T, E] in the template's order from a file's expressions [T, n] and eyelids [T, 2] (left, right).

    Names the file has no numbers for are 0. Raises BadCapture for a template that is not FLAME's.
    """
    table = np.zeros((len(expressions), len(arrays.expression_names)), np.float32)
    for column, name in enumerate(arrays.expression_names):
        match = EXPRESSION.fullmatch(name)
        if match is not None and int(match[1]) < expressions.shape[1]:
            table[:, column] = expressions[:, int(match[1])]
        elif name in LIDS and lids is not None:
            table[:, column] = lids[:, LIDS.index(name)]
        elif match is None and name not in LIDS:
            raise BadCapture(
                f"the template {arrays.template_id!r} is not FLAME's", found=f"expression {name!r}", expected="exp000 …"
            )
    return table


def static_offset(arrays: TemplateArrays, rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """A file's static offset [n, 3] m (FLAME's axes, n = 5023 or with teeth) as [V, 3] m in model axes.

    Teeth of another set than the template's are dropped, and missing ones get none (method page 2.4 and 10.2).
    """
    table = np.zeros((len(arrays.vertices), 3), np.float32)
    used = len(rows) if len(rows) == len(table) else FLAME_VERTICES
    table[:used] = to_model(rows[:used])
    return table
