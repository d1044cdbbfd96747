"""A head that learns from frames while they arrive (RGBAvatar online, method page 6): one thread, snapshots to render.

`add` may be called from any one thread, `read` (a snapshot to render) and the controls from any. The learner's own
thread alone touches the model; what is rendered are copies, so nobody ever sees a half-updated one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avatars.lighting.irradiance import environment_irradiance
from avatars.online.config import OnlineConfig
from avatars.online.frames import Subject, TrackedFrame
from avatars.online.head_pose import rest_pose
from avatars.online.intake import Intake
from avatars.online.record import NoRecord, StepLog
from avatars.online.running_range import RunningRange, begin_range, renormalise, widen_limits
from avatars.online.sampler import HeadTurn, OnlineSampler
from avatars.online.snapshot import Snapshot, SnapshotBuffer
from avatars.online.store import FrameStore, StoredFrame, StorePlan, stacked
from avatars.rgb_head.driving import open_range
from avatars.rgb_head.initial import new_head
from avatars.rgb_head.model import RgbHead
from avatars.rgb_head.objective import HeadObjective
from avatars.training.optimiser import Optimiser
from avatars.training.sampler import Sampler
from shared.errors import BadConfig, EffigyError

WIDEN_EVERY = 25
"""Frames between two looks at how far θ has come; a second at 25 frames a second."""
LOOK_AGAIN = 10
"""Offline, the search for Gaussians seen for the first time ends when it has found none for long. A live head may turn
at any time, so it is begun again: one step in ten, on CUDA twenty in two hundred."""
PACE_S = 2.0
LAST_READER_S = 10.0

log = logging.getLogger("effigy.online")


@dataclass(frozen=True)
class OnlineStatus:
    """Where a learner is. state: waiting, learning, paused, finishing, done or failed.

    frames: accepted; rejected: reason -> how many; images, steps: learned. note: what memory
    allows, if less than asked.
    """

    state: str = "waiting"
    frames: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    images_per_s: float = 0.0
    seconds: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Learner:
    """Trains the head of one subject. `start` begins its thread; frames may be added before and after.

    Raises BadTemplate where the subject's template is not at hand, BadConfig for memory that cannot hold the ring.
    """

    def __init__(
        self,
        config: OnlineConfig,
        subject: Subject,
        device: str,
        *,
        log: StepLog | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.subject, self.device = config, subject, torch.device(device)
        self._log, self._now = log or NoRecord(), now
        light = subject.environment
        self.model: RgbHead = new_head(
            subject.template,
            config.training.model,
            seed=config.training.seed,
            captured_irradiance=environment_irradiance(light) if light is not None else None,
            vertex_offset=subject.vertex_offset,
        ).moved_to(device)
        self._intake = Intake(config, self.model, self.device)
        self.objective = HeadObjective(config.training, self.model)
        self.optimiser = Optimiser(self.objective.parameters())
        self.snapshots = SnapshotBuffer(self.model)
        self.range = RunningRange(config.training.seed)
        self._random = torch.Generator(self.device).manual_seed(config.training.seed)
        # Shared between threads, under _wake's lock:
        self._wake = threading.Condition()
        self._status = OnlineStatus()
        self._plan: StorePlan | None = None
        self._sampler = OnlineSampler(config.sampler, config.training.seed)
        self._store: FrameStore | None = None
        self._counted = 0  # numbers given to accepted frames
        self._new_frames: list[StoredFrame] = []
        self._range_due = config.training.schedule.batch
        self._allowed_steps, self._allowed_ms = 0.0, 0.0
        self._over = self._stop = self._paused = False
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        # The learner's thread only:
        self._recent: dict[str, float] = {}
        self._marks: list[tuple[float, int]] = []
        self._steps = self._images = 0
        self._seconds = 0.0

    # --- from other threads -----------------------------------------------------------------------------------------
    @property
    def status(self) -> OnlineStatus:
        """Where it is."""
        return self._status  # replaced whole, never changed

    @property
    def failure(self) -> Exception | None:
        """What ended the thread, if something did."""
        return self._failure

    def read(self) -> AbstractContextManager[Snapshot]:
        """The newest whole version, for a with-block."""
        return self.snapshots.read()

    def add(self, frame: TrackedFrame) -> str:
        """Take a frame; returns why it was left out, or an empty text."""
        if self._plan is None:
            try:
                self._make_room(frame)
            except BadConfig as error:
                self._fail(error)
                return error.what
        assert self._plan is not None
        assert self._store is not None
        looked = self._intake.look(frame, self._plan.longest_px, self._store)
        with self._wake:
            if looked.frame is None:
                rejected = {**self._status.rejected}
                rejected[looked.reason] = rejected.get(looked.reason, 0) + 1
                self._status = replace(self._status, rejected=rejected)
            else:
                self._take(looked.frame, looked.turn)
                self._status = replace(self._status, frames=self._counted)
            self._wake.notify_all()
        return looked.reason

    def start(self) -> None:
        """Begin to learn as soon as a batch is there."""
        self._thread = threading.Thread(target=self._run, name="effigy-learner", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop learning after this step; frames are still taken."""
        self._tell(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._tell(paused=False)

    def end_of_stream(self) -> None:
        """No more frames will come: what post-processing is wanted is done, then it is done."""
        self._tell(over=True)

    def stop(self, timeout_s: float = 60.0) -> None:
        """End the thread after this step, without post-processing, and wait for it."""
        self._tell(stop=True)
        self.wait(timeout_s)

    def wait(self, timeout_s: float) -> bool:
        """Whether the thread has ended within that time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def newest(self) -> StoredFrame | None:
        """The newest accepted frame."""
        with self._wake:
            return self._store[self._counted - 1] if self._store is not None and self._counted else None

    # --- taking frames ----------------------------------------------------------------------------------------------
    def _make_room(self, first: TrackedFrame) -> None:
        plan = self._intake.plan(first)
        with self._wake:
            self._plan, self._store = plan, FrameStore(plan.frames, self.device)
            self._sampler = OnlineSampler(plan.sampler, self.config.training.seed)
            self._status = replace(self._status, note=plan.note)

    def _take(self, stored: StoredFrame, turn: HeadTurn | None) -> None:
        assert self._store is not None
        number, self._counted = self._counted, self._counted + 1
        self._store.put(number, stored, self._sampler.add(number, turn))
        self._new_frames.append(stored)
        self._allowed_steps += self.config.max_steps_per_frame
        self._allowed_ms += self.config.max_ms_per_frame

    # --- the thread -------------------------------------------------------------------------------------------------
    def _tell(self, *, paused: bool | None = None, over: bool = False, stop: bool = False) -> None:
        with self._wake:
            self._paused = self._paused if paused is None else paused
            self._over |= over
            self._stop |= stop
            self._wake.notify_all()

    def _run(self) -> None:
        try:
            if self.device.index is not None:
                torch.cuda.set_device(self.device)  # of this thread; kernels written in Triton go there
            begun = self._wait_for_work("waiting")
            if begun:
                self._begin()
                while self._wait_for_work("learning"):
                    self._online_step()
            if begun and not self._stop:
                self._post_process()
            self._publish(insist=True)
            self._show("done")
        except Exception as error:
            log.exception("learning ended")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._tell(stop=True)
        self._show("failed")

    def _wait_for_work(self, state: str) -> bool:
        """Wait until a step may be made; False when there will be none: the stream is over or a stop was asked for."""
        batch, config = self.config.training.schedule.batch, self.config
        waited = False
        with self._wake:
            while not (self._stop or self._over):
                late = (config.max_steps_per_frame and self._allowed_steps < 1) or (
                    config.max_ms_per_frame and self._allowed_ms <= 0
                )
                if self._sampler.ready(batch) and not self._paused and not late:
                    break
                shown = "paused" if self._paused else state
                if self._status.state != shown:
                    self._status = replace(self._status, state=shown)
                waited = True
                self._wake.wait(1.0)
            go = not (self._stop or self._over) or (state == "waiting" and self._sampler.ready(batch))
            if waited:
                self._marks.clear()
            return go and not self._stop

    def _begin(self) -> None:
        """The range of θ and the pose at rest from the first frames."""
        self._follow_range(first=True)
        with self._wake:
            assert self._store is not None
            frames = self._store.chosen(list(self._sampler.ring))
        self.model.rest_pose = rest_pose(self.model, [frame.pose.rotations for frame in frames])
        self.snapshots.publish(self.model, 0)
        self._show("learning")

    def _online_step(self) -> None:
        started = self._now()
        self._follow_range(first=False)
        with self._wake:
            assert self._store is not None
            drawn = self._sampler.draw(self.config.training.schedule.batch)
            frames = self._store.chosen(drawn.frames)
            newest = self._store[self._counted - 1].source_number
        self._step(frames, newest)
        took_ms = (self._now() - started) * 1000
        with self._wake:
            self._allowed_steps = max(0.0, self._allowed_steps - 1)
            self._allowed_ms -= took_ms

    def _step(self, frames: tuple[StoredFrame, ...], newest: int) -> None:
        """One update from these frames."""
        started = self._now()
        train, at = self.config.training, float(self._images)
        count = len(frames)
        if train.background == "random":
            backgrounds = torch.rand(count, 3, generator=self._random, device=self.device)
        else:
            backgrounds = torch.full((count, 3), 1.0 if train.background == "white" else 0.0, device=self.device)
        theta, vertices, batch = stacked(frames, backgrounds)
        surface = self.model.surface(vertices)
        terms = self.objective.losses(theta, surface, batch, at)
        self.optimiser.step(torch.stack(list(terms.values())).sum(), at)
        if self._steps % (LOOK_AGAIN * self.objective.ask_every) == 0:
            self.objective.colours_settled = False
        self.objective.first_colours(theta, surface, batch, at)
        self._steps += 1
        self._images += count
        self._log.step([frame.source_number for frame in frames], newest)
        if self._steps % self.config.snapshot_every == 0:
            self._note_losses({name: term.detach() for name, term in terms.items()})
            self._publish()
        elif self.config.max_ms_per_frame and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or the budget would count launching only
        self._seconds += self._now() - started

    def _post_process(self) -> None:
        """Learn from all frames alike, as offline, for the wanted number of images."""
        wanted = self.config.post_process_images
        if wanted <= 0:
            return
        self._show("finishing")
        with self._wake:
            assert self._store is not None
            numbers = self._store.numbers()
            newest = self._store[numbers[-1]].source_number
        sampler = Sampler(len(numbers), self.config.training.seed)
        until, batch = self._images + wanted, min(self.config.training.schedule.batch, len(numbers))
        while self._images < until and not self._stop:
            while self._paused and not self._stop:
                with self._wake:
                    self._wake.wait(0.2)
            rows = sampler.batch(batch).tolist()
            self._step(self._store.chosen([numbers[row] for row in rows]), newest)

    def _follow_range(self, *, first: bool) -> None:
        """Keep the range of θ in step with what came: by doubling counts until range_frames, then its limits only."""
        with self._wake:
            came, self._new_frames = self._new_frames, []
        before = self.range.count
        for frame in came:
            self.range.add(frame.theta, frame.pose.translation)
        count = self.range.count
        standardised = self.config.training.model.standardised
        if first:
            begin_range(self.model, self.range.measured() if standardised else open_range(self.model.layout.size()))
            self._range_due = 2 * max(count, 1)
        if first or not standardised:
            return
        if count >= self._range_due and self._range_due <= self.config.range_frames:
            renormalise(self.model, self.range.measured(), self.optimiser)
            self._range_due *= 2
        if count // WIDEN_EVERY != before // WIDEN_EVERY or (came and count < 2 * WIDEN_EVERY):
            widen_limits(self.model, self.range.measured())

    def _publish(self, *, insist: bool = False) -> None:
        """Show what was learned, unless it broke: then the last good version stays. Raises EffigyError.

        insist: wait for a picture that is being rendered from an older version.
        """
        finite = [torch.isfinite(parameter).all() for parameter in self.model.parameters()]
        if not bool(torch.stack(finite).all()):  # one wait for the device, not one for each
            raise EffigyError(
                f"learning diverged after {self._images} images",
                found="values that are not finite",
                do="Use smaller learning rates; the last version before that is kept",
            )
        until = time.monotonic() + (LAST_READER_S if insist else 0.0)
        while not self.snapshots.publish(self.model, self._images) and time.monotonic() < until:
            time.sleep(0.01)
        self._show(None)

    def _note_losses(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in zip(terms, torch.stack(list(terms.values())).tolist(), strict=True):
            self._recent[name] = value if name not in self._recent else 0.9 * self._recent[name] + 0.1 * value
        now = self._now()
        self._marks.append((now, self._images))
        while len(self._marks) > 2 and now - self._marks[0][0] > PACE_S:
            del self._marks[0]

    def _show(self, state: str | None) -> None:
        rate = 0.0
        if len(self._marks) > 1:
            (first, before), (last, after) = self._marks[0], self._marks[-1]
            rate = (after - before) / max(last - first, 1e-9)
        with self._wake:
            shown = state or ("paused" if self._paused else self._status.state)
            if state is None and not self._paused and shown in ("waiting", "paused"):
                shown = "finishing" if self._over else "learning"
            self._status = replace(
                self._status,
                state=shown,
                steps=self._steps,
                images=self._images,
                images_per_s=rate,
                seconds=self._seconds,
                losses=dict(self._recent),
            )
