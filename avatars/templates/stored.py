"""A template in Effigy's own file: what `shared.template.load_template` reads, written the same way everywhere."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.template import FILE_FORMATS, TemplateArrays, parse_template

EPOCH = (1980, 1, 1, 0, 0, 0)


def as_stored(arrays: TemplateArrays) -> tuple[TemplateArrays, bytes]:
    """The template as it will be read back from its file, digest included, and that file's content."""
    content = template_bytes(arrays)
    return parse_template(content, arrays.template_id), content


def template_bytes(arrays: TemplateArrays) -> bytes:
    """The .npz of a template without presets; the same bytes for the same arrays on any machine."""
    content: dict[str, NDArray[Any]] = {
        "format": np.array(FILE_FORMATS[-1]),
        "template_id": np.array(arrays.template_id),
        "view": np.array(arrays.view),
        "licence": np.array(arrays.licence),
        "group_names": np.array(list(arrays.faces)),
        "preset_names": np.array([], "U1"),
        "preset_vertices": np.zeros((0, len(arrays.vertices), 3), np.float32),
        "preset_joints": np.zeros((0, len(arrays.joint_names), 3), np.float32),
    }
    for name in ("joint_names", "shape_names", "expression_names"):
        content[name] = np.array(getattr(arrays, name))
    for name in (
        "parents",
        "joints",
        "vertices",
        "shape_dirs",
        "joint_shape_dirs",
        "expression_vertices",
        "expression_dirs",
        "joint_expression_dirs",
        "weights",
        "uv",
        "pose_dirs",
        "joint_regressor",
        "expression_ranges",
    ):
        if getattr(arrays, name) is not None:
            content[name] = getattr(arrays, name)
    for group in arrays.faces:
        content[f"faces_{group}"] = arrays.faces[group]
        content[f"uv_faces_{group}"] = arrays.uv_faces[group]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(content.items()):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), entry.getvalue())
    return file.getvalue()
