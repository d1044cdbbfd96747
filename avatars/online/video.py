"""A video file with its track beside it, played back as if it were live. Read by ffmpeg (package imageio-ffmpeg)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatars.captures.images import premultiply
from avatars.captures.video_pictures import VideoPictures
from avatars.online.frames import Subject, TrackedFrame, fitted
from avatars.online.replay import Clock
from avatars.online.track import read_track
from shared.errors import BadCapture


class VideoSource:
    """Pictures of a video with the poses of its track, frame by frame. A `FrameSource`.

    mask: a second video, white where the person is; needed where the first has no alpha channel. fps: 0 as recorded.
    Raises BadCapture (which file, what is wrong), EnvironmentFailed where imageio-ffmpeg is not installed.
    """

    def __init__(self, video: Path, track: Path, *, mask: Path | None, fps: float, longest_px: int) -> None:
        self.dropped: dict[str, int] = {}
        self._track = read_track(track)
        self._longest_px = longest_px
        self._pictures = VideoPictures(video, "rgba")
        self._masks = VideoPictures(mask, "gray") if mask is not None else None
        try:
            if self._masks is None and not self._pictures.has_alpha:
                raise BadCapture(
                    f"{video.name} has no alpha channel, so nothing says where the person is",
                    found=self._pictures.pixel_format,
                    do="Give a mask video as well, or a video with alpha (for example VP9 or ProRes 4444)",
                )
            for pictures in (self._pictures, self._masks):
                if pictures is not None and pictures.size != self._track.size_px:
                    raise BadCapture(
                        f"{pictures.path.name} has another size than its track says",
                        found=f"{pictures.size[0]}x{pictures.size[1]}",
                        expected=f"{self._track.size_px[0]}x{self._track.size_px[1]}",
                    )
        except BadCapture:
            self.close()
            raise
        self._clock = Clock(fps or self._pictures.fps or self._track.motion.fps)
        self._next = 0
        self._over = False

    @property
    def subject(self) -> Subject:
        """Whom the track describes."""
        return self._track.subject

    @property
    def expected(self) -> int:
        """How many frames the track has."""
        return len(self._track)

    def next(self, timeout_s: float) -> TrackedFrame | None:
        """The next frame when it is due. The stream ends with the shorter of video, mask and track."""
        if self._over or not self._clock.wait_for(self._next, timeout_s):
            return None
        number = self._next
        picture = self._pictures.next() if number < len(self._track) else None
        mask = self._masks.next() if self._masks is not None and picture is not None else None
        if picture is None or (self._masks is not None and mask is None):
            self._over = True
            return None
        self._next += 1
        straight = np.array(picture)
        if mask is not None:
            straight[..., 3] = mask[..., 0]
        camera = self._track.camera(number)
        frame = TrackedFrame(
            number, number / self._clock.fps, premultiply(straight), camera, self._track.motion.at(number)
        )
        return fitted(frame, self._longest_px)

    def ended(self) -> bool:
        """Whether the last picture was shown."""
        return self._over or self._next >= len(self._track)

    def close(self) -> None:
        """End ffmpeg."""
        for pictures in (self._pictures, self._masks):
            if pictures is not None:
                pictures.close()
