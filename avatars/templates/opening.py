"""Find the template a capture or an avatar was made with, and refuse another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
    whole = load_template()
    return bust_view(whole) if view == "bust" else whole


def open_template(template_id: str, digest: str, view: str) -> TemplateArrays:
    """The template of that id, digest and view. Raises BadTemplate when it is not the one at hand."""
    arrays = embedded_template(view)
    if template_id != arrays.template_id:
        raise BadTemplate(
            f"the template {template_id!r} is not known here", expected=arrays.template_id, do="Install that template"
        )
    if digest != arrays.digest:
        raise BadTemplate(
            f"the template {template_id!r} has changed since this was made",
            found=f"digest {digest[:12]}",
            expected=f"digest {arrays.digest[:12]}",
            do="Use the version of Effigy it was made with, or make it again",
        )
    return arrays
