"""What a live training is asked for, checked and opened: the same for the online worker and for `effigy online`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from backend.addresses import require_loopback
from backend.library import check_name
from backend.live_pictures import check_live
from shared.errors import BadConfig, nearest
from shared.messages import AvatarSummary, StartOnline

SOURCES = ("capture", "video", "listen", "track")
LEARNING = "Learning"
LIVE = "live-"
"""Before a job's id: the id of the avatar that learns in it."""


def default_preset(device: str) -> str:
    """The preset for a device where none was named."""
    return "online" if device.startswith("cuda") else "online_cpu"


def live_id(job_id: str) -> str:
    """The id under which the avatar of a running live training is rendered."""
    return LIVE + job_id


def live_summary(job_id: str, name: str, template_id: str, created: str) -> AvatarSummary:
    """How it is listed. Its digest never changes while it learns, so that scenes stay linked to it."""
    digest = hashlib.sha256(live_id(job_id).encode()).hexdigest()
    return AvatarSummary(live_id(job_id), f"{name} (learning)", "rgb_head", digest, template_id, created)


def check_online(asked: StartOnline) -> None:
    """Raises BadConfig, BadCapture, NotAllowed, …: the sentence a user should read before anything begins."""
    from avatars.online.config import load_online_config

    check_name(asked.name)
    if asked.source not in SOURCES:
        raise BadConfig(f"there is no source {asked.source!r}{nearest(asked.source, SOURCES)}", expected=str(SOURCES))
    if not 0 <= asked.video_fps <= 1000:
        raise BadConfig("video_fps is out of range", found=str(asked.video_fps), expected="0 to 1000")
    config = load_online_config(asked.preset or default_preset("cuda"), asked.overrides)
    if asked.source == "listen":
        require_loopback(asked.location)
    elif asked.source == "track":
        check_live(asked.location)
    else:
        open_source(asked, config).close()


def open_source(asked: StartOnline, config: Any) -> Any:
    """The frames asked for, as an `avatars.online.frames.FrameSource`. Raises what opening it can raise."""
    if asked.source == "capture":
        from avatars.captures.opening import open_capture
        from avatars.online.replay import CaptureReplay

        capture = open_capture(asked.location)
        return CaptureReplay(capture, fps=asked.video_fps, longest_px=config.frame_px, camera=asked.camera)
    if asked.source == "video":
        from avatars.online.video import VideoSource

        files = [Path(text).expanduser() if text else None for text in (asked.location, asked.track, asked.mask)]
        if files[0] is None or files[1] is None:
            raise BadConfig("a video needs the track beside it", do="Name both")
        return VideoSource(files[0], files[1], mask=files[2], fps=asked.video_fps, longest_px=config.frame_px)
    if asked.source == "track":
        from backend.live_source import TrackerSource

        return TrackerSource(asked.location, asked.name)
    from avatars.online.push import PushSource

    require_loopback(asked.location)
    return PushSource(asked.location)


def told(status: Any) -> tuple[str, dict[str, float]]:
    """A session's status in one line, and its losses."""
    inner = status.learner
    parts = [f"{inner.frames} frames" + (f" of {status.expected}" if status.expected else "")]
    left_out = sum(status.left_out.values())
    if left_out:
        reason, count = max(status.left_out.items(), key=lambda item: item[1])
        parts.append(f"{left_out} left out ({reason}: {count})")
    parts.append(f"{inner.images} images learned")
    if inner.note:
        parts.append(inner.note)
    state = {"waiting": "Waiting for frames", "learning": LEARNING, "paused": "Paused", "finishing": "Finishing"}
    return f"{state.get(inner.state, inner.state.capitalize())}: {', '.join(parts)}", dict(inner.losses)
