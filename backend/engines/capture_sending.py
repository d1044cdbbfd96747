"""The relay's side of a capture that the machine of a training does not have: it is sent there, in pieces, once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avatars.captures.embedded import embedded_captures
from backend.engines.capture_listing import Entry, as_bytes, listed, pieces, with_digests
from backend.engines.packing import unpack
from shared import wire
from shared.errors import BadCapture
from shared.messages import Failure

TELL_EVERY_S = 2.0
BUSY_WAIT_S = 1.0
BESIDE = ("cameras.json", "albedos")
"""A RANA subject: its other half and its lights lie beside its folder."""

log = logging.getLogger("effigy.ray")


def folder_to_send(capture: str) -> Path | None:
    """The folder of this machine that a capture's name or path means; None where there is nothing to send: for one that
    ships with Effigy, one that is not here, and one that is more than its folder."""
    folder = Path(capture).expanduser()
    if not capture or capture in embedded_captures() or not folder.is_dir():
        return None
    if all((folder / name).exists() for name in BESIDE):
        return None
    return folder.absolute()


class CaptureSender:
    """answer: waits for a call of the actor. heed: looks whether the job is still wanted. say: tells the user.

    Belongs to one job: what is found out about the capture is remembered for the next machine.
    """

    def __init__(
        self, capture: str, answer: Callable[[Any], bytes], heed: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.capture, self._answer, self._heed, self._say = capture, answer, heed, say
        self._entries: tuple[Entry, ...] = ()
        self._told_s = 0.0

    def provide(self, actor: Any, host: str) -> None:
        """See to it that the actor has the capture. Raises EffigyError, and what `answer` and `heed` do."""
        folder = folder_to_send(self.capture)
        if folder is None:
            return
        try:
            self._provide(actor, host, folder)
        except OSError as error:
            raise BadCapture(
                f"{error.filename or folder} cannot be read", found=error.strerror or str(error)
            ) from error

    def _provide(self, actor: Any, host: str, folder: Path) -> None:
        entries = listed(folder)
        known = {(one.name, one.size, one.modified_ns): one for one in self._entries}
        if self._ask(actor.sees_capture.remote(self.capture, as_bytes(entries)))["here"]:
            return
        if not all((one.name, one.size, one.modified_ns) in known for one in entries):
            self._tell("Reads the capture, to send it")
            self._entries = with_digests(folder, entries, self._still("Reads the capture, to send it"))
        else:
            self._entries = tuple(known[one.name, one.size, one.modified_ns] for one in entries)
        while True:
            note = self._ask(actor.expect_capture.remote(self.capture, folder.name, as_bytes(self._entries)))
            if note["here"]:
                log.info("machine %s has the capture", host)
                return
            if note["wanted"] is not None:
                break
            self._tell(f"Waits for the capture, which another training brings to {host}")
            time.sleep(BUSY_WAIT_S)
            self._heed()
        wanted = [self._entries[index] for index in note["wanted"]]
        total, sent, begun_s = sum(entry.size for entry in wanted), 0, time.monotonic()
        for piece in pieces(folder, wanted):
            self._ask(actor.take_capture.remote(piece))
            sent += len(piece)
            self._tell(f"Sends the capture to {host}: {sent / 1e6:.0f} of {total / 1e6:.0f} MB")
        self._ask(actor.capture_sent.remote())
        seconds = time.monotonic() - begun_s
        log.info("the capture was sent to %s: %d files, %d bytes in %.1f s", host, len(wanted), total, seconds)

    def _ask(self, call: Any) -> Any:
        """An actor's note. Raises the error that it holds instead."""
        head, *failure = unpack(self._answer(call))
        if failure:
            told = wire.decode(failure, limits=wire.FROM_SERVER).message
            assert isinstance(told, Failure)
            raise told.error()
        return json.loads(bytes(head))

    def _still(self, text: str) -> Callable[[], None]:
        def heed() -> None:
            self._heed()
            self._tell(text)

        return heed

    def _tell(self, text: str) -> None:
        if time.monotonic() - self._told_s >= TELL_EVERY_S:
            self._told_s = time.monotonic()
            self._say(text)
