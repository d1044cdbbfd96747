"""The render worker of a server whose engine is Ray: `python -m backend.engines.ray_render`, started by the server.

It draws nothing. Pictures go to the actors of a cluster, as many at a time as there are; one whose actor is lost is
drawn again by another: a picture is a function of its request, so it comes out the same, and only the first answer to
a request counts. What reads the server's own files (presets, checks, motions) is answered here, in a thread.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import queue
import sys
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avatars.avatar_folder import WEIGHTS, avatar_digest
from backend.engines.inbox import Arrival, Inbox
from backend.engines.node_cache import avatar_parcel
from backend.engines.packing import pack, unpack
from backend.engines.placement import Shares, choose
from backend.engines.ray_cluster import join_cluster, machines
from backend.engines.render_crew import Crew, Sitter, end, facts_in, ray_errors
from backend.home import Home
from backend.library import Library
from backend.render_desk import RecentEnvironments
from backend.worker_link import WorkerLink, join_server, worker_parser
from shared import __version__, wire
from shared.desk_messages import Memory
from shared.errors import BadMessage, EffigyError, NotFound, WorkerFailed, first_line
from shared.messages import PROTOCOL_VERSION, Failure, FrameReply, PoseGaussians, PutEnvironment, RenderRequest, Welcome
from shared.pixel_memory import PixelWriter
from shared.render_messages import environments_of

LOOK_EVERY_S = 1.0
MEMORY_EVERY_S = 2.0
HANGS_AFTER_S = 240.0
"""One picture takes no worker longer; it is ended then, and another one asked."""
MOST_LOSSES = 3
"""Workers lost over one picture, after which it is the picture's fault."""
KEPT_PARCELS = 4
"""Avatars kept in Ray's object store, for the machines that have yet to be sent them."""

log = logging.getLogger("effigy.ray")


@dataclass(eq=False)
class Picture:
    """A request on its way. avatars: id -> (digest, bytes of its weights). key: the same for the same picture."""

    ticket: int
    message: RenderRequest | PoseGaussians
    avatars: dict[str, tuple[str, int]]
    environments: list[PutEnvironment]
    parts: list[wire.Part]
    key: str
    losses: int = 0


