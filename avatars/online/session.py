"""A live training from its source to its avatar: a thread feeds frames to a learner that is made when it is known for
whom."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar_folder import About, save_avatar
from avatars.online.config import OnlineConfig
from avatars.online.frames import FrameSource, Subject
from avatars.online.learner import Learner, OnlineStatus
from avatars.online.record import NoRecord, Record
from avatars.online.running_range import own_range
from avatars.online.snapshot import Snapshot
from avatars.online.store import StoredFrame, stacked
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.trainer import FAINT
from avatars.warm_up import compile_kernels
from shared.errors import EffigyError

POLL_S = 0.1

log = logging.getLogger("effigy.online")


@dataclass(frozen=True)
class SessionStatus:
    """A learner's status and its source's.

    expected: frames in all, 0 unknown; left_out: reason -> frames that were never learned.
    """

    learner: OnlineStatus = field(default_factory=OnlineStatus)
    expected: int = 0
    arrived: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


class Session:
    """Owns a source and, once the subject is known, a learner. It writes the files of `Record` into `folder`.

    `start` begins; `save` may be called at any time after the first steps; `close` ends all. The source is used by the
    feeding thread only.
    """

    def __init__(self, source: FrameSource, config: OnlineConfig, device: str, folder: Path | None = None) -> None:
        self.source, self.config, self.device = source, config, device
        self.record = Record(folder, config) if folder is not None else None
        self.learner: Learner | None = None
        self._failure: Exception | None = None
        self._arrived = 0
        self._over = False
        self._paused = False
        self._ending = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="effigy-frames", daemon=True)

    def start(self) -> None:
        """Begin to take frames."""
        self._feeder.start()

    @property
    def status(self) -> SessionStatus:
        """Where it is."""
        learner = self.learner
        inner = learner.status if learner is not None else OnlineStatus()
        left_out = dict(self.source.dropped)
        for reason, count in inner.rejected.items():
            left_out[reason] = left_out.get(reason, 0) + count
        if self._failure is not None:
            inner = replace(inner, state="failed")
        elif learner is None and self._over:
            inner = replace(inner, state="done")
        return SessionStatus(inner, self.source.expected, self._arrived, left_out)

    @property
    def failure(self) -> Exception | None:
        """What ended it, if something did."""
        return self._failure or (self.learner.failure if self.learner is not None else None)

    def over(self) -> bool:
        """Whether it has come to its end."""
        return self.status.learner.state in ("done", "failed")

    def pause(self) -> None:
        """Learn no more for now; frames are still taken."""
        self._paused = True
        if self.learner is not None:
            self.learner.pause()

    def resume(self) -> None:
        """Go on learning."""
        self._paused = False
        if self.learner is not None:
            self.learner.resume()

    def stop(self) -> None:
        """Take no more frames and learn no more; what was learned can be saved."""
        self._ending.set()
        self._feeder.join(30.0)
        if self.learner is not None:
            self.learner.stop()

    def close(self) -> None:
        """Stop, and let go of the source and the record."""
        self.stop()
        self.source.close()
        if self.record is not None:
            inner = self.status.learner
            self.record.finish(inner.steps, inner.images, inner.seconds)
            self.record = None

    def save(self, folder: Path, name: str) -> str:
        """Write the newest version as an avatar folder and return its digest; learning goes on meanwhile.

        Raises EffigyError where nothing was learned yet, EnvironmentFailed where the disk refuses.
        """
        learner = self.learner
        if learner is None:
            raise EffigyError("There is nothing to save yet", do="Wait for the first frames")
        with learner.read() as snapshot:
            if not snapshot.images:
                raise EffigyError("There is nothing to save yet", do="Wait for the first frames")
            avatar = compact(snapshot)
            images = snapshot.images
        avatar.model.driving_range = learner.range.with_modes(avatar.model.driving_range, avatar.model.layout)
        status = self.status
        training = {
            "metrics": {},
            "online": True,
            "images": images,
            "frames": status.learner.frames,
            "left_out": status.left_out,
            "seconds": round(status.learner.seconds, 2),
            "preset": self.config.description,
        }
        about = about_live(name, learner.subject, training)
        return save_avatar(Path(folder), avatar, about, straight_uint8(self._shown(learner, avatar)))

    def preview(self) -> NDArray[np.uint8] | None:
        """[H, 2W, 3] uint8: the newest version beside the newest frame, over white; None before there is one."""
        learner = self.learner
        newest = learner.newest() if learner is not None else None
        if learner is None or newest is None:
            return None
        with learner.read() as snapshot:
            drawn = draw(snapshot.avatar, newest)
        model = drawn.features[0] + (1 - drawn.alpha[0, ..., None])
        rgba = newest.rgba.float() / 255
        truth = rgba[..., :3] + (1 - rgba[..., 3:])
        return (torch.cat((model, truth), 1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()

    def _shown(self, learner: Learner, avatar: RgbHeadAvatar) -> Rasterised:
        newest = learner.newest()
        assert newest is not None  # images were learned, so frames came
        return draw(avatar, newest)

    def _feed(self) -> None:
        """Take frames until there are no more; make the learner when the first one has come."""
        try:
            if torch.device(self.device).type == "cpu":
                compile_kernels()
            if self.source.subject is not None:  # known before its first frame: nothing is made while the clock runs
                self.learner = self._made(self.source.subject)
            while not self._ending.is_set() and not self.source.ended():
                frame = self.source.next(POLL_S)
                if frame is None:
                    continue
                self._arrived += 1
                if self.learner is None:
                    assert self.source.subject is not None  # a source knows whom its frames show
                    self.learner = self._made(self.source.subject)
                self.learner.add(frame)
        except Exception as error:
            log.exception("taking frames ended")
            self._failure = error
        self._over = True
        if self.learner is not None and not self._ending.is_set():
            self.learner.end_of_stream()

    def _made(self, subject: Subject) -> Learner:
        learner = Learner(self.config, subject, self.device, log=self.record or NoRecord())
        if self._paused:
            learner.pause()
        learner.start()
        return learner


def compact(snapshot: Snapshot) -> RgbHeadAvatar:
    """A copy of a snapshot's avatar without Gaussians that no frame has shown or that faded."""
    model = snapshot.avatar.model
    visible = model.seen & (torch.sigmoid(model.opacities.detach()) > FAINT)
    return RgbHeadAvatar(own_range(model.kept(visible)))


def about_live(name: str, subject: Subject, training: dict[str, object]) -> About:
    """What is said of an avatar that learned live."""
    return About(
        name=name,
        licence=subject.licence,
        consent=subject.consent,
        training=training,
        provenance=dict(subject.provenance) | {"subject": subject.name},
    )


def draw(avatar: RgbHeadAvatar, frame: StoredFrame) -> Rasterised:
    """The avatar in a frame's pose and camera."""
    with torch.no_grad():
        theta, vertices, batch = stacked([frame], frame.K.new_zeros(1, 3))
        model = avatar.model
        posed = model.place(model.surface(vertices), model.weights(theta), hide_unseen=True)
        return rasterise(posed, batch.cameras, posed.colours)


def straight_uint8(drawn: Rasterised) -> NDArray[np.uint8]:
    """[H, W, 4] uint8 sRGB straight alpha of the first picture."""
    alpha: Tensor = drawn.alpha[0, ..., None]
    straight = torch.where(alpha > 1e-3, drawn.features[0] / alpha.clamp_min(1e-3), 0.0)
    return (torch.cat((straight, alpha), -1).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
