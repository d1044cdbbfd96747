"""Tracking of videos and cameras. What a tracker pushes (PUSH to a PULL socket) is not answered. Part of `messages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class StartTrack:
    """Ask to make a capture of a video (a file or a folder of pictures on the backend's machine); answered by its
    JobInfo.

    output: the capture folder to make. focal_mm: the lens in mm of a 36 mm wide picture, 0 for what the file says.
    step: every so manieth picture. size_px: longest side stored. An empty source makes the tracker's environment only.
    body: a whole person, not a head. height_m: how tall the person is, 0 unknown; of whole persons only.
    """

    key: str
    source: str
    output: str
    focal_mm: float = 0.0
    step: int = 1
    size_px: int = 512
    subject: str = ""
    licence: str = "not stated"
    body: bool = False
    height_m: float = 0.0


@dataclass(frozen=True, eq=False)
class StartDrive:
    """Ask to follow a face live and push its poses, as TrackBegins, TrackFrame without a picture ([0, 0, 4]) and
    TrackEnds, to a PULL socket at `address` on the backend's machine; answered by its JobInfo.

    source: a camera's number (0 is the first) or a video file, played at its own speed.
    """

    key: str
    source: str
    address: str
    focal_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class TrackBegins:
    """First message of a tracker: whose template, and the order of its joints and expressions.

    Both lists may name any part of the template's, in any order; what is not named stays at rest. digest and view may
    be empty: the template at hand. shape: [S] its shape coefficients, may be empty.
    """

    name: str
    template_id: str
    digest: str
    view: str
    preset: str
    shape: Array
    joint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    licence: str = ""


@dataclass(frozen=True, eq=False)
class TrackFrame:
    """One tracked picture. number: the tracker's own count; time_s: when it was taken, in its own clock.

    image: [H, W, 4] uint8 sRGB, straight alpha, 0 where the person is not. K: [3, 3] px, pixel centres at +0.5.
    world_from_camera: [4, 4], OpenCV axes. rotations: [J, 3] rad and expressions: [E] in the order of TrackBegins;
    translation: [3] m. vertices: [V, 3] m where the tracker has a better mesh than the template posed so, else [0, 3].
    """

    number: int
    time_s: float
    image: Array
    K: Array
    world_from_camera: Array
    rotations: Array
    translation: Array
    expressions: Array
    vertices: Array


@dataclass(frozen=True, eq=False)
class TrackEnds:
    """The tracker has no more frames."""


TRACK_MESSAGES = (TrackBegins, TrackFrame, TrackEnds, StartTrack, StartDrive)
"""In the order `shared.messages` lists them."""
