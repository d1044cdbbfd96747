"""A desktop's drag of one file onto Blender's window: the XDND protocol over Xlib (ctypes; runs in the chroot).

    python3 drag_source.py FILE X Y        X, Y: root pixels, y downwards. Exit status 0 once the target is done.

Source: freedesktop.org's XDND specification, version 5.
"""

from __future__ import annotations

import ctypes as c
import sys
import time
from pathlib import Path

CLIENT_MESSAGE, SELECTION_REQUEST, SELECTION_NOTIFY = 33, 30, 31
ANY_TYPE, VERSION = 0, 5
WAIT_S = 40.0

Long, Ulong = c.c_long, c.c_ulong


class Client(c.Structure):
    """XClientMessageEvent, format 32."""

    _fields_ = (("type", c.c_int), ("serial", Ulong), ("send_event", c.c_int), ("display", c.c_void_p),
                ("window", Ulong), ("message_type", Ulong), ("format", c.c_int), ("data", Long * 5))  # fmt: skip


class Request(c.Structure):
    """XSelectionRequestEvent."""

    _fields_ = (("type", c.c_int), ("serial", Ulong), ("send_event", c.c_int), ("display", c.c_void_p),
                ("owner", Ulong), ("requestor", Ulong), ("selection", Ulong), ("target", Ulong), ("property", Ulong),
                ("time", Ulong))  # fmt: skip


class Notify(c.Structure):
    """XSelectionEvent."""

    _fields_ = (("type", c.c_int), ("serial", Ulong), ("send_event", c.c_int), ("display", c.c_void_p),
                ("requestor", Ulong), ("selection", Ulong), ("target", Ulong), ("property", Ulong),
                ("time", Ulong))  # fmt: skip


class Event(c.Union):
    """XEvent."""

    _fields_ = (("type", c.c_int), ("client", Client), ("request", Request), ("notify", Notify), ("pad", Long * 24))


class Source:
    """A window of ours that offers one file."""

    def __init__(self, path: Path) -> None:
        x = self.x = c.CDLL("libX11.so.6")
        x.XOpenDisplay.restype = c.c_void_p
        self.display = c.c_void_p(x.XOpenDisplay(None))
        for name, result in (("XInternAtom", Ulong), ("XDefaultRootWindow", Ulong), ("XCreateSimpleWindow", Ulong)):
            getattr(x, name).restype = result
        self.root = x.XDefaultRootWindow(self.display)
        self.window = x.XCreateSimpleWindow(self.display, Ulong(self.root), 0, 0, 1, 1, 0, Ulong(0), Ulong(0))
        self.data = f"{path.as_uri()}\r\n".encode()
        x.XSetSelectionOwner(self.display, self.atom("XdndSelection"), Ulong(self.window), Ulong(0))
        self.target = self._aware(self.root)

    def atom(self, name: str) -> Ulong:
        """The server's number of a name."""
        return Ulong(self.x.XInternAtom(self.display, name.encode(), 0))

    def _aware(self, window: int) -> int:
        """The first window below this one that takes drops; 0 where none does."""
        kind, form, count, after, data = Ulong(), c.c_int(), Ulong(), Ulong(), c.c_void_p()
        self.x.XGetWindowProperty(self.display, Ulong(window), self.atom("XdndAware"), Long(0), Long(1), 0,
                                  Ulong(ANY_TYPE), c.byref(kind), c.byref(form), c.byref(count), c.byref(after),
                                  c.byref(data))  # fmt: skip
        if kind.value:
            return window
        root, parent, children, number = Ulong(), Ulong(), c.POINTER(Ulong)(), c.c_uint()
        self.x.XQueryTree(self.display, Ulong(window), c.byref(root), c.byref(parent), c.byref(children),
                          c.byref(number))  # fmt: skip
        return next(filter(None, (self._aware(children[i]) for i in range(number.value))), 0)

    def tell(self, message: str, *data: int) -> None:
        """Send the target a client message."""
        event = Event()
        words = (Long * 5)(self.window, *data, *[0] * (4 - len(data)))
        event.client = Client(CLIENT_MESSAGE, 0, 1, self.display, self.target, self.atom(message).value, 32, words)
        self.x.XSendEvent(self.display, Ulong(self.target), 0, Long(0), c.byref(event))
        self.x.XFlush(self.display)

    def answers(self, wanted: str, wait_s: float) -> bool:
        """Hand out the file where it is asked for, until the target sends `wanted`."""
        event, until = Event(), time.monotonic() + wait_s
        while time.monotonic() < until:
            if not self.x.XPending(self.display):
                time.sleep(0.01)
                continue
            self.x.XNextEvent(self.display, c.byref(event))
            if event.type == SELECTION_REQUEST:
                self._give(event.request)
            elif event.type == CLIENT_MESSAGE and event.client.message_type == self.atom(wanted).value:
                return True
        return False

    def _give(self, asked: Request) -> None:
        self.x.XChangeProperty(self.display, Ulong(asked.requestor), Ulong(asked.property), Ulong(asked.target), 8, 0,
                               self.data, len(self.data))  # fmt: skip
        event = Event()
        event.notify = Notify(SELECTION_NOTIFY, 0, 1, self.display, asked.requestor, asked.selection, asked.target,
                              asked.property, asked.time)  # fmt: skip
        self.x.XSendEvent(self.display, Ulong(asked.requestor), 0, Long(0), c.byref(event))
        self.x.XFlush(self.display)


def main() -> int:
    """The whole drag."""
    x, y = int(sys.argv[2]), int(sys.argv[3])
    source = Source(Path(sys.argv[1]))
    if not source.target:
        print("no window takes drops", file=sys.stderr)
        return 1
    source.tell("XdndEnter", VERSION << 24, source.atom("text/uri-list").value)
    answered = False
    for step in range(5):  # a hand moves: Blender looks for what is under the drag as it goes
        source.tell("XdndPosition", 0, (x + step - 4) << 16 | y, 0, source.atom("XdndActionCopy").value)
        answered = source.answers("XdndStatus", 2.0) or answered
        time.sleep(0.1)
    if not answered:
        print("no answer to the drag", file=sys.stderr)
    source.tell("XdndDrop", 0, 0)
    if not source.answers("XdndFinished", WAIT_S):
        print("no answer to the drop", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
