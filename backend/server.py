"""The server: sockets and routing. It never renders, trains or imports torch; worker processes do.

Control (ROUTER) takes small requests, frames (ROUTER) those with pixels, events (PUB) tells of jobs (server_sockets). A
client says Hello on each socket before anything else counts (doorkeeper); a request names the server's epoch.
"""

from __future__ import annotations

import hmac
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from backend.addresses import bind_private
from backend.checks import check_drawing
from backend.doorkeeper import Doorkeeper, Peer
from backend.engines.engine import Engine
from backend.engines.local import LocalEngine
from backend.errand_groups import ErrandGroups
from backend.errands import KINDS
from backend.flood_guard import LIMIT_BYTES, FloodGuard, give_memory_back
from backend.frames import Asked
from backend.front_desk import QUESTIONS, FrontDesk
from backend.gate import Gate
from backend.home import Home, lock_home
from backend.job_desk import JobDesk
from backend.job_table import JobTable
from backend.jobs import JobRecord, Journal
from backend.key_ring import ring_for
from backend.leases import NOBODY, Leases
from backend.library import Library
from backend.lockout import Lockout
from backend.online_jobs import LiveDesk, OnlineJobs
from backend.online_run import LIVE
from backend.render_desk import RenderDesk
from backend.server_sockets import ServerSockets, told_by
from backend.tracker_environment import TRACKER_MISSING, tracker_python
from backend.training_lanes import TrainingLanes
from backend.trash import Trash
from backend.workers import Worker
from shared import __version__, messages, wire
from shared.desk_messages import GetJobCurve, GetStatus, Status
from shared.edit_messages import ListEditors, StartEdit
from shared.errors import BadAvatar, BadMessage, EffigyError
from shared.machine import machine_token
from shared.messages import PROTOCOL_VERSION, Failure, Hello, JobEvent, JobInfo, Welcome
from shared.sockets import CONTROL_QUEUE, REPLY_BYTES, make_socket, send_to

TICK_MS = 50
LAST_CHECKPOINT_S = 5.0
CAPABILITIES = ("render", "train", "edit", "online", "library", "environment", "check", "import", "export", "track")
"""What its clients may offer; those of methods still to come are not among them, and their panels say so."""
LISTED_JOBS = 200
BURST = 32
"""Messages taken from one socket before the others and the clock have their turn."""

log = logging.getLogger("effigy.server")


@dataclass(frozen=True)
class ServerSettings:
    """address: TCP or ipc; port 0 takes a free one. key: empty asks for none. device: cpu, cuda, auto, …

    encrypt: only clients whose key is known may talk; always so where other machines can reach the address.
    """

    home: Home
    address: str
    key: str = ""
    device: str = "auto"
    encrypt: bool = False
    flood_bytes: int = LIMIT_BYTES


