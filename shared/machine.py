"""Who and where this process is: for a server that gives jobs owners, and for clients that look for the way to it."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
import uuid
from functools import cache
from pathlib import Path


@cache
def machine_token() -> str:
    """The same for two processes that can reach each other's local sockets, different for other machines.

    Linux: of this boot and this network namespace, so a container is a machine of its own. Elsewhere of the hardware.
    """
    try:
        where = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        where += str(os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        where = f"{uuid.getnode()} {socket.gethostname()}"
    return hashlib.sha256(where.encode()).hexdigest()[:32]


@cache
def process_token() -> str:
    """New for each process; known to it and to the servers it says Hello to."""
    return secrets.token_hex(16)


def whoami() -> str:
    """This process as people know it: 'anna@desk, process 4711'."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "someone"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
