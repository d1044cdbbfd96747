"""What every source of a live training hands over: one tracked picture at a time, and whom it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import scaled_camera
from avatars.captures.images import area_resize
from avatars.templates.opening import TemplateReference
from shared.types import Camera, Environment, Pose


@dataclass(frozen=True, eq=False)
class Subject:
    """Whom a source shows. vertex_offset: [V, 3] m static offset from the shaped template, or None.

    environment: the light of the recording, where known.
    """

    name: str
    template: TemplateReference
    licence: str = ""
    consent: str = "not stated"
    vertex_offset: NDArray[np.float32] | None = None
    environment: Environment | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """One tracked picture.

    number: the source's own count. time_s: when it was taken, in the source's clock. rgba: [H, W, 4] uint8,
    premultiplied, display-encoded. camera: of that size. pose: of all joints and expressions of the subject's template.
    vertices: [V, 3] m, model axes, where the tracker has a better mesh than the template posed so, else None.
    """

    number: int
    time_s: float
    rgba: NDArray[np.uint8]
    camera: Camera
    pose: Pose
    vertices: NDArray[np.float32] | None = None


class FrameSource(Protocol):
    """A stream of tracked pictures. Used by one thread; `dropped` counts what never became a frame, by reason."""

    @property
    def subject(self) -> Subject | None:
        """Whom it shows; None while a tracker has not said so yet."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason -> how many frames were not handed over."""

    @property
    def expected(self) -> int:
        """How many frames there will be in all, 0 where nobody knows."""

    def next(self, timeout_s: float) -> TrackedFrame | None:
        """The next frame when its time has come, or None when it has not within timeout_s or none will come."""

    def ended(self) -> bool:
        """Whether no more frames will come."""

    def close(self) -> None:
        """Let go of files and sockets; may be called twice."""


def fitted(frame: TrackedFrame, longest_px: int) -> TrackedFrame:
    """The frame with its longer side brought down to `longest_px` by an area filter; smaller ones stay as they are."""
    height, width = frame.rgba.shape[:2]
    if max(width, height) <= longest_px:
        return frame
    factor = longest_px / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return replace(frame, rgba=area_resize(frame.rgba, size), camera=scaled_camera(frame.camera, size))
