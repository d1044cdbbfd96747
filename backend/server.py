"""The server: sockets and routing. It never renders, trains or imports torch; worker processes do.

Control (ROUTER) takes small requests, frames (ROUTER) those with pixels, events (PUB) tells of jobs. A client says
Hello on each socket, with the key where one is set, before anything else counts; a request names the server's epoch.
"""

from __future__ import annotations

import hmac
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from backend.addresses import bind, bind_private, require_loopback
from backend.checks import check_hello, check_pose_request, check_render_request
from backend.errands import Errands
from backend.frames import Asked
from backend.front_desk import QUESTIONS, FrontDesk
from backend.home import Home, lock_home
from backend.job_table import JobTable
from backend.jobs import QUEUED_KINDS, JobRecord, Journal
from backend.library import Library
from backend.online_jobs import LiveDesk, OnlineJobs
from backend.online_run import LIVE
from backend.render_desk import RenderDesk
from backend.training_jobs import TrainingJobs
from backend.trash import Trash
from backend.workers import Worker, start_renderer
from shared import __version__, messages, wire
from shared.desk_messages import GetJobCurve, GetStatus, StartCheck, StartExport, StartImport, Status
from shared.edit_messages import ListEditors, StartEdit
from shared.errors import BadAvatar, BadMessage, EffigyError, HelloFirst, NotAllowed, VersionMismatch
from shared.messages import PROTOCOL_VERSION, Failure, Hello, JobEvent, JobInfo, Welcome
from shared.sockets import (
    CONTROL_BYTES,
    CONTROL_QUEUE,
    EVENT_QUEUE,
    FRAME_BYTES,
    FRAME_QUEUE,
    REPLY_BYTES,
    make_socket,
    send_to,
)

TICK_MS = 50
MAX_CLIENTS = 256
LAST_CHECKPOINT_S = 5.0
CAPABILITIES = ("render", "train", "edit", "online", "library", "environment", "check", "import", "export")
"""What its clients may offer; those of methods still to come are not among them, and their panels say so."""
LISTED_JOBS = 200
SHORT_ANSWER_BYTES, SHORT_ANSWER_TRIES, SHORT_ANSWER_WAIT_S = 64 * 1024, 20, 0.0005
BURST = 32
"""Messages taken from one socket before the others and the clock have their turn."""

log = logging.getLogger("effigy.server")


@dataclass(frozen=True)
class ServerSettings:
    """address: loopback TCP or ipc; port 0 takes a free one. key: empty asks for none. device: cpu, cuda, auto, …"""

    home: Home
    address: str
    key: str = ""
    device: str = "auto"


