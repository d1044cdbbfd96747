"""The online worker: `python -m backend.online_worker`, started by the server for one live training.

Two threads take frames and learn; this one talks with the server: it renders the avatar under training (and any other
of the library beside it) from the newest snapshot, tells progress, and obeys pause, resume, stop, save and cancel.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.devices import (
    device_name,
    out_of_memory,
    rasteriser_name,
    refusal_for_want_of_memory,
    resolve_device,
    usable_cores,
    use_cores,
)
from backend.home import Home
from backend.library import Library
from backend.online_jobs import AUTOSAVE, RESULT
from backend.online_run import default_preset, live_id, live_summary, open_source, told
from backend.render_worker import answer, failed_at
from backend.rendering import Studio
from backend.worker_link import WorkerLink, join_server, worker_parser
from shared import __version__, messages
from shared.errors import BadAvatar, EffigyError, NotFound
from shared.messages import PROTOCOL_VERSION, AvatarDetail, AvatarList, ChangeJob, Failure, JobInfo, JobPreview, Welcome
from shared.pixel_memory import PixelWriter

TELL_EVERY_S, PREVIEW_EVERY_S, AUTOSAVE_EVERY_S = 0.3, 2.0, 60.0
FIRST_WORD_S, LISTEN_S = 30.0, 0.02

log = logging.getLogger("effigy.online_worker")


class LiveStudio(Studio):
    """A studio that also knows the avatar under training. A picture is of one snapshot from beginning to end."""

    def __init__(self, library: Library, device: str, session: Any, summary: messages.AvatarSummary) -> None:
        super().__init__(library, device)
        self.session, self.summary = session, summary
        self._snapshot: Any = None

    def avatar(self, avatar_id: str, digest: str = "") -> Any:
        """As in Studio; the live avatar is that of the snapshot held."""
        if avatar_id != self.summary.avatar_id:
            return self._beside(avatar_id, digest)
        if digest and digest != self.summary.digest:
            raise BadAvatar(f"Avatar {avatar_id} is not the one that was asked for", do="Link the avatar again")
        return self._snapshot.avatar

    def render(self, request: messages.RenderRequest) -> messages.FrameReply:
        """The picture, of the newest snapshot."""
        with self._learner().read() as self._snapshot:
            return super().render(request)

    def cloud(self, request: messages.PoseGaussians) -> messages.GaussianCloud:
        """As in Studio, of the newest snapshot."""
        with self._learner().read() as self._snapshot:
            return super().cloud(request)

    def detail(self, avatar_id: str) -> AvatarDetail:
        """As in Studio; the live avatar's preview is its newest picture."""
        if avatar_id != self.summary.avatar_id:
            return super().detail(avatar_id)
        with self._learner().read() as snapshot:
            avatar = snapshot.avatar
            rig, proxy, rest_pose = avatar.rig(), avatar.proxy(), np.asarray(avatar.rest_pose, np.float32)
        picture = self.session.preview()
        model = np.zeros((1, 1, 3), np.uint8) if picture is None else picture[:, : picture.shape[1] // 2]
        preview = np.dstack((model, np.full(model.shape[:2], 255, np.uint8)))
        return AvatarDetail(self.summary, rig, proxy, rest_pose, preview)

    def _beside(self, avatar_id: str, digest: str) -> Any:
        """An avatar of the library, posed as the live one is: without recorded CUDA graphs."""
        from avatars.rgb_head.avatar import RgbHeadAvatar

        found = super().avatar(avatar_id, digest)
        return RgbHeadAvatar(found.model, record=False) if isinstance(found, RgbHeadAvatar) else found

    def _learner(self) -> Any:
        if self.session.learner is None:
            raise NotFound("It has learned nothing yet", do="Wait for the first frames")
        return self.session.learner


class LiveJob:
    """One live training: what it was asked for, its session, and when what was last told."""

    def __init__(self, link: WorkerLink, asked: messages.StartOnline, home: Home, device: str) -> None:
        from avatars.online.config import load_online_config
        from avatars.online.session import Session

        self.link, self.asked = link, asked
        self.folder, self.library = home.jobs / asked.key, Library(home.library)
        config = load_online_config(asked.preset or default_preset(device), asked.overrides)
        self.session = Session(open_source(asked, config), config, device, self.folder / "report")
        self.summary = live_summary(asked.key, asked.name, "", "")
        self.studio = LiveStudio(self.library, device, self.session, self.summary)
        self._pixels = PixelWriter()
        self._listed = False
        self._told_s = self._previewed_s = 0.0
        self._saved_s = time.monotonic()
        self.wanted = ""

    def run(self) -> JobInfo:
        """Learn to the end of the stream or until told to end; returns how it ended."""
        self.session.start()
        try:
            while not self.session.over() and self.wanted not in ("stop", "cancel"):
                envelope = self.link.receive(LISTEN_S)
                if envelope is not None:
                    self._hear(envelope.message, envelope.request_id)
                self._keep_up()
            if self.wanted == "cancel":
                return self._info("cancelled", "Cancelled; nothing was kept")
            return self._finish()
        finally:
            self.session.close()

    def _hear(self, message: Any, request_id: int) -> None:
        """A question about pictures, answered here as by the render worker, or a command."""
        if isinstance(message, messages.PutEnvironment):
            self.studio.put_environment(message)
        elif isinstance(message, ChangeJob):
            self._obey(message.action)
        else:
            try:
                reply = answer(self.studio, self._pixels, message)
            except EffigyError as error:
                reply = Failure.of(error)
            except Exception as error:
                log.exception("failed at %s", type(message).__name__)
                reply = failed_at(message, error, f"jobs/{self.asked.key}/worker.log")
            self.link.send(reply, request_id)

    def _obey(self, action: str) -> None:
        if action == "pause":
            self.session.pause()
        elif action == "resume":
            self.session.resume()
        elif action == "save":
            try:
                self.link.send(self._info("running", f"Saved as the avatar {self._stored('save.avatar')!r}"))
                self._told_s = time.monotonic()
            except EffigyError as error:
                self.link.send(self._info("running", str(error)))
        else:
            self.wanted = action

    def _keep_up(self) -> None:
        now = time.monotonic()
        learner = self.session.learner
        if not self._listed and learner is not None and learner.status.images:
            self._listed = True
            reference = learner.subject.template
            self.studio.summary = replace(self.summary, template_id=reference.template_id)
            self.link.send(AvatarList((self.studio.summary,)))
            device = self.studio.device
            names = device_name(device), rasteriser_name(device)
            self.link.send(Welcome(PROTOCOL_VERSION, __version__, "", "", "", *names))
        if now - self._told_s >= TELL_EVERY_S:
            self._told_s = now
            self.link.send(self._info("running", told(self.session.status)[0]))
        if now - self._previewed_s >= PREVIEW_EVERY_S:
            picture = self.session.preview()
            if picture is not None:
                self.link.send(JobPreview(self.asked.key, self.session.status.learner.images, picture))
            self._previewed_s = time.monotonic()
        if self._listed and now - self._saved_s >= AUTOSAVE_EVERY_S:
            try:
                self.session.save(self.folder / AUTOSAVE, self.asked.name)
            except EffigyError as error:  # a full disk must not end the learning
                log.error("could not store what was learned: %s", error)
            self._saved_s = time.monotonic()

    def _finish(self) -> JobInfo:
        """Store what was learned and say how it ended. Raises what ended it otherwise."""
        self.session.stop()
        failure = self.session.failure
        if failure is not None and not isinstance(failure, EffigyError):
            raise failure
        if failure is not None:
            raise EffigyError(f"Learning ended: {failure.what}", found=failure.found, do=failure.do)
        avatar_id = self._stored(f"{self.asked.name}.avatar")
        (self.folder / RESULT).write_text(json.dumps({"avatar_id": avatar_id}), encoding="utf-8")
        text = told(self.session.status)[0]
        return replace(self._info("done", text), avatar_id=avatar_id, report_folder=str(self.folder / "report"))

    def _stored(self, name: str) -> str:
        """What was learned so far, as an avatar of the library; its id."""
        self.session.save(self.folder / name, self.asked.name)
        return self.library.adopt(self.folder / name, self.asked.name)

    def _info(self, state: str, message: str) -> JobInfo:
        status = self.session.status
        inner = status.learner
        return JobInfo(
            self.asked.key,
            "online",
            self.asked.name,
            state,
            step=inner.images,
            images_per_s=inner.images_per_s,
            losses={name: value for name, value in inner.losses.items() if math.isfinite(value)},
            message=message,
        )


def main() -> int:
    """Do one live training and end."""
    arguments = worker_parser("Effigy's online worker").parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    link = join_server(arguments)
    first = link.receive(FIRST_WORD_S)
    if first is None or not isinstance(first.message, messages.StartOnline):
        raise RuntimeError("the server did not say what to learn")
    asked = first.message
    try:
        device = resolve_device(arguments.device)
        use_cores(usable_cores())
        log.info("learning %s on %s with %s", live_id(asked.key), device_name(device), rasteriser_name(device))
        job = LiveJob(link, asked, Home(Path(arguments.home)), device)
        link.send(job.run())
    except EffigyError as error:
        link.send(Failure.of(error))
    except Exception as error:
        if not out_of_memory(error):
            raise
        log.exception("out of memory")
        link.send(Failure.of(refusal_for_want_of_memory(error, "live training")))
    link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
