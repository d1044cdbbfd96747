"""The train worker of a server whose engine is Ray: `python -m backend.engines.ray_train`, started for one job.

It trains nothing. An actor does, on whichever machine has room; its checkpoints are brought to the job's folder as they
are written, so that when the machine is lost another one goes on from the newest. What it made comes into the library.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatars.files import write_folder_atomically
from avatars.training.progress import TrainResult
from backend.edit_run import pinned_avatar
from backend.engines import checkpoint_copies
from backend.engines.capture_sending import CaptureSender
from backend.engines.inbox import Inbox
from backend.engines.node_cache import avatar_parcel
from backend.engines.packing import pack, unpack, write_parcel
from backend.engines.placement import Shares, training_demand
from backend.engines.ray_cluster import join_cluster, machines, start_actor, threads_asked
from backend.engines.ray_train_actor import REPORT, TrainActor
from backend.engines.render_crew import end
from backend.home import Home
from backend.library import SUFFIX, Library
from backend.train_worker import FIRST_WORD_S
from backend.training_run import adopted, finished_run
from backend.worker_link import WorkerLink, join_server, worker_parser
from shared import __version__, wire
from shared.edit_messages import StartEdit
from shared.errors import EffigyError, EnvironmentFailed, first_line
from shared.messages import PROTOCOL_VERSION, ChangeJob, Failure, JobInfo, JobPreview, StartTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWS_WAIT_S = 0.5
LOOK_EVERY_S = 0.5
WAIT_WORD_S = 15.0
MOST_LOSSES = 3
"""Machines lost without a checkpoint between them, after which the server's own count of crashes goes on."""
BETWEEN_S = 1.0
LEAVE_S = 2.0
LAST_STATES = ("done", "paused", "cancelled")

log = logging.getLogger("effigy.ray")


class Stopped(Exception):
    """The server wants the job paused or cancelled, and no machine is at it."""


class Crashed(Exception):
    """The training ended with an error that nobody foresaw; the text is its traceback."""