class Server:
    """Made with everything bound and locked, so that a failure is told before anyone is promised anything.

    renderer: a render worker that loads already. Raises EnvironmentFailed (port or data folder in use), NotAllowed (an
    address others could reach).
    """

    def __init__(self, settings: ServerSettings, renderer: Worker | None = None) -> None:
        require_loopback(settings.address)
        self.settings, self._renderer = settings, renderer
        self.epoch = uuid.uuid4().hex
        self.rejected = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._lock = lock_home(settings.home)
        try:
            self._sockets = {
                "control": make_socket(self._context, zmq.ROUTER, queue=CONTROL_QUEUE, max_part_bytes=CONTROL_BYTES),
                "frames": make_socket(self._context, zmq.ROUTER, queue=FRAME_QUEUE, max_part_bytes=FRAME_BYTES),
                "workers": make_socket(self._context, zmq.ROUTER, queue=CONTROL_QUEUE, max_part_bytes=REPLY_BYTES),
            }
            self._events = make_socket(self._context, zmq.PUB, queue=EVENT_QUEUE, max_part_bytes=CONTROL_BYTES)
            self.address = bind(self._sockets["control"], settings.address)
            self._frames_address = bind_private(self._sockets["frames"])
            self._workers_address = bind_private(self._sockets["workers"])
            self._events_address = bind_private(self._events)
            journal = Journal(settings.home.jobs / "journal.jsonl")
        except BaseException:
            self._release()
            raise
        if journal.damaged_lines:
            log.warning("the job journal had %d damaged lines; they were left out", journal.damaged_lines)
        self._sequence = 0
        self._deaf: set[tuple[str, bytes]] = set()
        self._clients: dict[str, OrderedDict[bytes, str]] = {"control": OrderedDict(), "frames": OrderedDict()}
        self.library = Library(settings.home.library)
        self.jobs = TrainingJobs(journal, partial(self._start_job, "train_worker"), self._tell_worker, self._publish)
        self.desk = RenderDesk(self._start_renderer, self._ask_worker, self._answer, self._pass_on)
        self.live = LiveDesk(
            self._start_renderer, self._ask_worker, self._answer, self._pass_on, self.desk.environments
        )
        self.online = OnlineJobs(
            journal,
            self.library,
            settings.home.jobs,
            self.live,
            partial(self._start_job, "online_worker"),
            self._tell_worker,
            self._publish,
        )
        self.errands = Errands(journal, self._start_errands, self._tell_worker, self._publish)
        self.trash = Trash(settings.home.trash)
        self.front = FrontDesk(settings.home, self.library, self.trash, journal.records.__contains__)
        self._started_s = time.monotonic()

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until stop() is true; then end the workers (a training job writes a last checkpoint) and let go."""
        poller = zmq.Poller()
        for socket in self._sockets.values():
            poller.register(socket, zmq.POLLIN)
        try:
            while not stop():
                ready = dict(poller.poll(TICK_MS))
                for channel, socket in self._sockets.items():
                    if socket in ready:
                        self._take(channel, socket)
                self._guard("jobs", self.jobs.tick)
                self._guard("live training", self.online.tick)
                self._guard("errands", self.errands.tick)
                self._guard("rendering", self.desk.tick)
        finally:
            self.online.stop(LAST_CHECKPOINT_S)
            self.jobs.stop(LAST_CHECKPOINT_S)
            self.errands.stop()
            self.desk.stop()
            self._release()

    # --- receiving --------------------------------------------------------------------------------------------------
    def _take(self, channel: str, socket: zmq.Socket[bytes]) -> None:
        for _ in range(BURST):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            identity, parts = frames[0].bytes, [frame.buffer for frame in frames[1:]]
            if channel == "workers":
                self._guard("a worker's message", partial(self._from_worker, identity, parts))
            else:
                self._from_client(channel, identity, parts)

    def _from_client(self, channel: str, identity: bytes, parts: Sequence[wire.Part]) -> None:
        asked = Asked(channel, identity, 0, None)
        try:
            header = wire.open_header(parts, wire.FROM_CLIENT)
            asked = Asked(channel, identity, header.request_id, None)
            if header.name != "Hello":
                self._require_greeted(channel, identity, header)
            message = wire.read_message(header, parts)
            asked = Asked(channel, identity, header.request_id, message, (header, parts))
            answer = self._route(asked)
        except EffigyError as error:
            if isinstance(error, (BadMessage, VersionMismatch, NotAllowed)):
                self.rejected += 1
                log.warning("refused a message on %s (%d so far): %s", channel, self.rejected, error)
            answer = Failure.of(error)
        except Exception:
            log.exception("could not answer %s", type(asked.message).__name__)
            answer = Failure("error", "The backend failed at this request", do=f"See {self.settings.home.logs}")
        if answer is not None:
            self._answer(asked, answer)

    def _require_greeted(self, channel: str, identity: bytes, header: wire.Header) -> None:
        clients = self._clients[channel]
        if identity not in clients or header.epoch != self.epoch:
            raise HelloFirst("The backend does not know this connection", do="Say Hello first")
        clients.move_to_end(identity)

    def _route(self, asked: Asked) -> Any:
        """The answer to a request, or None where it comes later."""
        message = asked.message
        match message:
            case Hello():
                return self._greet(asked.channel, asked.client, message)
            case messages.Ping():
                return messages.Done()
            case messages.ListAvatars():
                return messages.AvatarList((*self.online.summaries(), *self.library.summaries()))
            case messages.ListJobs():
                newest = list(self.jobs.journal.records)[: -LISTED_JOBS - 1 : -1]
                return messages.JobList(tuple(self._keeper(job_id).info(job_id) for job_id in newest))
            case messages.ChangeJob(action="remove"):
                return self._remove_job(message.job_id)
            case messages.ChangeJob():
                return self._keeper(message.job_id).change(message)
            case GetJobCurve():
                return self._keeper(message.job_id).curve(message.job_id)
            case GetStatus():
                return self._status()
            case StartCheck() | StartImport() | StartExport():
                known = self.jobs.journal.by_key(message.key)
                return self.errands.start(message) if known is None else self._keeper(known.job_id).info(known.job_id)
            case _ if isinstance(message, QUESTIONS):
                return self.front.answer(message)
            case messages.GetJobPreview():
                return self._keeper(message.job_id).preview(message.job_id)
            case messages.ListPresets() | ListEditors():
                return self.desk.ask(asked)
            case messages.PutEnvironment():
                self.desk.put_environment(message)
                return messages.Done()
            case messages.StartTraining() | messages.StartOnline() | StartEdit():
                known = self.jobs.journal.by_key(message.key)
                if known is not None:
                    return self._keeper(known.job_id).info(known.job_id)
                return self.desk.ask(asked)  # which looks whether capture, preset and overrides are good
            case messages.RenderRequest():
                check_render_request(message)  # whether its avatars exist, the worker finds while it renders
                learning = [item.avatar_id for item in message.instances if item.avatar_id.startswith(LIVE)]
                for avatar_id in learning:
                    self.online.summary(avatar_id)
                return (self.live if learning else self.desk).ask(asked)
            case messages.PoseGaussians():
                check_pose_request(message)
                if message.instance.avatar_id.startswith(LIVE):
                    self.online.summary(message.instance.avatar_id)
                    return self.live.ask(asked)
                return self.desk.ask(asked)
            case messages.GetAvatar() if message.avatar_id.startswith(LIVE):
                self.online.summary(message.avatar_id)
                return self.live.ask(asked)
            case messages.GetMotion() if message.avatar_id.startswith(LIVE):
                raise BadAvatar("A head that still learns takes no other motion", do="Stop it, or save it as an avatar")
            case messages.GetAvatar() | messages.GetMotion():
                summary = self.library.summary(message.avatar_id)
                if summary.problem:
                    raise BadAvatar(summary.problem)
                return self.desk.ask(asked)
        raise BadMessage(f"{type(message).__name__} is not a request")

    def _keeper(self, job_id: str) -> TrainingJobs | OnlineJobs | Errands:
        """Who looks after a job; of unknown ones the training jobs say so."""
        record = self.jobs.journal.records.get(job_id)
        if record is None or record.kind in QUEUED_KINDS:
            return self.jobs
        return self.online if record.kind == "online" else self.errands

    def _remove_job(self, job_id: str) -> JobInfo:
        removed = self._keeper(job_id).remove(job_id)
        folder = self.settings.home.jobs / job_id
        if folder.is_dir():
            self.trash.throw(folder)
        return removed

    def _status(self) -> Status:
        records = self.jobs.journal.records.values()
        ready, memory = self.desk.ready, self.desk.memory
        return Status(
            ready.device if ready else "starting",
            ready.rasteriser if ready else "starting",
            memory.used_bytes,
            memory.total_bytes,
            self.desk.waiting,
            sum(record.state == "queued" for record in records),
            sum(record.state == "running" for record in records),
            time.monotonic() - self._started_s,
            str(self.settings.home.root),
        )

    def _greet(self, channel: str, identity: bytes, hello: Hello) -> Welcome:
        check_hello(hello, self.settings.key)
        clients = self._clients[channel]
        clients[identity] = hello.client
        clients.move_to_end(identity)
        while len(clients) > MAX_CLIENTS:
            clients.popitem(last=False)
        ready = self.desk.ready
        return Welcome(
            PROTOCOL_VERSION,
            __version__,
            self.epoch,
            self._frames_address,
            self._events_address,
            ready.device if ready else "starting",
            ready.rasteriser if ready else "starting",
            CAPABILITIES,
        )

    # --- answering --------------------------------------------------------------------------------------------------
    def _answer(self, asked: Asked, message: Any) -> None:
        self._send(asked, wire.encode(message, request_id=asked.request_id, epoch=self.epoch))

    def _pass_on(self, asked: Asked, header: wire.Header, parts: Sequence[wire.Part]) -> None:
        """The render worker's answer, unread, except where it was a question of our own."""
        if isinstance(asked.message, messages.StartTraining | StartEdit) and header.name == "Done":
            self._answer(asked, self.jobs.start(asked.message))
        elif isinstance(asked.message, messages.StartOnline) and header.name == "Done":
            try:
                self._answer(asked, self.online.start(asked.message))
            except EffigyError as error:
                self._answer(asked, Failure.of(error))
        else:
            self._send(asked, wire.readdress(header, parts, request_id=asked.request_id, epoch=self.epoch))

    def _send(self, asked: Asked, parts: Sequence[wire.Part]) -> None:
        """Give an answer to a client's queue. Short answers to a client that has been listening may wait a moment for
        room, since they come in bursts; pictures never do, and a client that does not listen delays nobody twice."""
        socket, client = self._sockets[asked.channel], (asked.channel, asked.client)
        tries = SHORT_ANSWER_TRIES if wire.size_of(parts) < SHORT_ANSWER_BYTES and client not in self._deaf else 1
        for attempt in range(tries):
            if attempt:
                time.sleep(SHORT_ANSWER_WAIT_S)
            if send_to(socket, asked.client, parts):
                self._deaf.discard(client)
                return
        self._deaf.add(client)
        while len(self._deaf) > MAX_CLIENTS:
            self._deaf.pop()
        log.warning("a client does not take its answers, or has gone; one was dropped")

    def _publish(self, info: JobInfo) -> None:
        self._sequence += 1
        parts = wire.encode(JobEvent(self._sequence, info), epoch=self.epoch)
        self._events.send_multipart(parts, zmq.NOBLOCK)

    # --- workers ----------------------------------------------------------------------------------------------------
    def _from_worker(self, identity: bytes, parts: Sequence[wire.Part]) -> None:
        header = wire.open_header(parts, wire.FROM_SERVER)
        tables: tuple[JobTable, ...] = (self.jobs, self.online, self.errands)
        if header.name == "Hello":
            hello = wire.read_message(header, parts)
            if self.desk.worker is not None and hmac.compare_digest(hello.key, self.desk.worker.secret):
                self.desk.worker.identity = identity
            for table in tables:
                if table.worker is not None and hmac.compare_digest(hello.key, table.worker.secret):
                    table.worker.identity = identity
                    table.greeted()
            return
        if self.desk.worker is not None and identity == self.desk.worker.identity:
            self.desk.received(header, parts)
            return
        told = next((one for one in tables if one.worker is not None and identity == one.worker.identity), None)
        if told is self.online and (header.request_id or header.name == "Welcome"):
            self.live.received(header, parts)
        elif told is not None:
            told.received(wire.read_message(header, parts))

    def _tell_worker(self, worker: Worker, message: Any) -> None:
        self._send_worker(worker, wire.encode(message, epoch=self.epoch))

    def _ask_worker(self, worker: Worker, asked: Asked, ticket: int) -> None:
        if asked.received is None:
            parts = wire.encode(asked.message, request_id=ticket, epoch=self.epoch)
        else:
            parts = wire.readdress(*asked.received, request_id=ticket, epoch=self.epoch)
        self._send_worker(worker, parts)

    def _send_worker(self, worker: Worker, parts: Sequence[wire.Part]) -> None:
        if worker.identity and not send_to(self._sockets["workers"], worker.identity, parts):
            log.error("%s does not take its orders", worker.name)

    def _start_renderer(self) -> Worker:
        loading, self._renderer = self._renderer, None
        return start_renderer(self.settings.home, self.settings.device, self._workers_address, loading)

    def _start_errands(self) -> Worker:
        return self._start("backend.errand_worker", "errands", self.settings.home.logs / "errands.log")

    def _start_job(self, module: str, record: JobRecord) -> Worker:
        folder = self.settings.home.jobs / record.job_id
        folder.mkdir(parents=True, exist_ok=True)
        return self._start(f"backend.{module}", f"{record.kind} {record.job_id}", folder / "worker.log")

    def _start(self, module: str, name: str, log_path: Path) -> Worker:
        arguments = ["--home", str(self.settings.home.root), "--device", self.settings.device]
        return Worker(module, name, self._workers_address, arguments, log_path)

    def _guard(self, what: str, step: Callable[[], None]) -> None:
        """One broken step must not end the server; what it was is in the log."""
        try:
            step()
        except Exception:
            log.exception("failed at %s", what)

    def _release(self) -> None:
        self._context.destroy(linger=200)
        self._lock.close()
