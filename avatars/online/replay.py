"""A recorded capture played back as if it were live: frames in order, at a chosen rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from avatars.captures.capture import Capture
from avatars.online.frames import Subject, TrackedFrame
from shared.errors import BadCapture, BadConfig, nearest


class Clock:
    """When the frames of a replay are due: frame i at i / fps seconds after the first was asked for."""

    def __init__(
        self, fps: float, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if not fps > 0:
            raise BadConfig("the replay's rate is not positive", found=f"{fps} frames a second")
        self.fps, self._now, self._sleep = fps, now, sleep
        self._start: float | None = None

    def wait_for(self, index: int, timeout_s: float) -> bool:
        """Whether frame `index` is due, after sleeping for at most timeout_s until it is."""
        now = self._now()
        if self._start is None:
            self._start = now
        early_s = self._start + index / self.fps - now
        if early_s <= 0:
            return True
        self._sleep(min(early_s, timeout_s))
        return early_s <= timeout_s


class CaptureReplay:
    """The training images of a capture, by frame and then by camera. A `FrameSource`.

    fps: images a second, 0 as recorded. camera: the name of the only one to show, empty for all. longest_px: pictures
    are brought down to it. Raises BadCapture for a camera the capture lacks.
    """

    def __init__(self, capture: Capture, *, fps: float, longest_px: int, camera: str = "") -> None:
        if camera and camera not in capture.camera_names:
            raise BadCapture(
                f"capture {capture.name!r} has no camera {camera!r}{nearest(camera, capture.camera_names)}",
                expected=", ".join(capture.camera_names[:12]),
            )
        self.capture, self.dropped = capture, dict[str, int]()
        self._images = sorted(
            (
                index
                for index in capture.split("train")
                if not camera or capture.camera_names[capture.images[index].camera] == camera
            ),
            key=lambda index: (capture.images[index].frame, capture.images[index].camera),
        )
        self._size = capture.train_size(longest_px)
        self._clock = Clock(fps or capture.motion.fps)
        self._next = 0
        self.subject = subject_of(capture)

    @property
    def expected(self) -> int:
        """How many images it shows."""
        return len(self._images)

    def next(self, timeout_s: float) -> TrackedFrame | None:
        """The next image when it is due. A picture that cannot be read is left out and counted."""
        while not self.ended():
            if not self._clock.wait_for(self._next, timeout_s):
                return None
            index, number = self._images[self._next], self._next
            self._next += 1
            try:
                rgba = self.capture.rgba(index, self._size)
            except BadCapture as error:
                self.dropped[error.what] = self.dropped.get(error.what, 0) + 1
                continue
            image = self.capture.images[index]
            return TrackedFrame(
                number,
                number / self._clock.fps,
                rgba,
                self.capture.camera_of(index, self._size),
                self.capture.motion.at(image.frame),
            )
        return None

    def ended(self) -> bool:
        """Whether every image was shown."""
        return self._next >= len(self._images)

    def close(self) -> None:
        """Nothing is held open."""


def subject_of(capture: Capture) -> Subject:
    """Whom a capture shows."""
    provenance = dict(capture.provenance) | {"subject": capture.subject, "synthetic": capture.synthetic}
    return Subject(
        capture.subject,
        capture.template,
        licence=capture.licence,
        consent="synthetic person, nobody's likeness" if capture.synthetic else "not stated",
        vertex_offset=getattr(capture, "vertex_offset", None),
        environment=capture.environment,
        provenance=provenance,
    )
