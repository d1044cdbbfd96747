"""A training on some machine of a cluster: the same run as on one host, in a folder of its own that goes with it.

Called with bytes, answers bytes. Importing this loads no torch: the actor sets its process up first.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import re
import shutil
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import psutil

from backend.engines import checkpoint_copies
from backend.engines.capture_cache import FOLDER, CaptureCache, Receiving, is_there
from backend.engines.capture_listing import capture_digest, entries_of
from backend.engines.node_cache import default_cache
from backend.engines.packing import pack, pack_folder, unpack, write_parcel
from backend.engines.ray_cluster import prepare_process
from backend.home import Home, open_home
from backend.library import SUFFIX
from shared import __version__, wire
from shared.edit_messages import StartEdit
from shared.errors import EffigyError
from shared.messages import PROTOCOL_VERSION, Failure, StartTraining

MOST_NEWS = 64
RESULT, REPORT = "result.json", "report"
PREFIX = "effigy-train-"
_LEFT = re.compile(rf"{PREFIX}(\d+)-\w+")


class _Mailbox:
    """The training's end of the connection: what it sends waits to be fetched, what it is told waits to be read."""

    def __init__(self) -> None:
        self.sent: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.told: deque[wire.Envelope] = deque()

    def receive(self, timeout_s: float) -> wire.Envelope | None:
        """The next message, or None: the training asks between steps and never waits."""
        return self.told.popleft() if self.told else None

    def send(self, message: Any) -> None:
        """Have a message fetched."""
        self.sent.put(pack(wire.encode(message)))


class TrainActor:
    """device: 'cpu' or 'cuda', of which Ray shows it its own. threads: 0 for all cores. Its calls may overlap."""

    def __init__(self, device: str, threads: int) -> None:
        prepare_process(threads)
        self._device = device
        self._mail = _Mailbox()
        self._folder: Path | None = None
        self._home: Home | None = None
        self._job_id, self._crash = "", ""
        self._thread: threading.Thread | None = None
        self._capture: Path | None = None
        self._receiving: Receiving | None = None
        self._used: IO[bytes] | None = None

    def where(self) -> bytes:
        """Which machine this is, and which Effigy it has."""
        facts = {"host": platform.node(), "node": _node_id(), "version": __version__, "protocol": PROTOCOL_VERSION}
        return json.dumps(facts).encode()

    def sees_capture(self, path: str, listing: bytes) -> bytes:
        """Whether the capture is on this machine under the path that was asked for."""
        return _note(lambda: {"here": is_there(path, entries_of(listing))})

    def expect_capture(self, path: str, name: str, listing: bytes) -> bytes:
        """Whether the capture is here by its contents; else which of its files to send, or that others do just now."""

        def expect() -> dict[str, Any]:
            entries, cache = entries_of(listing), CaptureCache(default_cache() / FOLDER)
            if is_there(path, entries):
                return {"here": True, "wanted": None}
            self._used = self._used or cache.use(capture_digest(name, entries))
            self._capture = cache.path(name, entries)
            if self._capture is None:
                self._receiving = cache.receive(name, entries)
                if self._receiving is not None:
                    places = {entry.name: place for place, entry in enumerate(entries)}
                    return {"here": False, "wanted": [places[entry.name] for entry in self._receiving.wanted]}
            return {"here": self._capture is not None, "wanted": None}

        return _note(expect)

    def take_capture(self, piece: bytes) -> bytes:
        """The next piece of the files that are to be sent."""
        assert self._receiving is not None
        receiving = self._receiving
        return _note(lambda: receiving.write(piece))

    def capture_sent(self) -> bytes:
        """The last of them was."""
        assert self._receiving is not None
        receiving = self._receiving

        def end() -> None:
            self._capture = receiving.end()
            receiving.close()
            self._receiving = None

        return _note(end)

    def begin(self, order: bytes, checkpoint: bytes, avatar: bytes) -> bytes:
        """Start the training, from a packed checkpoint where there is one. order: StartTraining or StartEdit, packed;
        its key is the job's id. avatar: of an edit, id and parcel of what is edited."""
        asked = wire.decode(unpack(order), limits=wire.FROM_SERVER).message
        assert isinstance(asked, StartTraining | StartEdit)
        if self._thread is not None:
            return b""  # the same order once more
        if self._capture is not None:
            asked = replace(asked, capture=str(self._capture))
        clear_left_behind()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._home = open_home(self._folder)
        self._job_id = asked.key
        if checkpoint:
            checkpoint_copies.put(self._job_folder(), checkpoint)
        if avatar:
            name, parcel = unpack(avatar)
            target = self._home.library / f"{bytes(name).decode()}{SUFFIX}"
            target.mkdir()
            write_parcel(bytes(parcel), target)
        self._thread = threading.Thread(target=self._work, args=(asked, self._home), name="training", daemon=True)
        self._thread.start()
        return b""

    def news(self, wait_s: float) -> bytes:
        """What the training said since, after up to wait_s for the first word: a head (crash: why it ended without a
        last word; checkpoint: the newest one's name), then its messages, packed each."""
        said: list[bytes] = []
        while len(said) < MOST_NEWS:
            try:
                said.append(self._mail.sent.get(timeout=0.0 if said or not self._alive() else wait_s))
            except queue.Empty:
                break
        newest = checkpoint_copies.newest_name(self._job_folder()) if self._home else ""
        crash = self._crash if not said and not self._alive() else ""
        return pack([json.dumps({"crash": crash, "checkpoint": newest}).encode(), *said])

    def want(self, message: bytes) -> bytes:
        """Pass a ChangeJob on."""
        self._mail.told.append(wire.decode(unpack(message), limits=wire.FROM_SERVER))
        return b""

    def checkpoint(self, name: str) -> bytes:
        """A checkpoint, packed; empty where it is gone meanwhile."""
        return checkpoint_copies.packed(self._job_folder(), name)

    def result(self) -> bytes:
        """What the finished training left: result.json, the avatar's parcel, the report's parcel."""
        assert self._home is not None
        document = (self._job_folder() / RESULT).read_bytes()
        folder = self._home.library / f"{json.loads(document)['avatar_id']}{SUFFIX}"
        return pack([document, pack_folder(folder), pack_folder(self._job_folder() / REPORT)])

    def leave(self) -> bytes:
        """Remove the folder, and let others have the capture's room; nothing of it is needed any more."""
        if self._receiving is not None:
            self._receiving.close()
        if self._used is not None:
            self._used.close()
            Path(self._used.name).unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return b""

    def _work(self, asked: StartTraining | StartEdit, home: Home) -> None:
        from backend.train_worker import work

        try:
            work(self._mail, asked, home, self._device)
        except BaseException:  # noqa: BLE001 - a thread has nobody to raise to; the relay reads it and ends as the worker would
            self._crash = traceback.format_exc()
        else:
            self._crash = "it ended without a last word"

    def _alive(self) -> bool:
        return self._thread is None or self._thread.is_alive()

    def _job_folder(self) -> Path:
        assert self._home is not None
        return self._home.jobs / self._job_id


def _note(work: Callable[[], Any]) -> bytes:
    """What comes of it as JSON, or the failure in its place: Ray would raise it as if the machine were lost."""
    try:
        return pack([json.dumps(work()).encode()])
    except EffigyError as error:
        return pack([b"", *wire.encode(Failure.of(error))])


def clear_left_behind() -> None:
    """Remove the folders of trainings of this machine whose process was ended from outside."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        match = _LEFT.fullmatch(path.name)
        if match is not None and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
