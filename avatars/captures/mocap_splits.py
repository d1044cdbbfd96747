"""Which cameras and frames of ZJU-MoCap and MonoCap are trained on and tested, as published (sdf_body page 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from avatars.captures.options import SplitChoice
from avatars.captures.splits import held_out_end
from shared.errors import BadCapture

Range = tuple[int, int]

EVERY = 30
"""Held-out cameras are looked at in every so manieth frame (NeuralBody's protocol)."""
DRAWN_EVERY = 50
"""HF-Avatar draws unseen poses in every so manieth frame; those beside the protocol's are read, too, for `infer`."""
ZJU_CAMERAS = (0, 6, 12, 18)
ONE_CAMERA_IN = 4
ZJU: Mapping[str, tuple[Range, Range]] = MappingProxyType(
    {
        "313": ((0, 60), (60, 1061)),
        "315": ((0, 400), (400, 1401)),
        "377": ((0, 300), (300, 618)),
        "386": ((0, 300), (300, 647)),
        "387": ((0, 300), (300, 655)),
        "390": ((700, 1000), (0, 701)),
        "392": ((0, 300), (300, 557)),
        "393": ((0, 300), (300, 659)),
        "394": ((0, 300), (300, 860)),
    }
)
"""Recording -> frames of training and of unseen poses, [first, one after the last)."""
MONOCAP: Mapping[str, tuple[Range, tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "olek": ((0, 201), (44,), (*range(0, 46, 5), 49)),
        "vlad": ((0, 301), (66,), tuple(range(0, 101, 10))),
    }
)
"""Recording -> frames, cameras trained on, cameras tested."""


@dataclass(frozen=True)
class ViewSplit:
    """Training pictures are train_cameras x train_frames. test_frames: poses held out, () for the training poses.

    Held-out cameras are looked at every `every` frames: 'test' in test_frames, 'val' in those of training. 'more' are
    pictures of test_frames in the steps of HF-Avatar, which no figure of the protocol counts.
    """

    train_cameras: tuple[int, ...]
    train_frames: Range
    test_cameras: tuple[int, ...]
    test_frames: Range | tuple[()]
    every: int = EVERY

    def wanted(self) -> Iterator[tuple[int, int, str]]:
        """(frame, camera, split) of every picture."""
        for frame in range(*self.train_frames):
            for camera in self.train_cameras:
                yield frame, camera, "train"
        seen = "val" if self.test_frames else "test"
        for frame in range(*self.train_frames)[:: self.every]:
            for camera in self.test_cameras:
                if camera not in self.train_cameras:
                    yield frame, camera, seen
        for at, frame in enumerate(range(*(self.test_frames or (0, 0)))):
            counted = at % self.every == 0
            drawn = counted or at % DRAWN_EVERY == 0
            if drawn and not self.train_frames[0] <= frame < self.train_frames[1]:
                for camera in self.test_cameras:
                    yield frame, camera, "test" if counted else "more"


def view_split(kind: str, folder: Path, frames: int, cameras: int, chosen: SplitChoice) -> tuple[ViewSplit, str]:
    """The split of a recording with so many frames and cameras, in words too. Raises BadCapture for a bad `chosen`."""
    split, said = _published(kind, folder.name, frames, cameras) or _usual(frames, cameras)
    for name, value, most in (
        ("train_cameras", chosen.train_cameras, cameras),
        ("test_cameras", chosen.test_cameras, cameras),
        ("train_frames", chosen.train_frames, frames + 1),
        ("test_frames", chosen.test_frames, frames + 1),
    ):
        if not value:
            continue
        ordered = len(value) == 2 and value[0] < value[1]
        if not all(0 <= one < most for one in value) or (name.endswith("frames") and not ordered):
            raise BadCapture(
                f"split.{name} of effigy.json does not fit {folder.name}",
                found=str(list(value)),
                expected=f"numbers below {most}" + (", first and one after the last" if "frames" in name else ""),
            )
        split = replace(split, **{name: tuple(value)})
        said = f"split as effigy.json says ({name})"
    shown = range(*split.train_frames)
    if len(shown) < split.every * 2:
        split = replace(split, every=max(1, len(shown) // 4))
    return split, said


def _published(kind: str, name: str, frames: int, cameras: int) -> tuple[ViewSplit, str] | None:
    if kind == "zju":
        key = next((one for one in ZJU if one in name), "")
        if not key or cameras <= max(ZJU_CAMERAS) or frames <= ZJU[key][0][0]:
            return None
        train, unseen = (_within(one, frames) for one in ZJU[key])
        rest = tuple(camera for camera in range(cameras) if camera not in ZJU_CAMERAS)
        return ViewSplit(ZJU_CAMERAS, train, rest, unseen if unseen[0] < unseen[1] else ()), f"split of {key}"
    key = next((one for one in MONOCAP if one in name.lower()), "")
    if not key or cameras <= max((*MONOCAP[key][1], *MONOCAP[key][2])):
        return None
    train, own, tested = MONOCAP[key]
    return ViewSplit(own, _within(train, frames), tested, ()), f"split of {key}"


def _usual(frames: int, cameras: int) -> tuple[ViewSplit, str]:
    """The last fifth of the frames is held out, and every fourth camera where there are more than three."""
    end, said = held_out_end(frames, max(1, frames // 5))
    back = tuple(k for k in range(cameras) if cameras > 3 and k % ONE_CAMERA_IN == ONE_CAMERA_IN // 2)
    train = tuple(k for k in range(cameras) if k not in back)
    more = f", and cameras {', '.join(map(str, back))}" if back else ""
    return ViewSplit(train, (0, end), back or train, (end, frames)), f"{said[0].lower()}{said[1:]}{more}"


def _within(frames: Range, count: int) -> Range:
    return min(frames[0], count), min(frames[1], count)
