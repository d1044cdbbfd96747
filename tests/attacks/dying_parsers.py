"""A table whose second parser takes its process with it, as native code does that trips over a file."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from types import MappingProxyType

from backend.fuzzing.runner import Files, Parser
from shared.errors import BadCapture

SAMPLE = ({"x": b"1234"},)


def _refuses(files: Files) -> None:
    if files["x"] != b"1234":
        raise BadCapture("this is damaged")


def _dies(files: Files) -> None:
    if files["x"] != b"1234":
        os.kill(os.getpid(), signal.SIGKILL)


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        "fine": Parser("fine", lambda: SAMPLE, parse=_refuses),
        "dying": Parser("dying", lambda: SAMPLE, parse=_dies),
        "after": Parser("after", lambda: SAMPLE, parse=_refuses),
    }
)
