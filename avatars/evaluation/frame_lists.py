"""Which pictures of a capture `infer` draws, in both vocabularies of the original (sdf_body page 8).

`nvs` (training poses from views kept back) and `unseen` (held-out poses) are the late names; early `val` is both of
them in one list, and `test`, late `odp`, is a motion of elsewhere. Both give the same lists: val is nvs, then unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from avatars.captures.capture import Capture
from shared.errors import BadConfig

NVS_EVERY, UNSEEN_EVERY, LEAST = 2, 50, 4
MODES = ("val", "test", "nvs", "unseen", "odp")
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"val": ("nvs", "unseen"), "nvs": ("nvs",), "unseen": ("unseen",), "test": ("odp",), "odp": ("odp",)}
)
"""Mode -> what it consists of."""


@dataclass(frozen=True)
class FrameView:
    """One picture to be drawn: a frame of the capture's motion seen by one of its cameras.

    part: 'nvs' or 'unseen'. image: index into the capture's pictures where that moment was recorded, else None.
    """

    part: str
    frame: int
    view: int
    image: int | None


def views_of(capture: Capture, part: str, novel_view: int = -1) -> tuple[int, ...]:
    """The cameras of a part: those kept back (of all pictures of its frames where none is), or the one asked for.

    Raises BadConfig for a camera that is not there.
    """
    if novel_view >= 0:
        check_view(capture, novel_view)
        return (novel_view,)
    frames = set(frames_of(capture, part))
    trained = {image.camera for image in capture.images if image.split == "train"}
    seen = {image.camera for image in capture.images if image.frame in frames and image.split != "train"}
    return tuple(sorted(seen - trained or seen or trained))


def frames_of(capture: Capture, part: str) -> tuple[int, ...]:
    """Frames of training poses ('nvs') or of poses held out ('unseen')."""
    trained = capture.training_frames()
    if part == "nvs":
        return trained
    held_out = {image.frame for image in capture.images if image.split in ("test", "more")}
    return tuple(sorted(held_out - set(trained)))


def frame_views(capture: Capture, mode: str, novel_view: int = -1, every: int = 0) -> tuple[FrameView, ...]:
    """What a mode draws of a capture, in order: frame by frame, its views within. Empty for 'test' and 'odp'.

    every: take each n-th frame; 0 for the original's steps, 2 in nvs and 50 of the recording's in unseen, where the
    capture is long enough that they leave at least four frames, else all frames. Raises BadConfig for a mode or a view
    that is not there.
    """
    check_mode(mode)
    if every < 0:
        raise BadConfig("--every is too small", found=str(every), expected="at least 1, or 0 for the usual steps")
    recorded = {(image.frame, image.camera): index for index, image in reversed(list(enumerate(capture.images)))}
    found = []
    for part in PARTS[mode]:
        if part == "odp":
            continue
        frames, views = frames_of(capture, part), views_of(capture, part, novel_view)
        for frame in frames[::every] if every else usual_frames(frames, part):
            found += [FrameView(part, frame, view, recorded.get((frame, view))) for view in views]
    return tuple(found)


def usual_frames(frames: tuple[int, ...], part: str) -> tuple[int, ...]:
    """Those of a part that the original draws: in unseen poses by their numbers, for some may not be read at all."""
    if part == "nvs":
        return frames[:: step(len(frames), NVS_EVERY)]
    numbered = tuple(frame for frame in frames if (frame - frames[0]) % UNSEEN_EVERY == 0)
    return numbered if len(numbered) >= LEAST else frames


def step(frames: int, usual: int) -> int:
    """The usual step through so many frames, or 1 where it would leave fewer than LEAST."""
    return usual if frames >= LEAST * usual else 1


def check_mode(mode: str) -> None:
    """Raises BadConfig for a word that is no mode."""
    if mode not in MODES:
        raise BadConfig("unknown --infer_mode", found=mode, expected=", ".join(MODES))


def check_view(capture: Capture, view: int) -> None:
    """Raises BadConfig for a camera that the capture lacks."""
    if not 0 <= view < len(capture.cameras):
        raise BadConfig(
            f"capture {capture.name!r} has no view {view}", expected=f"--novel_view 0 to {len(capture.cameras) - 1}"
        )
