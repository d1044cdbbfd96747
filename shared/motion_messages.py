"""Messages about motions: those of captures and files that only the backend can read, carried over to an avatar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class GetMotion:
    """Ask for a motion. source: a capture's name or folder (also a tracker's), or a motion file, on the backend's side.

    carried_over: made the avatar's own, relative to both neutral faces (method page 11), with strength, clip (1 within
    the avatar's training, 0 unlimited), neutral_frame (-1: the calm ones) and smooth_hz (0: none); otherwise as it is.
    camera: of the capture, empty for the frontal one.
    """

    avatar_id: str
    source: str
    carried_over: bool = False
    strength: float = 1.0
    clip: float = 1.0
    neutral_frame: int = -1
    smooth_hz: float = 0.0
    camera: str = ""


@dataclass(frozen=True, eq=False)
class MotionReply:
    """Answer to GetMotion. rotations: [T, J, 3] rad, model axes; translations: [T, 3] m; expressions: [T, E].

    notes: sentences about what could not be carried over.
    """

    joint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    rotations: Array
    translations: Array
    expressions: Array
    fps: float
    notes: tuple[str, ...] = ()
