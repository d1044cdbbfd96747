"""Who gets through the encrypted sockets: ZeroMQ asks here (ZAP, rfc.zeromq.org/spec/27) before a message is taken.

Without this handler libzmq lets any key in. It runs in the server's own loop: one question is one look into a table.
"""

from __future__ import annotations

import logging

import zmq

from backend.key_ring import KeyRing
from backend.lockout import Lockout, address_of
from shared.errors import EffigyError

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"effigy"
MAX_QUESTION_PARTS = 12

log = logging.getLogger("effigy.gate")


class Gate:
    """Answers ZeroMQ's questions. refused: called with a reason for each that is not let in."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], ring: KeyRing, lockout: Lockout) -> None:
        self.ring, self.lockout, self.refused = ring, lockout, 0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ENDPOINT)

    def answer(self) -> None:
        """Answer what is asked now."""
        while self.socket.poll(0):
            question = self.socket.recv_multipart()
            version, number = (question + [b"", b""])[:2]
            known = self._known(question) if version == b"1.0" else ""
            code, text = (b"200", b"OK") if known else (b"400", b"not let in")
            self.refused += not known
            self.socket.send_multipart([version or b"1.0", number, code, text, known.encode(), b""])

    def _known(self, question: list[bytes]) -> str:
        """The key of the client that asks; empty where it is not known, and to an address that guessed too often."""
        if not 7 <= len(question) <= MAX_QUESTION_PARTS:
            return ""
        _, _, domain, peer, _, mechanism, key = question[:7]
        address = address_of(peer.decode("ascii", "replace"))
        if domain != DOMAIN or mechanism != b"CURVE" or len(key) != 32 or self.lockout.left_s(address):
            return ""
        public = key.hex()
        try:
            name = self.ring.name_of(public)
        except EffigyError as error:  # a damaged list lets nobody in
            log.error("%s", error)
            return ""
        if not name:
            self.lockout.failed(address)
            log.warning("refused a client with the unknown key %s from %s", public, address)
        return public if name else ""
