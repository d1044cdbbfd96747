"""Where the backend is and how to start it: environment over scene over preferences."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

DEFAULT_ADDRESS = "tcp://127.0.0.1:47615"


@dataclass(frozen=True)
class Settings:
    """How to reach the backend. python: interpreter of the environment it is installed in, empty = not known.

    server_key: the public key of a backend that encrypts, else empty. keep_training: trainings of a backend that was
    started from here go on when Blender closes; else they wait for the next one.
    """

    address: str = DEFAULT_ADDRESS
    key: str = field(default="", repr=False)
    start_automatically: bool = False
    python: str = ""
    data_folder: str = ""
    retry_s: float = 5.0
    server_key: str = ""
    keep_training: bool = True


def free_address() -> str:
    """An address of this machine where nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def resolved(preferences: Settings, scene_address: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that count: EFFIGY_ADDRESS, EFFIGY_KEY and EFFIGY_SERVER_KEY win, then the scene's address, then
    the preferences.

    A farm node sets the environment, a shot may name its own backend, a workstation has its preferences.
    EFFIGY_RETRY_S is how many seconds a farm's render looks for its backend; what is no number is passed over.
    """
    retry_s = environ.get("EFFIGY_RETRY_S", "")
    own = preferences.address.strip() or DEFAULT_ADDRESS
    address = environ.get("EFFIGY_ADDRESS") or scene_address.strip() or own
    # A shot's own backend on this machine is not the one whose key the preferences hold.
    known_key = preferences.server_key.strip() if address == own or not is_local(address) else ""
    return replace(
        preferences,
        address=address,
        server_key=environ.get("EFFIGY_SERVER_KEY", known_key),
        key=environ.get("EFFIGY_KEY", preferences.key),
        retry_s=float(retry_s) if retry_s.replace(".", "", 1).isdigit() else preferences.retry_s,
    )


def is_local(address: str) -> bool:
    """Whether a backend at this address would run on this machine, so that it can be started from here."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return address.startswith("ipc://") or host in {"localhost", "::1"} or host.startswith("127.")
