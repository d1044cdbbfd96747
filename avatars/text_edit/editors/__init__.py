"""Editors of pictures: the table of them, and what the editing loop asks of one."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol

from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors.facts import EditorFacts, check_prompt, editor_facts
from shared.errors import BadConfig, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from avatars.text_edit.views import Views

__all__ = ["TABLE", "Editor", "EditorFacts", "check_prompt", "editor_facts", "open_editor"]
TABLE: Mapping[str, str] = {
    "built_in": "avatars.text_edit.editors.built_in:make_built_in",
    "ip2p": "avatars.text_edit.editors.ip2p:make_ip2p",
    "flux_kontext": "avatars.text_edit.editors.instruct:make_flux_kontext",
    "qwen_edit": "avatars.text_edit.editors.instruct:make_qwen_edit",
    "sdxl": "avatars.text_edit.editors.instruct:make_sdxl",
}
"""Name -> module:function that makes the editor for a device."""


class Editor(Protocol):
    """Changes pictures as a prompt says.

    rounds: 'interval' for one that edits single pictures between steps with partial noise, 'rounds' for one that wants
    to edit the whole set at once, a few times in a run. deterministic: gives the same picture for the same view. One
    that knows which regions a prompt changes may say so in `regions` (names, () for all) once prepared.
    """

    name: str
    licence: str
    needs_maps: bool
    rounds: str
    deterministic: bool

    def prepare(self, prompt: str, settings: EditorSettings) -> None:
        """Understand a prompt. Raises BadConfig with one sentence where it cannot."""

    def edit(self, views: Views, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """The edited pictures [B, H, W, 3] in 0..1. noise: lowest and highest noise level, of 0..1."""


def open_editor(name: str, device: str) -> Editor:
    """The editor of that name. Raises BadConfig naming the nearest, EnvironmentFailed where it is not installed."""
    if name not in TABLE:
        raise BadConfig(f"there is no editor {name!r}{nearest(name, TABLE)}", expected=", ".join(TABLE))
    return resolve_name(TABLE[name])(device)  # type: ignore[no-any-return]
