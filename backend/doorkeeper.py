"""Who has said Hello on which socket, what was refused and why, and whose jobs are whose."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass

from backend.checks import check_hello
from backend.key_ring import KeyRing
from backend.leases import Holder, Leases
from backend.lockout import Lockout, address_of
from shared.errors import BadMessage, EffigyError, HelloFirst, NotAllowed, VersionMismatch
from shared.messages import Hello
from shared.wire import Header

MAX_CLIENTS = 256
MAX_NAME, MAX_TOKEN = 200, 64
LOGGED_FIRST, LOGGED_EVERY = 100, 1000
"""Refusals that are logged: the first, then one of many. Nobody can fill the disk with them."""

log = logging.getLogger("effigy.server")


@dataclass(frozen=True)
class Peer:
    """Where a message came from, as ZeroMQ tells it. public: the client's key; empty without encryption."""

    channel: str
    identity: bytes
    address: str
    public: str = ""


class Doorkeeper:
    """key: the backend's, empty where it asks for none. ring: who is let in, None where nothing is encrypted."""

    def __init__(
        self, key: str, epoch: str, lockout: Lockout, ring: KeyRing | None = None, leases: Leases | None = None
    ) -> None:
        self.key, self.epoch, self.lockout, self.ring = key, epoch, lockout, ring
        self.leases = Leases() if leases is None else leases
        self.refused: Counter[str] = Counter()
        self._greeted: dict[str, OrderedDict[bytes, Holder]] = {"control": OrderedDict(), "frames": OrderedDict()}

    def greet(self, peer: Peer, hello: Hello) -> Holder:
        """Let a client in. Raises VersionMismatch, NotAllowed, BadMessage."""
        address = address_of(peer.address)
        wait_s = self.lockout.left_s(address)
        if wait_s:
            raise NotAllowed(
                "Too many wrong keys came from this address", found=address, do=f"Try again in {math.ceil(wait_s)} s"
            )
        if len(hello.client) > MAX_NAME or len(hello.instance) > MAX_TOKEN:
            raise BadMessage("A client's name is too long", found=f"{len(hello.client)} letters")
        try:
            check_hello(hello, self.key)
        except NotAllowed:
            self.lockout.failed(address)
            raise
        user = self._user(peer)
        name = f"{hello.client} (key of {user})" if user else hello.client
        # The key stands before the token, so that knowing another's token is not enough.
        token = hashlib.sha256(f"{peer.public}/{hello.instance}".encode()).hexdigest() if hello.instance else ""
        holder = Holder(token, name)
        greeted = self._greeted[peer.channel]
        greeted[peer.identity] = holder
        greeted.move_to_end(peer.identity)
        while len(greeted) > MAX_CLIENTS:
            greeted.popitem(last=False)
        self.leases.seen(holder)
        return holder

    def require(self, peer: Peer, header: Header) -> Holder:
        """The greeted client that sends this. Raises HelloFirst for strangers and for messages to an earlier server."""
        greeted = self._greeted[peer.channel]
        holder = greeted.get(peer.identity)
        if holder is None or header.epoch != self.epoch:
            raise HelloFirst("The backend does not know this connection", do="Say Hello first")
        self._user(peer)
        greeted.move_to_end(peer.identity)
        self.leases.seen(holder)
        return holder

    def leave(self, peer: Peer) -> list[str]:
        """A client goes; ids of the jobs that are anyone's now, which is so once none of its process is left."""
        holder = self._greeted[peer.channel].pop(peer.identity, None)
        if holder is None or not holder.token or holder in self._greeted["control"].values():
            return []
        return self.leases.release(holder.token)

    def _user(self, peer: Peer) -> str:
        """The name of a client's key, empty without encryption. Raises NotAllowed for one that was removed since."""
        if self.ring is None:
            return ""
        name = self.ring.name_of(peer.public)
        if not name:
            raise NotAllowed("The backend knows this client's key no more", do="Ask whoever runs it to add the key")
        return name

    def forget_all(self) -> None:
        """Every connection was cut; all have to say Hello again. Jobs keep their owners."""
        for greeted in self._greeted.values():
            greeted.clear()

    def note_refusal(self, peer: Peer, error: EffigyError) -> None:
        """Count what was not carried out."""
        if not isinstance(error, (BadMessage, VersionMismatch, NotAllowed)):
            return
        self.refused[error.code] += 1
        total = self.refused.total()
        if total <= LOGGED_FIRST or total % LOGGED_EVERY == 0:
            log.warning(
                "refused a message on %s from %s (%d so far): %s", peer.channel, address_of(peer.address), total, error
            )
