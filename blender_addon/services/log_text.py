"""The log as a text block of the open file, where an artist can read, search and copy it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import bpy

from ..logic.faults import GUARDS, Fault

TEXT_NAME = "Effigy Log"


def as_lines(faults: Sequence[Fault]) -> str:
    """Newest last: time, part and sentence, the rest indented below."""
    blocks = []
    for fault in faults:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(fault.at_s))
        rest = "".join(f"    {line}\n" for line in fault.detail.strip().splitlines())
        blocks.append(f"{clock}  {fault.where}: {fault.sentence}\n{rest}")
    return "\n".join(blocks) or "Nothing went wrong since Blender was started.\n"


def write(content: str, name: str = TEXT_NAME) -> Any:
    """The text block of this name with this content, made where there is none."""
    text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
    text.clear()
    text.write(content)
    text.cursor_set(0)
    return text


def register() -> None:
    """Nothing to set up: the text is made when it is first shown."""


def unregister() -> None:
    """Forget what went wrong; text blocks stay in the file, they are the user's."""
    GUARDS.clear()
