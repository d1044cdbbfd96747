"""What went wrong lately, and callbacks that stop themselves instead of failing at every redraw.

Blender calls draw functions, handlers and timers again and again; one that raises fills the console and may be dropped
by Blender without a word. `Guard.run` catches, keeps the traceback in the log, and after LIMIT faults in a row stops
calling until `retry`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LIMIT = 5
KEPT = 100


@dataclass(frozen=True)
class Fault:
    """One thing that went wrong. at_s: s since 1970; where: the part; sentence: for the user; detail: the rest."""

    at_s: float
    where: str
    sentence: str
    detail: str = ""


class FaultLog:
    """The newest faults, from any thread."""

    def __init__(self) -> None:
        self._faults: deque[Fault] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self.notice: Fault | None = None
        """The newest fault, until the user dismisses it."""

    def add(self, where: str, error: BaseException) -> Fault:
        """Keep an error that was caught; its traceback becomes the detail."""
        detail = "".join(traceback.format_exception(error))
        return self.note(where, str(error) or type(error).__name__, detail)

    def note(self, where: str, sentence: str, detail: str = "") -> Fault:
        """Keep a sentence."""
        fault = Fault(time.time(), where, sentence, detail)
        with self._lock:
            self._faults.append(fault)
            self.notice = fault
        return fault

    def dismiss(self) -> None:
        """Show the newest fault no longer."""
        self.notice = None

    def newest(self) -> tuple[Fault, ...]:
        """All that are kept, oldest first."""
        with self._lock:
            return tuple(self._faults)

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._faults.clear()
            self.notice = None


class Guard:
    """Runs one callback (one name) for Blender; see the module's text."""

    def __init__(self, name: str, log: FaultLog) -> None:
        self.name = name
        self.problem = ""  # of the newest fault; empty after a run without one
        self._log, self._in_a_row = log, 0

    @property
    def stopped(self) -> bool:
        """Whether it failed too often and is not called any more."""
        return self._in_a_row >= LIMIT

    def run(self, callback: Callable[..., Any], *values: Any) -> Any:
        """callback(*values), or None where it failed or is stopped. Never raises an Exception."""
        if self.stopped:
            return None
        try:
            result = callback(*values)
        except Exception as error:  # noqa: BLE001 - whatever it is, Blender must not get it
            self._in_a_row += 1
            self.problem = self._log.add(self.name, error).sentence
            return None
        self._in_a_row, self.problem = 0, ""
        return result

    def retry(self) -> None:
        """Call it again from the next time on."""
        self._in_a_row, self.problem = 0, ""


class Guards:
    """All guards of an add-on by name, with the log they write into."""

    def __init__(self) -> None:
        self.log = FaultLog()
        self._guards: dict[str, Guard] = {}

    def __getitem__(self, name: str) -> Guard:
        """The guard of this name, made at its first use."""
        return self._guards.setdefault(name, Guard(name, self.log))

    def stopped(self) -> Mapping[str, str]:
        """Name -> problem of those that stopped themselves."""
        return {name: guard.problem for name, guard in self._guards.items() if guard.stopped}

    def retry(self, name: str = "") -> None:
        """Let one of them, or all, be called again."""
        for guard in self._guards.values():
            if name in {"", guard.name}:
                guard.retry()

    def clear(self) -> None:
        """Forget guards and log."""
        self._guards.clear()
        self.log.clear()


GUARDS = Guards()
