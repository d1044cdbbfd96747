"""Key pairs for the encrypted connection (CURVE), and the files they live in, which only their owner can read.

A key is 64 letters 0-9 and a-f, which no shell or chat takes for something else. The secret one of a pair never leaves
its file: not into logs, messages, avatars or .blend files, nor into the `repr` of what holds it. A connection file
holds what a client needs to find a backend.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from .errors import BadConfig, EnvironmentFailed
from .private_files import keys_folder, read_private, write_private

CONNECTION_VERSION = 1
_KEY = re.compile("[0-9a-f]{64}")


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
    return Pair(z85.decode(public).hex(), z85.decode(secret).hex())


def check_key(text: str, whose: str = "The key") -> str:
    """A key without the space around it. Raises BadConfig where it is none."""
    key = text.strip().lower()
    if not _KEY.fullmatch(key):
        raise BadConfig(f"{whose} is not a key", found=f"{len(key)} letters", expected="64 letters 0-9 and a-f")
    return key


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
        if z85.decode(zmq.curve_public(z85.encode(bytes.fromhex(pair.secret)))).hex() != pair.public:
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
