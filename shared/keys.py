"""Key pairs for the encrypted connection (CURVE), and the files they live in, which only their owner can read.

A key is 40 letters (Z85). The secret one of a pair never leaves its file: not into logs, messages, avatars or .blend
files, nor into the `repr` of what holds it. A connection file holds what a client needs to find a backend.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from .errors import BadConfig, EnvironmentFailed

KEY_LETTERS = 40
MAX_FILE_BYTES = 1024**2
CONNECTION_VERSION = 1


@dataclass(frozen=True)
class Pair:
    """public may be shown to anyone; secret stays where it is."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Login:
    """What a client needs on an encrypted connection. server_key: the backend's public key; own: the client's pair."""

    server_key: str
    own: Pair


@dataclass(frozen=True)
class Connection:
    """What a connection file says: where a backend is, its public key (empty: not encrypted) and its key."""

    address: str
    server_key: str = ""
    key: str = field(default="", repr=False)


def make_pair() -> Pair:
    """A new pair. Raises EnvironmentFailed where ZeroMQ was built without encryption."""
    if not zmq.has("curve"):
        raise EnvironmentFailed("This ZeroMQ cannot encrypt", do="Install pyzmq from PyPI, which can")
    public, secret = zmq.curve_keypair()
    return Pair(public.decode("ascii"), secret.decode("ascii"))


def check_key(text: str, whose: str = "The key") -> str:
    """A public key without the space around it. Raises BadConfig where it is none."""
    key = text.strip()
    try:
        good = len(key) == KEY_LETTERS and len(z85.decode(key.encode("ascii"))) == 32
    except (KeyError, ValueError, struct.error):
        good = False
    if not good:
        raise BadConfig(f"{whose} is not a key", found=f"{len(key)} letters", expected=f"{KEY_LETTERS} letters (Z85)")
    return key


def keys_folder() -> Path:
    """Where this user's own keys are: $EFFIGY_HOME/keys, or ~/.effigy/keys."""
    return Path(os.environ.get("EFFIGY_HOME") or Path.home() / ".effigy") / "keys"


def own_pair(path: Path | None = None) -> Pair:
    """This user's pair as a client, made when it is first asked for. Raises EnvironmentFailed, BadConfig."""
    return pair_in(path or keys_folder() / "own.json")


def pair_in(path: Path) -> Pair:
    """The pair in a file, made where there is none. Raises EnvironmentFailed, BadConfig."""
    if not path.exists():
        made = make_pair()
        with contextlib.suppress(FileExistsError):  # another process was quicker: its pair counts
            write_private(path, {"public": made.public, "secret": made.secret}, replace=False)
    stored = read_private(path)
    try:
        pair = Pair(check_key(str(stored["public"])), check_key(str(stored["secret"])))
        if zmq.curve_public(pair.secret.encode()).decode() != pair.public:
            raise BadConfig("The two keys are not of one pair")
    except (KeyError, TypeError, BadConfig) as error:
        raise BadConfig(
            "This file holds no key pair", found=str(path), do="Remove it, and a new pair is made"
        ) from error
    return pair


def login(server_key: str, own: Path | None = None) -> Login:
    """What a client of the backend with this public key needs. Raises BadConfig, EnvironmentFailed."""
    return Login(check_key(server_key, "The backend's key"), own_pair(own))


def write_connection(path: Path, connection: Connection) -> None:
    """Write a connection file. Raises EnvironmentFailed."""
    document = {"effigy_connection": CONNECTION_VERSION, "address": connection.address}
    write_private(path, {**document, "server_key": connection.server_key, "key": connection.key})


def read_connection(path: Path) -> Connection:
    """Read a connection file. Raises EnvironmentFailed, BadConfig."""
    stored = read_private(path)
    known = isinstance(stored, dict) and stored.get("effigy_connection") == CONNECTION_VERSION
    texts = {name: stored.get(name) for name in ("address", "server_key", "key")} if known else {}
    if not texts or not all(isinstance(text, str) for text in texts.values()):
        raise BadConfig("This is no connection file of Effigy", found=str(path), do="Make one: effigy keys export")
    if texts["server_key"]:
        texts["server_key"] = check_key(str(texts["server_key"]), "The backend's key")
    return Connection(**{name: str(text) for name, text in texts.items()})


def write_private(path: Path, document: Any, *, replace: bool = True) -> None:
    """Write JSON whole or not at all, readable by its owner only from its first byte on.

    Raises EnvironmentFailed, and FileExistsError where it must not replace one.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise EnvironmentFailed("A key file cannot be written", found=f"{path}: {error.strerror}") from error


def read_private(path: Path) -> Any:
    """JSON of a file that nobody else can read. Raises EnvironmentFailed, BadConfig."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailed("A key file cannot be read", found=f"{path}: {error.strerror}") from error
    if sys.platform != "win32" and mode & 0o077:
        raise EnvironmentFailed("Others can read this key file", found=str(path), do=f"Run: chmod 600 '{path}'")
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError("it is too long")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadConfig("A key file is damaged", found=f"{path}: {str(error)[:80]}") from error
