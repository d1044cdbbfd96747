"""Find the template a capture or an avatar was made with, and refuse another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from avatars.templates.installed import installed_arrays, installed_names
from shared.errors import BadTemplate, nearest
from shared.template import TemplateArrays, bust_view, load_template

VIEWS = ("body", "bust")


@dataclass(frozen=True)
class TemplateReference:
    """Which template, and whose shape of it: what captures and avatars write down. shape: standard deviations."""

    template_id: str
    digest: str
    view: str
    preset: str = ""
    shape: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON form, read back by `from_json`."""
        return {
            "id": self.template_id,
            "digest": self.digest,
            "view": self.view,
            "preset": self.preset,
            "shape": list(self.shape),
        }

    @staticmethod
    def from_json(value: Any) -> TemplateReference:
        """Inverse of `as_json`. Raises BadTemplate."""
        try:
            if not isinstance(value, Mapping):
                raise TypeError("not an object")
            texts = [str(value[key]) for key in ("id", "digest", "view", "preset")]
            return TemplateReference(*texts, tuple(float(number) for number in value["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadTemplate(
                "the note of the template is damaged", found=str(error), expected="id, digest, view, preset and shape"
            ) from error

    def open(self) -> TemplateArrays:
        """The arrays it names. Raises BadTemplate when that template is not at hand or has changed."""
        arrays = open_template(self.template_id, self.digest, self.view)
        if self.preset and self.preset not in arrays.presets:
            known = arrays.presets
            raise BadTemplate(f"no preset {self.preset!r}{nearest(self.preset, known)}", expected=", ".join(known))
        if len(self.shape) > len(arrays.shape_dirs):
            raise BadTemplate(
                "too many shape coefficients", found=str(len(self.shape)), expected=f"at most {len(arrays.shape_dirs)}"
            )
        return arrays


@lru_cache(maxsize=4)
def embedded_template(view: str) -> TemplateArrays:
    """The human that ships with the project, whole ('body') or head and shoulders ('bust'). Raises BadTemplate."""
    if view not in VIEWS:
        raise BadTemplate(f"unknown template view {view!r}", expected=" or ".join(VIEWS))
    return bust_view(embedded_template("body")) if view == "bust" else load_template()


def open_template(template_id: str, digest: str, view: str) -> TemplateArrays:
    """The template of that id, digest and view: Effigy's own, or one the user has added. Raises BadTemplate."""
    own = embedded_template("body")
    if template_id == own.template_id:
        arrays = embedded_template(view)
    else:
        arrays = installed_arrays(template_id)
        if view != arrays.view:
            raise BadTemplate(f"the template {template_id!r} has no view {view!r}", expected=arrays.view)
    if digest != arrays.digest:
        raise BadTemplate(
            f"the template {template_id!r} has changed since this was made",
            found=f"digest {arrays.digest[:12]}",
            expected=f"digest {digest[:12]}",
            do="Add the files it was made with (effigy template add), or make it again"
            if template_id != own.template_id
            else "Use the version of Effigy it was made with, or make it again",
        )
    return arrays


def reference_of(
    template_id: str, *, preset: str = "", shape: Sequence[float] = (), view: str = "bust"
) -> TemplateReference:
    """The note of a template at hand. view: of Effigy's own; others have one only. Raises BadTemplate."""
    own = embedded_template("body")
    arrays = embedded_template(view) if template_id == own.template_id else installed_arrays(template_id)
    return TemplateReference(template_id, arrays.digest, arrays.view, preset, tuple(float(x) for x in shape))


def installed_templates() -> dict[str, str]:
    """Every template at hand: id -> what it is, or what is wrong with its file. Effigy's own comes first."""
    own = embedded_template("body")
    found = {own.template_id: f"ships with Effigy: {len(own.vertices)} vertices, {len(own.joint_names)} joints"}
    for name in installed_names():
        try:
            arrays = installed_arrays(name)
        except BadTemplate as error:
            found[name] = str(error)
            continue
        triangles = sum(len(faces) for faces in arrays.faces.values())
        found[name] = (
            f"{len(arrays.vertices)} vertices, {triangles} faces, {len(arrays.joint_names)} joints, "
            f"{len(arrays.shape_names)} shapes, {len(arrays.expression_names)} expressions"
        )
    return found