class RenderRelay:
    """link: to the server. library: the server's avatars. crew: who draws."""

    def __init__(self, link: WorkerLink, library: Library, crew: Crew, inbox: Inbox) -> None:
        self.link, self.library, self.crew, self.inbox = link, library, crew, inbox
        self.waiting: deque[Picture] = deque()
        self.under_way: dict[int, Picture] = {}
        self._environments = RecentEnvironments()
        self._parcels: OrderedDict[str, Any] = OrderedDict()
        self._pixels = PixelWriter()
        self._questions: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
        self._told: tuple[int, str] | None = None
        self._looked_s = self._memory_s = 0.0
        threading.Thread(target=self._answer_questions, name="questions", daemon=True).start()

    def turn(self) -> None:
        """Wait for something to happen, and do what follows from it."""
        for arrival in self.inbox.wait(self.link, LOOK_EVERY_S / 2):
            self._arrived(arrival)
        while (envelope := self.link.receive(0.0)) is not None:
            self._asked(envelope)
        now = time.monotonic()
        if now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            self.crew.tend(machines(), now)
            for sitter in self.crew.ready():
                if sitter.ticket and now - sitter.since_s > HANGS_AFTER_S:
                    log.error("worker %s hangs at a picture; it is ended", sitter.name)
                    end(sitter.actor)
        if now - self._memory_s >= MEMORY_EVERY_S and self.crew.ready():
            self._memory_s = now
            self.link.send(Memory(*self.crew.memory()))
        self._tell()
        self._dispatch()

    # --- from the server ----------------------------------------------------------------------------------------------
    def _asked(self, envelope: wire.Envelope) -> None:
        message, ticket = envelope.message, envelope.request_id
        if isinstance(message, PutEnvironment):
            self._environments.put(message.digest, message)
        elif isinstance(message, RenderRequest | PoseGaussians):
            try:
                self.waiting.append(self._picture(message, ticket))
            except EffigyError as error:
                self.link.send(Failure.of(error), ticket)
        else:
            self._questions.put((message, ticket))

    def _picture(self, message: RenderRequest | PoseGaussians, ticket: int) -> Picture:
        items = message.instances if isinstance(message, RenderRequest) else (message.instance,)
        avatars = {}
        for item in items:
            folder = self.library.path(item.avatar_id)
            try:
                size = (folder / WEIGHTS).stat().st_size
            except OSError as error:
                raise NotFound(f"Avatar {item.avatar_id} has no weights", found=str(error.strerror)) from error
            avatars[item.avatar_id] = (avatar_digest(folder), size)
        asked = replace(message, shared_memory=False) if isinstance(message, RenderRequest) else message
        parts = wire.encode(asked)
        digest = hashlib.sha256("".join(digest for digest, _ in avatars.values()).encode())
        for part in parts:
            digest.update(part)
        environments = [self._environments.use(one) for one in environments_of(message)]
        return Picture(ticket, message, avatars, environments, parts, digest.hexdigest())

    # --- to the actors ------------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while self.waiting:
            picture = self.waiting[0]
            candidates = [sitter.candidate() for sitter in self.crew.ready()]
            name = choose(dict(picture.avatars.values()), candidates)
            if name is None:
                return
            self.waiting.popleft()
            try:
                self._hand_over(picture, self.crew.named(name))
            except EffigyError as error:
                self.link.send(Failure.of(error), picture.ticket)

    def _hand_over(self, picture: Picture, sitter: Sitter) -> None:
        """An actor does one call after the other, so what a picture needs goes before it."""
        there = sitter.candidate().stored
        for avatar_id, (digest, _) in picture.avatars.items():
            if digest not in there and digest not in sitter.sent:
                sitter.actor.keep.remote(digest, self._parcel(avatar_id, digest))
                sitter.sent.add(digest)
        for environment in picture.environments:
            if environment.digest not in sitter.environments:
                sitter.actor.put_environment.remote(pack(wire.encode(environment)))
            sitter.environments.put(environment.digest, None)
        placed = {avatar_id: digest for avatar_id, (digest, _) in picture.avatars.items()}
        head = json.dumps({"key": picture.key, "avatars": placed}).encode()
        sitter.ticket, sitter.since_s = picture.ticket, time.monotonic()
        self.under_way[picture.ticket] = picture
        self.inbox.expect(sitter.actor.ask.remote(pack([head, *picture.parts])), ("answer", sitter, picture))

    def _parcel(self, avatar_id: str, digest: str) -> Any:
        """An avatar in Ray's object store, which sends it to a machine once however many actors there ask for it."""
        import ray

        if digest not in self._parcels:
            self._parcels[digest] = ray.put(avatar_parcel(self.library.path(avatar_id)))
        self._parcels.move_to_end(digest)
        while len(self._parcels) > KEPT_PARCELS:
            self._parcels.popitem(last=False)
        return self._parcels[digest]

    # --- from the actors ----------------------------------------------------------------------------------------------
    def _arrived(self, arrival: Arrival) -> None:
        match arrival.what:
            case ("ready", Sitter() as sitter):
                self._ready(sitter, arrival)
            case ("answer", Sitter() as sitter, Picture() as picture):
                self._answered(sitter, picture, arrival)
            case ("question", int() as ticket):
                self.link.send_parts(arrival.value)
                log.debug("question %d answered", ticket)

    def _ready(self, sitter: Sitter, arrival: Arrival) -> None:
        if arrival.error is not None:
            log.error("worker %s did not start: %s", sitter.name, first_line(arrival.error, 300))
            self.crew.lost(sitter)
            return
        problem = self.crew.is_ready(sitter, facts_in(unpack(arrival.value)[0]))
        log.info("%s", problem or f"worker {sitter.name} is ready on {sitter.facts['host']}")

    def _answered(self, sitter: Sitter, picture: Picture, arrival: Arrival) -> None:
        if sitter.ticket == picture.ticket:
            sitter.ticket = 0
        try:
            if arrival.error is not None:
                raise arrival.error
            head, *parts = unpack(arrival.value)
            facts = facts_in(head)
            if facts.get("key") != picture.key:
                raise BadMessage("A worker answered another request than it was asked")
            answer = wire.decode(parts, limits=wire.FROM_SERVER).message if parts else None
        except (ray_errors(), EffigyError, ValueError, KeyError) as error:
            log.warning("worker %s was lost at a picture: %s", sitter.name, first_line(error, 300))
            self.crew.lost(sitter)
            self._again(picture)
            return
        sitter.facts, sitter.sent = facts, set()
        if self.under_way.pop(picture.ticket, None) is None:
            return  # another worker was quicker
        if answer is None:
            self.waiting.appendleft(picture)
            return
        asked = picture.message
        if isinstance(answer, FrameReply) and isinstance(asked, RenderRequest) and asked.shared_memory:
            memory = self._pixels.put(answer.images)
            answer = answer if memory is None else replace(answer, images=(), memory=memory)
        self.link.send(answer, picture.ticket)

    def _again(self, picture: Picture) -> None:
        """Nobody will answer it: it is next, unless it has cost several workers."""
        if self.under_way.pop(picture.ticket, None) is None:
            return
        picture.losses += 1
        if picture.losses < MOST_LOSSES:
            self.waiting.appendleft(picture)
            return
        found = f"{picture.losses} workers were lost at it"
        self.link.send(
            Failure.of(WorkerFailed("The picture could not be rendered", found=found, do="See logs/render.log")),
            picture.ticket,
        )

    # --- beside it ----------------------------------------------------------------------------------------------------
    def _tell(self) -> None:
        """Say how many can draw, once any can and whenever that changes."""
        count, (device, rasteriser) = len(self.crew.ready()), self.crew.described()
        if (count, device) != self._told and (count or self._told):
            self._told = (count, device)
            self.link.send(
                Welcome(PROTOCOL_VERSION, __version__, "", "", "", device, rasteriser, render_workers=max(1, count))
            )

    def _answer_questions(self) -> None:
        """What concerns this host's files: one at a time, with torch on its CPU, loaded when first needed."""
        studio = None
        while True:
            message, ticket = self._questions.get()
            from backend.render_worker import encoded_answer
            from backend.rendering import Studio

            studio = studio or Studio(self.library, "cpu")
            parts, _ = encoded_answer(studio, PixelWriter(), message, ticket)
            self.inbox.put(("question", ticket), parts)


def main() -> int:
    """Serve until the server ends."""
    parser = worker_parser("Effigy's render worker for Ray")
    parser.add_argument("--ray", required=True, metavar="ADDRESS", help="the cluster's address")
    parser.add_argument("--share", type=float, required=True, help="of a GPU, for one render worker")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    link = join_server(arguments, functools.partial(join_cluster, arguments.ray))
    inbox = Inbox()
    crew = Crew(Shares(render=arguments.share), arguments.device, inbox)
    relay = RenderRelay(link, Library(Home(Path(arguments.home)).library), crew, inbox)
    while True:
        relay.turn()


if __name__ == "__main__":
    sys.exit(main())
