"""The panels' connection to the backend: one thread owns the client, Blender's main thread only looks at snapshots.

Main thread: `ask` puts a ticket into a queue and returns at once; `state` is the newest immutable snapshot. The thread
answers tickets in order, follows job events, measures latency and connects again when the backend went away. It never
touches bpy.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._shared import desk_messages, edit_messages, errors, messages

PING_EVERY_S = 2.0
PING_TIMEOUT_S = 3.0
PREVIEW_EVERY_S = 4.0
RECONNECT_EVERY_S = 2.0
REFUSED_EVERY_S = 20.0
"""After a wrong key: ten a minute would make the backend shut its door to this machine."""
CONNECT_TIMEOUT_S = 1.0
EVENT_WAIT_S = 0.1
CLOSE_TIMEOUT_S = 5.0
UNFINISHED = ("queued", "running", "paused")
LIVE = "live-"
"""How ids of avatars begin that are still learning; they have no folder to tell of yet."""


@dataclass(frozen=True, eq=False)
class LinkState:
    """What the panels show. status: 'connecting', 'connected' or 'lost'; problem: why not, in one sentence.

    editors: avatar id -> who can edit it, for the avatars that `Link.want_editors` named.
    """

    address: str
    status: str = "connecting"
    problem: str = ""
    welcome: messages.Welcome | None = None
    latency_ms: float = 0.0
    avatars: tuple[messages.AvatarSummary, ...] = ()
    jobs: tuple[messages.JobInfo, ...] = ()
    presets: messages.PresetList | None = None
    previews: Mapping[str, messages.JobPreview] = field(default_factory=dict)
    curves: Mapping[str, desk_messages.JobCurve] = field(default_factory=dict)
    health: desk_messages.Status | None = None
    infos: Mapping[str, desk_messages.AvatarInfo] = field(default_factory=dict)
    trash: tuple[messages.AvatarSummary, ...] = ()
    editors: Mapping[str, edit_messages.EditorList] = field(default_factory=dict)
    version: int = 0

    @property
    def connected(self) -> bool:
        """Whether a backend answers."""
        return self.status == "connected"

    def can(self, capability: str) -> bool:
        """Whether the backend there is offers something."""
        return self.connected and self.welcome is not None and capability in self.welcome.capabilities


class Ticket:
    """A question on its way. `done` turns true once `reply` or `error` is set; `cancel` gives it up."""

    def __init__(self, message: Any, timeout_s: float) -> None:
        self.message, self.timeout_s = message, timeout_s
        self.reply: Any = None
        self.error: errors.EffigyError | None = None
        self._finished, self._cancelled = threading.Event(), threading.Event()

    @property
    def done(self) -> bool:
        """Whether there is an answer."""
        return self._finished.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether the asker lost interest."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Give the question up; the thread notices within 50 ms."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> bool:
        """Block until answered; for scripts without a window only."""
        return self._finished.wait(timeout_s)

    def result(self) -> Any:
        """The reply. Raises the error it was answered with."""
        if self.error is not None:
            raise self.error
        return self.reply

    def finish(self, reply: Any = None, error: errors.EffigyError | None = None) -> None:
        """Answer it (called by the thread)."""
        self.reply, self.error = reply, error
        self._finished.set()


class Link:
    """A connection to one address, alive until `close`. make_client: (address, key) -> BackendClient."""

    def __init__(self, make_client: Callable[[], Any], address: str) -> None:
        self._make_client = make_client
        self._state = LinkState(address)
        self._tickets: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._refresh = threading.Event()
        self._sequence = 0
        self._editors_of = ""
        self._thread = threading.Thread(target=self._run, name="effigy-link", daemon=True)
        self._thread.start()

    @property
    def state(self) -> LinkState:
        """The newest snapshot; `version` counts changes."""
        return self._state

    def ask(self, message: Any, timeout_s: float = 30.0) -> Ticket:
        """Queue a question; returns at once."""
        ticket = Ticket(message, timeout_s)
        self._tickets.put(ticket)
        return ticket

    def refresh(self) -> None:
        """Ask for avatars, jobs and presets anew."""
        self._refresh.set()

    def want_editors(self, avatar_id: str) -> None:
        """Ask who can edit this avatar, unless that is known; called while the Edit part is drawn."""
        self._editors_of = avatar_id

    def close(self) -> None:
        """End the thread and drop the connection; unanswered tickets fail."""
        self._stop.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    # --- on the thread ------------------------------------------------------------------------------------------------
    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes, version=self._state.version + 1)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    client = self._make_client()
                except errors.EffigyError as error:
                    self._set(status="lost", problem=str(error))
                    self._refuse_until(time.monotonic() + RECONNECT_EVERY_S, error)
                    continue
                try:
                    self._serve(client)
                except errors.EffigyError as error:
                    self._set(status="lost", problem=str(error), welcome=None)
                    self._refuse_until(time.monotonic() + wait_s(error), error)
                finally:
                    client.close()
        finally:
            self._refuse_until(0.0, errors.Cancelled("The connection was closed"))

    def _refuse_until(self, deadline: float, error: errors.EffigyError) -> None:
        """Answer what is asked meanwhile with the reason why there is no connection."""
        while True:
            try:
                self._tickets.get(timeout=0.05 if deadline else 0).finish(error=error)
            except queue.Empty:
                if self._stop.is_set() or time.monotonic() >= deadline:
                    return

    def _serve(self, client: Any) -> None:
        # A Ping says Hello first, and unlike `connect` it can be broken off while it waits.
        client.request(messages.Ping(), timeout_s=CONNECT_TIMEOUT_S, cancelled=self._stop.is_set)
        welcome = client.welcome
        client.events(0.0)  # subscribe before listing, so that no change falls between
        self._set(status="connected", problem="", welcome=welcome)
        self._refresh.set()
        next_ping = next_preview = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_ping:
                status = client.request(
                    desk_messages.GetStatus(), timeout_s=PING_TIMEOUT_S, cancelled=self._stop.is_set
                )
                self._set(latency_ms=(time.monotonic() - now) * 1000, health=status)
                next_ping = now + PING_EVERY_S
            if self._refresh.is_set():
                self._refresh.clear()
                self._list(client)
            if now >= next_preview:
                self._fetch_previews(client)
                self._fetch_infos(client)
                next_preview = now + PREVIEW_EVERY_S
            self._answer(client)
            self._fetch_editors(client)
            self._follow(client.events(EVENT_WAIT_S))

    def _answer(self, client: Any) -> None:
        while not self._stop.is_set():
            try:
                ticket = self._tickets.get_nowait()
            except queue.Empty:
                return
            if ticket.cancelled:
                ticket.finish(error=errors.Cancelled("Given up"))
                continue
            try:
                reply = client.request(
                    ticket.message,
                    timeout_s=ticket.timeout_s,
                    cancelled=lambda asked=ticket: self._stop.is_set() or asked.cancelled,
                )
            except errors.EffigyError as error:
                ticket.finish(error=error)
                if isinstance(error, errors.Unreachable):
                    raise
            else:
                if isinstance(reply, messages.JobInfo):
                    self._set(jobs=_with_job(self._state.jobs, reply))
                if isinstance(ticket.message, desk_messages.ChangeAvatar):
                    self._refresh.set()
                ticket.finish(reply)

    def _list(self, client: Any) -> None:
        ask = client.request
        avatars = ask(messages.ListAvatars(), timeout_s=30.0, cancelled=self._stop.is_set).avatars
        jobs = ask(messages.ListJobs(), timeout_s=30.0, cancelled=self._stop.is_set).jobs
        presets = ask(messages.ListPresets(), timeout_s=30.0, cancelled=self._stop.is_set)
        trash = ask(desk_messages.ListTrash(), timeout_s=30.0, cancelled=self._stop.is_set).avatars
        self._set(avatars=avatars, jobs=jobs, presets=presets, trash=trash, editors={})
        self._fetch_infos(client)

    def _follow(self, events: list[messages.JobEvent]) -> None:
        for event in events:
            if self._sequence and event.sequence != self._sequence + 1:
                self._refresh.set()
            self._sequence = event.sequence
            known = next((job for job in self._state.jobs if job.job_id == event.job.job_id), None)
            self._set(jobs=_with_job(self._state.jobs, event.job))
            appeared = event.job.avatar_id and (known is None or known.avatar_id != event.job.avatar_id)
            if appeared or event.job.state not in UNFINISHED:
                self._refresh.set()  # a finished training is a new avatar, and so is a live one that can be seen

    def _fetch_previews(self, client: Any) -> None:
        """Pictures and curves of jobs that moved on, and of checks that have ended."""
        for job in self._state.jobs:
            known = self._state.previews.get(job.job_id)
            over = job.state not in ("running", "paused")
            if (over and (job.kind not in ("check", "track") or job.state != "done")) or (
                known and (over or known.step >= job.step)
            ):
                continue
            preview = self._quietly(client, messages.GetJobPreview(job.job_id))
            if preview is not None and preview.image.size:
                self._set(previews={**self._state.previews, job.job_id: preview})
            if job.kind in ("train", "edit", "online"):
                curve = self._quietly(client, desk_messages.GetJobCurve(job.job_id))
                if curve is not None:
                    self._set(curves={**self._state.curves, job.job_id: curve})

    def _fetch_infos(self, client: Any) -> None:
        """What the library says about avatars that are new or have changed, and their pictures."""
        names = {avatar.avatar_id: avatar for avatar in self._state.avatars}
        infos = {key: info for key, info in self._state.infos.items() if key in names}
        for avatar_id, avatar in names.items():
            known = infos.get(avatar_id)
            fresh = (
                known is not None
                and known.digest == avatar.digest
                and known.facts.get("Name", avatar.name) == avatar.name
            )
            if fresh or avatar.problem or avatar_id.startswith(LIVE) or self._stop.is_set():
                continue
            info = self._quietly(client, desk_messages.GetAvatarInfo(avatar_id))
            if info is not None:
                infos[avatar_id] = info
        if infos != self._state.infos:
            self._set(infos=infos)

    def _fetch_editors(self, client: Any) -> None:
        wanted = self._editors_of
        if not wanted or wanted in self._state.editors or not self._state.can("edit") or wanted.startswith(LIVE):
            return
        try:
            found = client.request(edit_messages.ListEditors(wanted), timeout_s=30.0, cancelled=self._stop.is_set)
        except errors.Unreachable:
            raise
        except errors.EffigyError:  # an avatar that is gone or damaged: the panel then shows no editor
            found = edit_messages.EditorList(())
        self._set(editors={**self._state.editors, wanted: found})

    def _quietly(self, client: Any, question: Any) -> Any:
        """The answer, or None where there is none any more: what was listed a moment ago may be gone."""
        try:
            return client.request(question, timeout_s=10.0, cancelled=self._stop.is_set)
        except (errors.NotFound, errors.BadAvatar):
            return None


def wait_s(error: errors.EffigyError, otherwise_s: float = RECONNECT_EVERY_S) -> float:
    """How long to leave a backend alone that this was heard of."""
    return REFUSED_EVERY_S if isinstance(error, errors.NotAllowed) else otherwise_s


def _with_job(jobs: tuple[messages.JobInfo, ...], job: messages.JobInfo) -> tuple[messages.JobInfo, ...]:
    """The list with one job's newest state, at its place or in front; without it where it was removed."""
    if job.state == "removed":
        return tuple(known for known in jobs if known.job_id != job.job_id)
    if any(known.job_id == job.job_id for known in jobs):
        return tuple(job if known.job_id == job.job_id else known for known in jobs)
    return (job, *jobs)
