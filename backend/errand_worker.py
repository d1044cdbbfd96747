"""The errand worker: `python -m backend.errand_worker`, started by the server for checks, imports and exports.

It takes one after the other and ends by itself when nothing comes for a while. It writes whole files and folders only,
so it can be ended at any time; told to cancel, it also clears up behind itself.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from backend.devices import (
    out_of_memory,
    refusal_for_want_of_memory,
    release_memory,
    resolve_device,
    usable_cores,
    use_cores,
)
from backend.errands import KINDS
from backend.home import Home
from backend.library import Library
from backend.tracking_errands import drive, track_video
from backend.worker_link import WorkerLink, join_server, worker_parser
from shared.desk_messages import Finding, StartCheck, StartExport, StartImport
from shared.errors import BadAvatar, Cancelled, EffigyError
from shared.messages import ChangeJob, Failure, JobInfo, JobPreview
from shared.track_messages import StartDrive, StartTrack

TELL_EVERY_S = 0.2
IDLE_S = 60.0
SHEET_PX = 1024
log = logging.getLogger("effigy.errand")


class _Teller:
    """Sends progress, not more often than is worth reading."""

    def __init__(self, link: WorkerLink, key: str, kind: str) -> None:
        self.link, self.key, self.kind = link, key, kind
        self._told_s = 0.0

    def say(self, message: str) -> None:
        """What is being done, in a few words. Raises Cancelled."""
        self._obey()
        self.link.send(JobInfo(self.key, self.kind, "", "running", message=message))

    def count(self, done: int, total: int) -> None:
        """How much of it is done. Raises Cancelled."""
        self._obey()
        if time.monotonic() - self._told_s >= TELL_EVERY_S or done == total:
            self._told_s = time.monotonic()
            self.link.send(JobInfo(self.key, self.kind, "", "running", done, total))

    def _obey(self) -> None:
        while (envelope := self.link.receive(0.0)) is not None:
            if isinstance(envelope.message, ChangeJob):
                raise Cancelled("Cancelled")

    def picture(self, image: Any) -> None:
        """A picture [H, W, 3] uint8 of what was found."""
        self.link.send(JobPreview(self.key, 1, _small(image)))

    def done(self, message: str, **more: Any) -> None:
        """The last word."""
        self.link.send(JobInfo(self.key, self.kind, "", "done", message=message, **more))


def main() -> int:
    """Do errands until none comes for IDLE_S."""
    arguments = worker_parser("Effigy's errand worker").parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    link = join_server(arguments)
    use_cores(usable_cores())
    while (envelope := link.receive(IDLE_S)) is not None:
        if type(envelope.message) not in KINDS:
            continue  # a cancel that came after the end
        asked = envelope.message
        try:
            run_errand(
                Home(Path(arguments.home)), asked, _Teller(link, asked.key, KINDS[type(asked)]), arguments.device
            )
        except EffigyError as error:
            link.send(Failure.of(error))
        except Exception as error:
            if not out_of_memory(error):
                raise
            log.exception("out of memory")
            link.send(Failure.of(refusal_for_want_of_memory(error, KINDS[type(asked)])))
            release_memory(resolve_device(arguments.device))
    link.close()
    return 0


def run_errand(home: Home, asked: Any, teller: _Teller, device: str) -> None:
    """Do one. Raises EffigyError for what the user can mend, Cancelled."""
    match asked:
        case StartCheck():
            _check(home, asked, teller)
        case StartImport():
            _import(home, asked, teller, resolve_device(device))
        case StartExport():
            _export(home, asked, teller, resolve_device(device))
        case StartTrack():
            track_video(asked, teller)
        case StartDrive():
            drive(asked, teller)


def _check(home: Home, asked: StartCheck, teller: _Teller) -> None:
    from backend.checking import check_and_report, recognised

    teller.say("Reading")
    what = Finding("recognised", "ok", recognised_or_why_not(asked.capture, recognised))
    teller.say(what.found)
    folder = home.jobs / asked.key
    checked, _, written = check_and_report(asked.capture, asked.frames, folder, fix=asked.fix)
    teller.picture(checked.sheet)
    findings = [what, *(Finding(item.name, item.state, item.found, item.do) for item in checked.findings)]
    if checked.options() and not written:
        findings.append(Finding("mendable", "ok", "the reading that fits can be written into the folder's options"))
    if written:
        findings.append(Finding("mended", "ok", "its options were written into the folder"))
    verdict = {"ok": "Fit to train on", "doubtful": "Can be trained on, with doubts", "bad": "Mend it before training"}
    teller.done(verdict[checked.state()], findings=tuple(findings), report_folder=str(folder))


def recognised_or_why_not(capture: str, recognise: Any) -> str:
    """What the capture is; a shifted naming, which only the check itself can read, is told as such."""
    from avatars.captures.pairing import ShiftedNames

    try:
        return str(recognise(capture))
    except ShiftedNames as error:
        return error.what


def _small(sheet: Any) -> Any:
    from PIL import Image

    image = Image.fromarray(sheet)
    image.thumbnail((SHEET_PX, SHEET_PX))
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _import(home: Home, asked: StartImport, teller: _Teller, device: str) -> None:
    from backend.importing import import_into_library

    teller.say("Reading")
    avatar_id, notes = import_into_library(home, asked, device)
    findings = tuple(Finding("note", "ok", note) for note in notes)
    teller.done("In the library", avatar_id=avatar_id, findings=findings)


def _export(home: Home, asked: StartExport, teller: _Teller, device: str) -> None:
    from avatars.avatar_folder import avatar_digest
    from backend.exporting import plan_of, write_export

    teller.say("Reading")
    folder, plan = Library(home.library).path(asked.avatar_id), plan_of(asked)
    if asked.digest and avatar_digest(folder) != asked.digest:
        raise BadAvatar(
            f"Avatar {asked.avatar_id} is not the one that was asked for",
            do="Use the backend's version (Animate panel), or put the earlier one back into the library",
        )
    notes = write_export(folder, plan, device, teller.count)
    findings = tuple(Finding("note", "ok", note) for note in notes)
    whole = plan.output if plan.output.is_dir() else plan.output.parent
    teller.done(f"Written to {plan.output}", report_folder=str(whole), findings=findings)


if __name__ == "__main__":
    sys.exit(main())