class TrainRelay:
    """link: to the server. asked: the job. share: of a GPU, or of a machine's cores. device: as in placement."""

    def __init__(
        self, link: WorkerLink, asked: StartTraining | StartEdit, home: Home, share: float, device: str
    ) -> None:
        self.link, self.asked, self.home, self.share, self.device = link, asked, home, share, device
        self.folder = home.jobs / asked.key
        self.library = Library(home.library)
        self.inbox = Inbox()
        self.last = JobInfo(asked.key, "edit" if isinstance(asked, StartEdit) else "train", asked.name, "running")
        self._wanted = ""
        self._actor: Any = None
        self._host = ""
        self._brought = checkpoint_copies.newest_name(self.folder)
        self._capture = CaptureSender(
            asked.capture, self._answer, lambda: self._listen(0.0), lambda text: self._say(message=text)
        )

    def run(self) -> None:
        """Carry the job through. Raises Crashed, and RayError where machine after machine is lost."""
        import ray

        earlier = finished_run(self.folder, self.library)
        if earlier is not None:
            self._say(state="done", avatar_id=earlier.avatar_id, report_folder=earlier.report_folder, message="Done")
            return
        losses = 0
        while True:
            before = self._brought
            try:
                last = self._on_some_machine()
            except ray.exceptions.RayError as error:
                losses = losses + 1 if self._brought == before else 1
                log.warning("machine %s was lost: %s", self._host or "?", first_line(error))
                if losses > MOST_LOSSES:
                    raise
                where = f"Machine {self._host} was lost" if self._host else "No machine took it"
                self._say(message=f"{where}; it goes on elsewhere from its last checkpoint")
                time.sleep(BETWEEN_S * losses)
                continue
            except Stopped:
                state = {"pause": "paused", "cancel": "cancelled"}[self._wanted]
                last = replace(self.last, state=state, message=state.capitalize())
            except EffigyError as error:
                last = Failure.of(error)
            finally:
                self._let_go()
            self.link.send(last)
            return

    def _on_some_machine(self) -> JobInfo | Failure:
        """Train on a machine that has room, to the end; the last word. Raises RayError, Stopped, Crashed and
        EffigyError."""
        order = pack(wire.encode(self.asked))
        avatar = self._edited_avatar()
        self._host = ""
        self._place()
        facts = json.loads(self._answer(self._actor.where.remote(), waiting="Waits for a machine with room"))
        if (facts["version"], facts["protocol"]) != (__version__, PROTOCOL_VERSION):
            raise EnvironmentFailed(
                f"Machine {facts['host']} has another Effigy than the server",
                found=str(facts["version"]),
                expected=__version__,
                do="Install the same release on every machine",
            )
        log.info("job %s trains on %s, node %s", self.asked.key, facts["host"], facts["node"])
        self._capture.provide(self._actor, str(facts["host"]))
        self._say(message=f"Preparing on {facts['host']}")
        self._answer(self._actor.begin.remote(order, checkpoint_copies.newest_packed(self.folder), avatar))
        self._host = str(facts["host"])
        if self._wanted:
            self._pass_on(self._wanted)
        while True:
            head, *said = unpack(self._answer(self._actor.news.remote(NEWS_WAIT_S)))
            note = json.loads(bytes(head))
            if note["crash"]:
                raise Crashed(note["crash"])
            self._bring(str(note["checkpoint"]))
            for part in said:
                message = wire.decode(unpack(bytes(part)), limits=wire.FROM_SERVER).message
                last = self._heard(message)
                if last is not None:
                    return last

    def _place(self) -> None:
        shares = Shares(train=self.share)
        while (demand := training_demand(machines(), shares, self.device, self.asked.gpus)) is None:
            self._say(message="Waits for a machine that can train")
            self._listen(WAIT_WORD_S)
        device = "cuda" if demand.gpus else "cpu"
        self._actor = start_actor(TrainActor, demand, "", device, threads_asked(), at_once=4)

    def _heard(self, message: Any) -> JobInfo | Failure | None:
        """Pass on what the training says; what it says last is returned instead."""
        if isinstance(message, Failure):
            return self._explained(message)
        if isinstance(message, JobPreview):
            self.link.send(message)
        elif isinstance(message, JobInfo):
            self.last = message
            if message.state == "done":
                return self._taken_home(message)
            if message.state in LAST_STATES:
                return message
            self.link.send(message)
        return None

    def _explained(self, failure: Failure) -> Failure:
        """A capture that is good here and not there may be more than its folder, which is all that was sent."""
        here = Path(self.asked.capture).expanduser()
        if failure.code != "bad_capture" or not here.is_dir():
            return failure
        return replace(
            failure,
            found=f"{failure.found}; on machine {self._host}".removeprefix("; "),
            do="If it is good on the backend's machine, put it where every machine sees it under the same path",
        )

    def _bring(self, name: str) -> None:
        """Have the newest checkpoint in the job's folder."""
        if name and name != self._brought:
            bundle = self._answer(self._actor.checkpoint.remote(name))
            if bundle and checkpoint_copies.put(self.folder, bundle):
                self._brought = name

    def _taken_home(self, told: JobInfo) -> JobInfo:
        """The avatar into the library, the report into the job's folder. Raises EnvironmentFailed."""
        document, avatar, report = unpack(self._answer(self._actor.result.remote()))
        made, kept = self.folder / f"made{SUFFIX}", self.folder / REPORT
        self.folder.mkdir(parents=True, exist_ok=True)
        write_folder_atomically(kept, functools.partial(write_parcel, bytes(report)))
        write_folder_atomically(made, functools.partial(write_parcel, bytes(avatar)))
        result = TrainResult(made, kept, json.loads(bytes(document))["metrics"], "done")
        outcome = adopted(lambda: result, self.folder, self.library, self.asked.name, self._waits, self._heeded)
        if outcome.state != "done":  # told so while the library's disk was full
            return replace(told, state=outcome.state, message=outcome.state.capitalize())
        return replace(told, avatar_id=outcome.avatar_id, report_folder=outcome.report_folder)

    def _edited_avatar(self) -> bytes:
        if not isinstance(self.asked, StartEdit):
            return b""
        folder = pinned_avatar(self.asked, self.library)
        return pack([self.asked.avatar_id.encode(), avatar_parcel(folder)])

    # --- while an answer is awaited -----------------------------------------------------------------------------------
    def _answer(self, reference: Any, waiting: str = "") -> bytes:
        """The result of a call. waiting: what to tell while there is no machine yet. Raises RayError, Stopped."""
        begun_s = told_s = time.monotonic()
        self.inbox.expect(reference, reference)
        while True:
            for arrival in self.inbox.wait(self.link, LOOK_EVERY_S):
                if arrival.what is reference:
                    if arrival.error is not None:
                        raise arrival.error
                    return bytes(arrival.value)
            self._listen(0.0)
            now = time.monotonic()
            if waiting and now - told_s >= WAIT_WORD_S:
                told_s = now
                self._say(message=f"{waiting}, for {now - begun_s:.0f} s now")

    def _listen(self, wait_s: float) -> None:
        """Take what the server says. Raises Stopped where it wants an end and no machine is at the job."""
        while (envelope := self.link.receive(wait_s)) is not None:
            wait_s = 0.0
            if isinstance(envelope.message, ChangeJob):
                self._wanted = envelope.message.action if envelope.message.action in ("pause", "cancel") else ""
                if self._host:
                    self._pass_on(envelope.message.action)
        if self._wanted and not self._host:
            raise Stopped

    def _pass_on(self, action: str) -> None:
        self._actor.want.remote(pack(wire.encode(ChangeJob(self.asked.key, action))))

    def _waits(self, text: str) -> None:
        self._say(state="running", message=text)

    def _heeded(self) -> str:
        self._listen(0.0)
        return self._wanted

    def _say(self, **fields: Any) -> None:
        self.last = replace(self.last, **fields)
        self.link.send(self.last)

    def _let_go(self) -> None:
        if self._actor is not None:
            import ray

            ray.wait([self._actor.leave.remote()], timeout=LEAVE_S)
            end(self._actor)
            self._actor = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job and end."""
    parser = worker_parser("Effigy's train worker for Ray")
    parser.add_argument("--ray", required=True, metavar="ADDRESS", help="the cluster's address")
    parser.add_argument("--share", type=float, required=True, help="of a GPU, for one training")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    link = join_server(options, functools.partial(join_cluster, options.ray))
    first = link.receive(FIRST_WORD_S)
    if first is None or not isinstance(first.message, StartTraining | StartEdit):
        raise RuntimeError("the server did not say what to train")
    try:
        TrainRelay(link, first.message, Home(Path(options.home)), options.share, options.device).run()
    except Crashed as crash:
        log.error("the training crashed:\n%s", crash)
        return 1  # the server starts this process again
    link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