class Server:
    """Made with everything bound and locked, so that a failure is told before anyone is promised anything.

    engine: where its workers run; by default on this host. Raises EnvironmentFailed (port or data folder in use),
    NotAllowed (an address others could reach, and no keys).
    """

    def __init__(self, settings: ServerSettings, engine: Engine | None = None) -> None:
        self.settings, self._engine = settings, engine or LocalEngine(settings.home, settings.device)
        self.epoch = uuid.uuid4().hex
        ring = ring_for(settings.home.keys, settings.address, encrypt=settings.encrypt)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._lock = lock_home(settings.home)
        try:
            lockout = Lockout()
            self.gate = None if ring is None else Gate(self._context, ring, lockout)
            self.front_sockets = ServerSockets(self._context, settings.address, ring.pair() if ring else None)
            self.address = self.front_sockets.address
            self._workers = make_socket(self._context, zmq.ROUTER, queue=CONTROL_QUEUE, max_part_bytes=REPLY_BYTES)
            self._workers_address = bind_private(self._workers)
            journal = Journal(settings.home.jobs / "journal.jsonl")
        except BaseException:
            self._release()
            raise
        if journal.damaged_lines:
            log.warning("the job journal had %d damaged lines; they were left out", journal.damaged_lines)
        self._sequence = 0
        leases = Leases(path=settings.home.jobs / "leases.json")
        self.door = Doorkeeper(settings.key, self.epoch, lockout, ring, leases)
        self._flood = FloodGuard(settings.flood_bytes)
        self.library = Library(settings.home.library)
        self.jobs = TrainingLanes(
            self._engine.trainings, journal, self._start_trainer, self._tell_worker, self._publish
        )
        self.desk = RenderDesk(self._start_renderer, self._ask_worker, self._answer, self._pass_on)
        self.live = LiveDesk(
            self._start_renderer, self._ask_worker, self._answer, self._pass_on, self.desk.environments
        )
        self.online = OnlineJobs(
            journal, self.library, settings.home.jobs, self.live, self._start_online, self._tell_worker, self._publish
        )
        self.errands = ErrandGroups(journal, self._start_errands, self._tell_worker, self._publish)
        self.trash = Trash(settings.home.trash)
        self.job_desk = JobDesk(
            self.jobs, self.online, self.errands, self.door.leases, settings.home.jobs, self.trash, self._publish
        )
        self.front = FrontDesk(settings.home, self.library, self.trash, journal.records.__contains__)
        self._started_s = time.monotonic()

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until stop() is true; then end the workers (a training job writes a last checkpoint) and let go."""
        sockets, poller = self._listening()
        try:
            while not stop():
                ready = dict(poller.poll(TICK_MS))
                if self.gate is not None:
                    self._guard("who may talk", self.gate.answer)
                for channel, socket in sockets.items():
                    if socket in ready:
                        self._take(channel, socket)
                if self._flood.flooded():
                    log.error("unfinished messages fill the memory: every client is cut off and may come again")
                    self.front_sockets.rebind()
                    self.door.forget_all()
                    give_memory_back()
                    sockets, poller = self._listening()
                self._guard("jobs", self.jobs.tick)
                self._guard("live training", self.online.tick)
                self._guard("errands", self.errands.tick)
                self._guard("rendering", self.desk.tick)
        finally:
            self.online.stop(LAST_CHECKPOINT_S)
            self.jobs.stop(LAST_CHECKPOINT_S)
            self.errands.stop()
            self.desk.stop()
            self._engine.close()
            self._release()

    def _listening(self) -> tuple[dict[str, zmq.Socket[bytes]], zmq.Poller]:
        """The sockets that messages come from, by channel, and what waits for them."""
        client_side = self.front_sockets.sockets
        sockets = {"control": client_side["control"], "frames": client_side["frames"], "workers": self._workers}
        poller = zmq.Poller()
        for socket in (*sockets.values(), *([self.gate.socket] if self.gate is not None else [])):
            poller.register(socket, zmq.POLLIN)
        return sockets, poller

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
                told = Peer(channel, identity, told_by(frames[-1], "Peer-Address"), told_by(frames[-1], "User-Id"))
                self._from_client(told, parts)

    def _from_client(self, peer: Peer, parts: Sequence[wire.Part]) -> None:
        asked = Asked(peer.channel, peer.identity, 0, None)
        try:
            header = wire.open_header(parts, wire.FROM_CLIENT)
            asked = Asked(peer.channel, peer.identity, header.request_id, None)
            holder = NOBODY if header.name == "Hello" else self.door.require(peer, header)
            message = wire.read_message(header, parts)
            asked = Asked(peer.channel, peer.identity, header.request_id, message, (header, parts), holder)
            if isinstance(message, Hello):
                self.door.greet(peer, message)
                answer: Any = self._welcome()
            elif isinstance(message, messages.Leave):
                for job_id in self.door.leave(peer):
                    self._publish(self.job_desk.info(job_id))
                return
            else:
                answer = self._route(asked)
        except EffigyError as error:
            self.door.note_refusal(peer, error)
            answer = Failure.of(error)
        except Exception:
            log.exception("could not answer %s", type(asked.message).__name__)
            answer = Failure("error", "The backend failed at this request", do=f"See {self.settings.home.logs}")
        if answer is not None:
            self._answer(asked, answer)

    def _route(self, asked: Asked) -> Any:
        """The answer to a request, or None where it comes later."""
        message = asked.message
        match message:
            case messages.Ping():
                return messages.Done()
            case messages.ListAvatars():
                return messages.AvatarList((*self.online.summaries(), *self.library.summaries()))
            case messages.ListJobs():
                return self.job_desk.listed(LISTED_JOBS)
            case messages.ChangeJob():
                return self.job_desk.change(message, asked.holder)
            case GetJobCurve():
                return self.job_desk.keeper(message.job_id).curve(message.job_id)
            case GetStatus():
                return self._status()
            case _ if type(message) in KINDS:
                known = self.jobs.journal.by_key(message.key)
                if known is None:
                    return self.job_desk.begun(self.errands.start(message), asked.holder)
                return self.job_desk.info(known.job_id)
            case _ if isinstance(message, QUESTIONS):
                return self.front.answer(message)
            case messages.GetJobPreview():
                return self.job_desk.keeper(message.job_id).preview(message.job_id)
            case messages.ListPresets() | ListEditors():
                return self.desk.ask(asked)
            case messages.PutEnvironment():
                self.desk.put_environment(message)
                return messages.Done()
            case messages.StartTraining() | messages.StartOnline() | StartEdit():
                known = self.jobs.journal.by_key(message.key)
                if known is not None:
                    return self.job_desk.info(known.job_id)
                return self.desk.ask(asked)  # which looks whether capture, preset and overrides are good
            case messages.RenderRequest() | messages.PoseGaussians():
                return self._draw(asked)
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

    def _draw(self, asked: Asked) -> Any:
        if not self.front_sockets.listens(asked.channel, asked.client):
            return None  # it reads no answers: this one neither, and others need not wait while it is drawn
        learning = [avatar_id for avatar_id in check_drawing(asked.message) if avatar_id.startswith(LIVE)]
        for avatar_id in learning:
            self.online.summary(avatar_id)
        return (self.live if learning else self.desk).ask(asked)

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
            {**self.door.refused, **({"unknown_key": self.gate.refused} if self.gate and self.gate.refused else {})},
            "" if tracker_python() is not None else TRACKER_MISSING,
            ready.render_workers if ready else 0,
        )

    def _welcome(self) -> Welcome:
        ready = self.desk.ready
        return Welcome(
            PROTOCOL_VERSION,
            __version__,
            self.epoch,
            self.front_sockets.private["frames"],
            self.front_sockets.private["events"],
            ready.device if ready else "starting",
            ready.rasteriser if ready else "starting",
            CAPABILITIES,
            machine_token(),
            self.front_sockets.ports["frames"],
            self.front_sockets.ports["events"],
            ready.render_workers if ready else 1,
        )

    # --- answering --------------------------------------------------------------------------------------------------
    def _answer(self, asked: Asked, message: Any) -> None:
        if isinstance(message, JobInfo):
            message = self.door.leases.owned(message)
        self._send(asked, wire.encode(message, request_id=asked.request_id, epoch=self.epoch))

    def _pass_on(self, asked: Asked, header: wire.Header, parts: Sequence[wire.Part]) -> None:
        """The render worker's answer, unread, except where it was a question of our own."""
        if isinstance(asked.message, messages.StartTraining | StartEdit) and header.name == "Done":
            self._answer(asked, self.job_desk.begun(self.jobs.start(asked.message), asked.holder))
        elif isinstance(asked.message, messages.StartOnline) and header.name == "Done":
            try:
                self._answer(asked, self.job_desk.begun(self.online.start(asked.message), asked.holder))
            except EffigyError as error:
                self._answer(asked, Failure.of(error))
        else:
            self._send(asked, wire.readdress(header, parts, request_id=asked.request_id, epoch=self.epoch))

    def _send(self, asked: Asked, parts: Sequence[wire.Part]) -> None:
        if not self.front_sockets.send(asked.channel, asked.client, parts):
            log.warning("a client does not take its answers, or has gone; one was dropped")

    def _publish(self, info: JobInfo) -> None:
        self._sequence += 1
        event = JobEvent(self._sequence, self.door.leases.owned(info))
        self.front_sockets.publish(wire.encode(event, epoch=self.epoch))

    # --- workers ----------------------------------------------------------------------------------------------------
    def _from_worker(self, identity: bytes, parts: Sequence[wire.Part]) -> None:
        header = wire.open_header(parts, wire.FROM_SERVER)
        tables: tuple[JobTable, ...] = (*self.jobs, self.online, *self.errands)
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
        if worker.identity and not send_to(self._workers, worker.identity, parts):
            log.error("%s does not take its orders", worker.name)

    def _start_renderer(self) -> Worker:
        return self._engine.renderer(self._workers_address)

    def _start_trainer(self, record: JobRecord) -> Worker:
        return self._engine.trainer(f"{record.kind} {record.job_id}", self._job_log(record), self._workers_address)

    def _start_online(self, record: JobRecord) -> Worker:
        name, log_path = f"{record.kind} {record.job_id}", self._job_log(record)
        return self._engine.assistant("backend.online_worker", name, log_path, self._workers_address)

    def _start_errands(self, name: str) -> Worker:
        log_path = self.settings.home.logs / f"{name}.log"
        return self._engine.assistant("backend.errand_worker", name, log_path, self._workers_address)

    def _job_log(self, record: JobRecord) -> Path:
        folder = self.settings.home.jobs / record.job_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "worker.log"

    def _guard(self, what: str, step: Callable[[], None]) -> None:
        """One broken step must not end the server; what it was is in the log."""
        try:
            step()
        except Exception:
            log.exception("failed at %s", what)

    def _release(self) -> None:
        self._context.destroy(linger=200)
        self._lock.close()
