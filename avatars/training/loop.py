"""The training loop: one for all methods, resumable at any image, paused or stopped at any step."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.methods import find_method, find_trainer
from avatars.training import ranks
from avatars.training.changed_data import as_wanted
from avatars.training.checkpoint import Checkpoint, clear_unfinished, newest_checkpoint, save_checkpoint
from avatars.training.config import EDIT, TrainConfig
from avatars.training.data import Batch, Pictures, load_pictures
from avatars.training.evaluation import Curves, curve_subset, measure, picture
from avatars.training.optimiser import Optimiser
from avatars.training.progress import Progress, TrainResult
from avatars.training.room import Stopped, bytes_of, require_room, save_when_there_is_room, smaller_batch
from avatars.training.run_identity import run_identity
from avatars.training.running import Pace, RunningTerms, diverged
from avatars.training.sampler import Sampler
from avatars.training.schedule import eta_s, images_reached, stage_size
from avatars.training.split import trained_on
from avatars.training.tensorboard import FOLDER as LOG_FOLDER
from avatars.training.tensorboard import TensorBoardLog, teeing
from avatars.warm_up import compile_kernels
from shared.errors import BadConfig, EnvironmentFailed

CHECKPOINTS, REPORT = "checkpoints", "report"
COMMANDS = ("", "pause", "cancel")
TIMES_PARAMETERS = 3
"""A checkpoint holds two moments beside each parameter."""


def train(
    config: TrainConfig,
    capture: Capture,
    output: Path,
    *,
    name: str,
    device: str,
    on_event: Callable[[Progress], None],
    wanted: Callable[[], str] = lambda: "",
    most_batch: int = 0,
) -> TrainResult:
    """Train an avatar of `capture` and leave NAME.avatar, report/ and checkpoints/ in `output`.

    Where torchrun started several processes (`ranks`) they train it together; only the first writes and tells. Goes on
    from output/checkpoints where there are any: on the CPU, with schedule.max_seconds 0, the result is bit for bit that
    of an undisturbed run. wanted: asked before each step, 'pause' or 'cancel' ends it with a checkpoint.
    most_batch: no more pictures a step than that, 0 for what the configuration says.
    Raises BadConfig when the checkpoints belong to another run, BadCapture, BadTemplate, EnvironmentFailed.
    """
    if torch.device(device).type == "cpu":
        compile_kernels()  # once on a machine; before the clock of schedule.max_seconds starts
    first = ranks.rank() == 0
    log = TensorBoardLog(Path(output) / LOG_FOLDER) if config.reporting.tensorboard and first else None
    on_event = teeing(on_event, log) if log is not None else on_event
    wanted_capture = as_wanted(capture, config.data)
    told = on_event if first else _unheard
    run = Run(config, trained_on(wanted_capture, config.split), Path(output), device, told, most_batch)
    state = run.go(wanted)
    facts = run.facts()
    avatar_folder, report_folder = run.output / f"{name}.avatar", run.output / REPORT
    if state != "done" or not first:
        return TrainResult(avatar_folder, report_folder, {}, state)
    run.tell("Measuring held-out frames")
    try:
        metrics = find_method(config.method).results(run, facts, avatar_folder, report_folder, name)
    except Stopped as stopped:
        return TrainResult(avatar_folder, report_folder, {}, run.ended_by(stopped.command))
    if log is not None:
        log.finish(metrics)
    run.tell("Done")
    return TrainResult(avatar_folder, report_folder, metrics, state)


def _unheard(told: Progress) -> None:
    """What other processes than the first tell."""


class Run:
    """One run in progress. Everything a resume needs is in `checkpoint`; the rest is made anew."""

    def __init__(
        self,
        config: TrainConfig,
        capture: Capture,
        output: Path,
        device: str,
        on_event: Callable[[Progress], None],
        most_batch: int = 0,
    ) -> None:
        created = self.started = time.monotonic()
        self.training = False
        self.config, self.capture, self.output = config, capture, output
        self.device, self.on_event = torch.device(device), on_event
        self.images, self.seconds_before = 0, 0.0
        self.told = self.previewed = self.saved = self.started
        self.recent: dict[str, float] = {}
        self.terms, self.steps = RunningTerms(), 0
        self.pace = Pace()
        self.curves = Curves()
        self.wanted: Callable[[], str] = lambda: ""
        if ranks.rank() == 0:
            clear_unfinished(output / CHECKPOINTS)
        ranks.first_says([0])  # nobody looks before that
        saved = newest_checkpoint(output / CHECKPOINTS)
        if saved is not None and saved.notes.get("run") != run_identity(config, capture):
            raise BadConfig(
                f"the checkpoints in {output / CHECKPOINTS} belong to another run",
                found="another configuration or capture",
                do="Choose another output folder or delete the checkpoints",
            )
        self.tell("Preparing the model")
        self.trainer = find_trainer(config.method)(config, capture, device)
        self.splits = getattr(self.trainer, "splits_rays", False)
        self.batch = ranks.batch_of(config.schedule, splits=self.splits)
        self.look_every = max(1, min(20, config.schedule.images // self.batch // 250))
        parameters = ranks.grown(self.trainer.parameters(), self.batch / config.schedule.batch)
        self.optimiser = Optimiser(parameters)
        shown = torch.tensor([capture.images[index].frame for index in capture.split("train")])
        self.sampler = Sampler(len(shown), config.seed, shown, config.schedule.views)
        self.pictures: dict[int, Pictures] = {}
        self.held_out_images = capture.split(config.watched) or capture.split("test")
        measured = self.held_out_images if ranks.rank() == 0 else self.held_out_images[:1]
        self.held_out = self.load_held_out(measured)
        self.preparation_s = time.monotonic() - created
        self.watched = curve_subset(len(self.held_out), config.reporting.curve_images)
        if saved is not None:
            self._restore(saved)
        self.batch = min(self.batch, most_batch or self.batch)
        ranks.align(self.trainer)

    @property
    def seconds(self) -> float:
        """Time spent training so far, earlier sittings included; preparing the model is not counted."""
        return self.seconds_before + (time.monotonic() - self.started if self.training else 0.0)

    @property
    def at(self) -> float:
        """Position in the schedule, in images."""
        return images_reached(self.config.schedule, self.images, self.seconds)

    def prepare(self) -> None:
        """Decode the pictures of the present stage, which is not counted as training."""
        begun = time.monotonic()
        self._pictures(stage_size(self.config.schedule, self.at))
        self.preparation_s += time.monotonic() - begun

    def go(self, wanted: Callable[[], str]) -> str:
        """Train to the end of the schedule, or until 'pause' or 'cancel' is wanted; returns how it ended."""
        begun_with, self.wanted = self.images, wanted
        self.prepare()
        parameters = {entry.name: entry.parameter for entry in self.optimiser.parameters}
        if ranks.rank() == 0:
            require_room(self.output / CHECKPOINTS, TIMES_PARAMETERS * bytes_of(parameters))
        self.started, self.training = time.monotonic(), True
        try:
            return self._rounds(wanted, begun_with)
        except torch.OutOfMemoryError as error:
            if ranks.count() > 1:
                self._keep_for_smaller(told=isinstance(error, ranks.Short))
            raise  # of several all begin again, with a smaller batch

    def _rounds(self, wanted: Callable[[], str], begun_with: int) -> str:
        plan, first = self.config.schedule, ranks.rank() == 0
        while True:
            at, command = self.order(wanted)
            if at >= plan.images:
                command = self.save(wanted) if first and self.images > begun_with else ""
                if not command:
                    return "done"
            elif command and first:
                self.save(partial(str, command))
            if command:
                return self.ended_by(command)
            self.step(at)
            if first:
                self._keep_up(at, wanted)

    def order(self, wanted: Callable[[], str]) -> tuple[float, str]:
        """Where the schedule is and what is wanted, as the first process knows it: clocks differ."""
        at, number = self.at, 0
        if ranks.rank() == 0 and at < self.config.schedule.images:
            number = COMMANDS.index(asked) if (asked := wanted()) in COMMANDS else 0
        at, number = ranks.meet(at, number)
        return at, COMMANDS[number]

    def _keep_for_smaller(self, *, told: bool) -> None:
        """One of several processes is out of memory: keep what was learned. told: all know that already."""
        if not told:
            ranks.say_short()
        if ranks.rank() == 0 and self.images and self.optimiser.whole:
            self.save(self.wanted)
        ranks.meet()  # the first to end ends all

    def ended_by(self, command: str) -> str:
        """Tell of a 'pause' or 'cancel'; the state it leads to."""
        state = {"pause": "paused", "cancel": "cancelled"}[command]
        self.tell(state.capitalize())
        return state

    def keep(self, write: Callable[[], object], folder: Path, needed_bytes: int, what: str) -> None:
        """Call `write`, and again when there is room where the disk refused. Raises Stopped where it was told to end
        meanwhile: the checkpoint of its last step stays."""
        command = save_when_there_is_room(write, folder, needed_bytes, self.tell, self.wanted, what)
        if command:
            raise Stopped(command)

    def step(self, at: float) -> None:
        """One batch at position `at`, a smaller one where the device has no memory for it. Raises EnvironmentFailed."""
        chosen = self.sampler.batch(self.batch)
        backgrounds = self.sampler.backgrounds(self.batch, self.config.background)
        while not self._learn(chosen, backgrounds, at):
            self._take_fewer()
            chosen, backgrounds = self.sampler.batch(self.batch), backgrounds[: self.batch]

    def _learn(self, chosen: Tensor, backgrounds: Tensor, at: float) -> bool:
        """One step on these pictures; False, and nothing learned, where the device has no memory for so many."""
        part = ranks.part_of(len(chosen), self.config.schedule.views, splits=self.splits)
        try:
            pictures = self._pictures(stage_size(self.config.schedule, at))
            if pictures.images is not None:
                part = dataclasses.replace(part, images=pictures.images[chosen])
            batch = dataclasses.replace(pictures.batch(part.of(chosen), part.of(backgrounds)), part=part)
            coming = self.sampler.waiting[: 3 * self.batch].split(self.batch)
            pictures.expect(torch.cat([part.of(step) for step in coming]) if coming else chosen[:0])
            terms = self.trainer.losses(batch, at)
            values = torch.stack(list(terms.values()))
            total = values.sum()
            self.optimiser.step(total if ranks.count() == 1 else total * part.share, at)
        except torch.OutOfMemoryError:  # what it holds is let go with its traceback, when this returns
            self.sampler.waiting = torch.cat((chosen, self.sampler.waiting))
            if ranks.count() > 1:
                raise
            return False
        self.images += len(chosen)
        self._after_step(batch, at)
        self.pace.count(len(chosen))
        self.terms.add((*terms, "total"), torch.cat((values, total[None])))
        self.steps += 1
        if self.steps % self.look_every == 0:
            self._look()
        return True

    def _after_step(self, batch: Batch, at: float) -> None:
        """What the method does between steps. Where the device has no memory for that, the step stands all the same:
        what was to be done for these pictures is done when they are seen again, in smaller batches."""
        try:
            return self.trainer.after_step(batch, at)
        except torch.OutOfMemoryError:
            if ranks.count() > 1:
                raise
        self._take_fewer()

    def _take_fewer(self) -> None:
        """The device has no memory for so many pictures. Raises EnvironmentFailed where they cannot be fewer."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            self.batch = smaller_batch(self.batch, self.config.schedule.views)
        except EnvironmentFailed:
            if self.images and self.optimiser.whole:
                self.save(self.wanted)
            raise
        self.tell(f"The device was out of memory; batches of {self.batch} from here on")

    def _look(self) -> None:
        """Read the running means of the terms, which on a CUDA device waits for all steps that are under way."""
        self.recent = self.terms.read()
        if not math.isfinite(self.recent.get("total", 0.0)):
            raise diverged(self.images, "a loss that is not finite")
        self.curves.add_loss(self.images, self.recent)

    def save(self, wanted: Callable[[], str] = lambda: "") -> str:
        """Write a checkpoint now, or when the disk has room; a command that came meanwhile is returned, else ''.

        Raises EffigyError instead where training has diverged.
        """
        self._look()
        if not self.optimiser.finite():  # of several processes it may be another's loss that was not
            raise diverged(self.images, "parameters that are not finite")
        tensors = self.optimiser.state()
        tensors |= {f"sampler.{key}": value for key, value in self.sampler.state().items()}
        tensors |= {f"trainer.{key}": value for key, value in self.trainer.state().items()}
        notes = {
            "run": run_identity(self.config, self.capture),
            "images": self.images,
            "seconds": self.seconds,
            "recent": self.recent,
            "curves": self.curves.as_json(),
            "batch": self.batch,
            "gpus": ranks.count(),
        }
        folder, begun = self.output / CHECKPOINTS, time.monotonic()
        write = partial(save_checkpoint, folder, Checkpoint(tensors, notes), self.images)
        command = save_when_there_is_room(write, folder, bytes_of(tensors), self.tell, wanted)
        self.saved = time.monotonic()
        self.started += self.saved - begun  # waiting is no training
        return command

    def _restore(self, saved: Checkpoint) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in saved.tensors.items() if key.startswith(prefix)}

        self.optimiser.restore(saved.tensors)
        self.sampler.restore(part("sampler."))
        self.trainer.restore(part("trainer."))
        self.images, self.seconds_before = int(saved.notes["images"]), float(saved.notes["seconds"])
        self.recent = dict(saved.notes["recent"])
        self.terms = RunningTerms(self.recent)
        self.curves = Curves.from_json(saved.notes["curves"])
        if not self.config.schedule.grow_batch or saved.notes.get("gpus", 1) == ranks.count():
            self.batch = max(int(saved.notes.get("batch", self.batch)), 1 if self.splits else ranks.count())
        damaged = f"; damaged and passed over: {'; '.join(saved.passed_over)}" if saved.passed_over else ""
        self.tell(f"Resumed at {self.images} images{damaged}")

    def _keep_up(self, at: float, wanted: Callable[[], str]) -> None:
        """Checkpoint, curve, preview and event, each when its time has come."""
        every, now = self.config.reporting, time.monotonic()
        counted = every.checkpoint_images
        if now - self.saved >= every.checkpoint_s or (
            counted and self.images // counted != (self.images - self.batch) // counted
        ):
            self.save(wanted)
        if every.curve_points and self.curves.due(at, self.config.schedule.images / every.curve_points):
            psnr = measure(self.trainer, self.held_out, self.watched, ("psnr_db",))["psnr_db"]
            self.curves.add_psnr(self.images, self.seconds, float(np.mean(psnr)))
        doing = "Editing" if self.config.method == EDIT else "Training"
        if now - self.previewed >= every.preview_s:
            self.previewed = time.monotonic()
            self.tell(doing, preview=self.preview())
        elif now - self.told >= every.event_s:
            self.tell(doing)

    def preview(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8: the model beside the ground truth, on the first watched held-out picture.

        An edit shows its own: before, edited and now.
        """
        own = getattr(self.trainer, "preview", None)
        if own is not None:
            return own()  # type: ignore[no-any-return]
        row = self.watched[(self.images // 97) % len(self.watched)]
        model, truth = picture(self.trainer, self.held_out, row)
        return np.concatenate((model, truth), 1)

    def tell(self, message: str, preview: NDArray[np.uint8] | None = None) -> None:
        """Send an event."""
        self.told = time.monotonic()
        plan = self.config.schedule
        rate = self.pace.images_per_s()
        at = self.at
        eta = eta_s(plan, at, self.images, self.seconds, rate)
        numbers = dict(self.recent)
        if self.curves.psnr:
            numbers["psnr_db"] = self.curves.psnr[-1][2]
        self.on_event(Progress(int(at), plan.images, rate, numbers, eta, message, preview))

    def _pictures(self, size_px: int) -> Pictures:
        if size_px not in self.pictures:
            self.pictures.clear()  # earlier, smaller stages are not needed again
            images = self.capture.split("train")
            self.pictures[size_px] = self.trainer.prepared(self._load(images, size_px, "pictures"), images)
        return self.pictures[size_px]

    def _load(self, images: tuple[int, ...], size_px: int, what: str) -> Pictures:
        def tell(done: int) -> None:
            if time.monotonic() - self.told >= self.config.reporting.event_s:
                self.tell(f"Reading {what}: {done} of {len(images)}")

        return load_pictures(self.capture, images, size_px, self.device, tell)

    def load_held_out(self, images: tuple[int, ...]) -> Pictures:
        """Pictures to measure on, whole, at the evaluation's size."""
        return self._load(images, self.config.size_px, "held-out pictures")

    def facts(self) -> dict[str, Any]:
        """Numbers of the training itself for the report."""
        return {
            "training_seconds": round(self.seconds, 2),
            "preparation_seconds": round(self.preparation_s, 2),
            "images": self.images,
            "images_per_s": round(self.images / max(self.seconds, 1e-9), 2),
            "gaussians_trained": self.trainer.gaussians(),
            "device": str(self.device) if ranks.count() == 1 else f"{ranks.count()} x {self.device.type}",
        }
