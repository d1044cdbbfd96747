"""Messages about editing avatars by words: who can edit, what is asked for, and what an edited version remembers.

Part of the protocol like those of `shared.messages`, which lists them; see there for what a field may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _no_weights() -> Array:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class EditNote:
    """What an edited version of an avatar remembers. parent_id: the parent's id at that time; the digest pins it."""

    parent_id: str
    parent_digest: str
    prompt: str
    editor: str
    region: str = ""
    seed: int = 0
    made: str = ""


@dataclass(frozen=True, eq=False)
class ListEditors:
    """Ask who can edit. avatar_id: whose regions are wanted as well; empty for none."""

    avatar_id: str = ""


@dataclass(frozen=True, eq=False)
class Look:
    """A prompt that an editor with a vocabulary knows. about: one line."""

    name: str
    prompt: str
    about: str = ""


@dataclass(frozen=True, eq=False)
class EditorInfo:
    """One editor. problem: why it cannot be used here and what to do, empty where it can.

    text_guidance, image_guidance: whether it heeds these numbers. looks: its vocabulary; none for one that takes any
    words.
    """

    name: str
    title: str
    licence: str
    problem: str = ""
    text_guidance: bool = False
    image_guidance: bool = False
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, eq=False)
class EditorList:
    """Answer to ListEditors. regions: names of the parts of that avatar that an edit can be held to."""

    editors: tuple[EditorInfo, ...]
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class StartEdit:
    """Ask for a job of kind 'edit': a new version of an avatar, changed by words. `key` as in StartTraining.

    digest: pins the avatar's content, empty accepts any. capture: the recording it was trained on (a name or folder),
    empty takes the unedited avatar's pictures instead. region: one of its regions, empty for everywhere. weights: [V]
    float32 in 0..1 over the vertices of its proxy mesh, painted by hand, in place of a region; [0] for none.
    text_guidance, image_guidance: of diffusion, 0 for the editor's own. overrides: further names of the edit's
    configuration to YAML texts. gpus: as in StartTraining.
    """

    key: str
    name: str
    avatar_id: str
    digest: str
    prompt: str
    editor: str
    capture: str = ""
    region: str = ""
    strength: float = 0.8
    text_guidance: float = 0.0
    image_guidance: float = 0.0
    seed: int = 0
    weights: Array = field(default_factory=_no_weights)
    overrides: dict[str, str] = field(default_factory=dict)
    gpus: int = 1


EDIT_MESSAGES = (ListEditors, EditorList, StartEdit)
"""In the order `shared.messages` lists them."""
