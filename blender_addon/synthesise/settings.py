"""What to synthesise, as one immutable value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

from .._shared import errors

GENERATOR_VERSION = 2
"""Raised whenever the same settings would give other pictures, so that resumed captures never mix."""

LATER = ("performance", "hair_length", "hair_melanin", "device", "view", "relight", "test_last")
DEVICES = ("cpu", "cuda")
VIEWS = ("bust", "body")
BODY_PERFORMANCES = ("everyday", "turning")
TRUTH_EVERY = 5
"""Every so many training frames of a relighting capture bring ground truth, as all held-out frames do."""


class Shot(NamedTuple):
    """One picture: what it shows, and the light where it is not the capture's own."""

    frame: int
    camera: int
    light: str = ""

    def stem(self) -> str:
        """Its file's name without the ending."""
        return f"{self.camera:02d}_{self.frame:04d}" + (f"_{self.light}" if self.light else "")


@dataclass(frozen=True)
class CaptureSettings:
    """A capture of a head or, with view "body", of a whole person. Angles in rad, sizes in px.

    `light` is one of `scene.LIGHTS` or `painted_lights.PAINTED`, turned about +z by its rotation.

    Every frame is seen by `views_per_frame` of the cameras, in turn. Every `test_every`-th frame is held out in all its
    cameras; with test_blocks > 0 instead the last fifth of each of so many equal stretches of time, so that no held-out
    frame has a neighbour in training (but at a block's ends). strands: hairs on the scalp; brows and lashes scale with
    it; hair_length multiplies their length, hair_melanin is their colour (1 black, 0 white). threads 0 uses all cores.
    performance: a name in `performances.PERFORMANCES`. device: what Cycles computes on, "cpu" or "cuda".
    held_out_cameras: so many cameras, evenly among them, are kept back from training in every frame ("val").
    relight: names in `painted_lights.PAINTED` joined by "+". Where given, materials are albedo, roughness and metallic
    alone, there is a belt, held-out frames are rendered in each of these lights beside the capture's own, and albedo,
    normals, roughness and metallic are stored with them. test_last: the last so many frames are held out.
    """

    name: str = "demo_head"
    subject: str = "synthetic man"
    preset: str = "man"
    shape: tuple[float, ...] = ()
    frames: int = 60
    cameras: int = 8
    views_per_frame: int = 4
    size_px: int = 384
    samples: int = 16
    strands: int = 18000
    light: str = "courtyard"
    light_rotation_rad: float = -1.75
    light_strength: float = 1.0
    fps: float = 6.0
    test_every: int = 6
    seed: int = 7
    webp_quality: int = 92
    threads: int = 0
    performance: str = "talking_head"
    test_blocks: int = 0
    hair_length: float = 1.0
    hair_melanin: float = 0.96
    device: str = "cpu"
    view: str = "bust"
    held_out_cameras: int = 0
    relight: str = ""
    test_last: int = 0

    def __post_init__(self) -> None:
        for field, low, high in (
            ("frames", 1, 100_000),
            ("cameras", 1, 100),
            ("views_per_frame", 1, self.cameras),
            ("size_px", 16, 8192),
            ("samples", 1, 65536),
            ("strands", 0, 1_000_000),
            ("test_every", 2, 1_000_000),
            ("webp_quality", 1, 100),
            ("threads", 0, 1024),
            ("held_out_cameras", 0, self.cameras - 1),
            ("test_blocks", 0, self.frames // 5),
            ("hair_length", 0.1, 10),
            ("hair_melanin", 0, 1),
            ("test_last", 0, self.frames - 1),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise errors.BadConfig(
                    f"capture setting {field} is out of range", found=str(value), expected=f"{low} to {high}"
                )
        if self.device not in DEVICES:
            raise errors.BadConfig(
                "capture setting device is unknown", found=self.device, expected=" or ".join(DEVICES)
            )

        if self.view not in VIEWS:
            raise errors.BadConfig("capture setting view is unknown", found=self.view, expected=" or ".join(VIEWS))
        if (self.view == "body") != (self.performance in BODY_PERFORMANCES):
            raise errors.BadConfig(
                f"the performance {self.performance!r} is not for the view {self.view!r}",
                expected=f"{' or '.join(BODY_PERFORMANCES)} for the body, another for the bust",
            )

    def digest(self, template_digest: str) -> str:
        """sha256 over everything that decides a pixel.

        Settings that came later count only where they are not at their default, so that earlier captures keep theirs.
        """
        indifferent = ("name", "subject", "threads", "test_blocks", "held_out_cameras")
        decisive = {
            key: value
            for key, value in asdict(self).items()
            if key not in indifferent and not (key in LATER and value == getattr(CaptureSettings, key))
        }
        text = json.dumps([GENERATOR_VERSION, template_digest, decisive], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def views(self) -> list[tuple[int, int]]:
        """(frame, camera) of every picture: each frame's cameras are spread over the arc and alternate."""
        stride = self.cameras / self.views_per_frame
        steps = max(int(stride), 1)
        return [
            (frame, int(view * stride) + (frame + frame // steps) % steps)
            for frame in range(self.frames)
            for view in range(self.views_per_frame)
        ]

    def lights(self) -> tuple[str, ...]:
        """Names of the lights that held-out frames are relit by."""
        return tuple(filter(None, self.relight.split("+")))

    def shots(self) -> list[Shot]:
        """Every picture, in the order they are rendered: one light after the other, since changing it costs seconds."""
        relit = [Shot(*view, light) for light in self.lights() for view in self.views() if self.split(*view) == "test"]
        return [Shot(*view) for view in self.views()] + relit

    def has_truth(self, shot: Shot) -> bool:
        """Whether ground truth is rendered with this picture; pictures in other lights share it."""
        kept = self.split(shot.frame, shot.camera) == "test" or shot.frame % TRUTH_EVERY == 0
        return bool(self.relight) and not shot.light and kept

    def split(self, frame: int, camera: int = 0) -> str:
        """ "test" for held-out frames, "val" for other frames of a camera that is kept back, else "train"."""
        if self.test_last:
            held_out = frame >= self.frames - self.test_last
        elif self.test_blocks:
            within = frame * self.test_blocks % self.frames  # in units of 1/test_blocks frames
            held_out = 5 * within >= 4 * self.frames
        else:
            held_out = frame % self.test_every == self.test_every - 1
        if held_out:
            return "test"
        return "val" if camera in self.cameras_held_out() else "train"

    def cameras_held_out(self) -> tuple[int, ...]:
        """Indices of the cameras kept back."""
        count = self.held_out_cameras
        return tuple(int((k + 0.5) * self.cameras / count) for k in range(count))


KNOWN = {
    "demo_head": CaptureSettings(),
    "talking_head": CaptureSettings(
        name="talking_head",
        subject="synthetic woman",
        preset="woman",
        shape=(0.0,) * 16 + (1.0, -0.8, 0.6, 0.5, -0.7, 0.4, -0.5, 0.6),
        frames=600,
        cameras=1,
        views_per_frame=1,
        size_px=512,
        samples=24,
        strands=12000,
        light="interior",
        fps=25.0,
        seed=11,
        performance="wide",
        test_blocks=5,
        hair_length=1.6,
        hair_melanin=0.62,
    ),
    "demo_body": CaptureSettings(
        name="demo_body",
        subject="synthetic man",
        view="body",
        performance="everyday",
        frames=40,
        cameras=10,
        views_per_frame=10,
        held_out_cameras=2,
        size_px=512,
        samples=12,
        strands=6000,
        hair_length=1.25,
        hair_melanin=0.86,
        light="courtyard",
        fps=2.0,
        seed=5,
        webp_quality=88,
    ),
    "demo_relight": CaptureSettings(
        name="demo_relight",
        subject="synthetic man",
        view="body",
        performance="turning",
        frames=58,
        cameras=2,
        views_per_frame=2,
        test_last=8,
        relight="noon+neon",
        size_px=512,
        samples=16,
        strands=6000,
        hair_length=1.25,
        hair_melanin=0.86,
        light="room",
        light_rotation_rad=0.0,
        fps=5.0,
        seed=5,
        webp_quality=86,
    ),
}
"""Settings of the captures that ship with Effigy; talking_head is one fixed camera, as a phone would film it."""
