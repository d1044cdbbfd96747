"""The backend's key pair and the public keys of the clients it knows, in HOME/keys, readable by their owner only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from backend.addresses import is_loopback
from shared.errors import BadConfig, NotAllowed, NotFound, nearest
from shared.keys import Pair, check_key, make_pair, pair_in
from shared.private_files import read_private, write_private

MAX_CLIENTS = 1000
_NAME = re.compile(r"[\w.@ -]{1,64}")


class KeyRing:
    """The keys under one folder. Files are read anew when they have changed, so a running server follows commands."""

    def __init__(self, folder: Path) -> None:
        self.server_path, self.clients_path = folder / "server.json", folder / "clients.json"
        self._stamp: tuple[int, int] | None = None
        self._clients: dict[str, str] = {}

    def has_pair(self) -> bool:
        """Whether the backend has keys."""
        return self.server_path.exists()

    def pair(self) -> Pair:
        """The backend's own pair, made when it is first asked for. Raises EnvironmentFailed, BadConfig."""
        return pair_in(self.server_path)

    def renew(self) -> Pair:
        """Another pair in place of the one there is: no client can connect until it has been told the new key."""
        pair = make_pair()
        write_private(self.server_path, {"public": pair.public, "secret": pair.secret})
        return pair

    def clients(self) -> dict[str, str]:
        """Name -> public key. Raises EnvironmentFailed, BadConfig."""
        try:
            status = self.clients_path.stat()
        except FileNotFoundError:
            self._stamp, self._clients = None, {}
            return {}
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._clients, self._stamp = _checked(read_private(self.clients_path), self.clients_path), stamp
        return dict(self._clients)

    def name_of(self, public: str) -> str:
        """The name of the client with this public key; empty where it is not known."""
        return next((name for name, known in self.clients().items() if known == public), "")

    def add(self, name: str, public: str) -> None:
        """Let a client in. Raises BadConfig."""
        if not _NAME.fullmatch(name):
            raise BadConfig("This is no name for a client", found=repr(name)[:80], expected="1 to 64 letters")
        key, clients = check_key(public), self.clients()
        other = next((known for known, its in clients.items() if its == key and known != name), "")
        if other:
            raise BadConfig("This key is known by another name", found=other, do=f"Remove {other} first")
        if name in clients and clients[name] != key:
            raise BadConfig(f"There is a client {name!r} with another key", do=f"First: effigy keys remove {name}")
        if len(clients) >= MAX_CLIENTS:
            raise BadConfig("There are too many clients", found=str(len(clients)), do="Remove some")
        write_private(self.clients_path, {**clients, name: key})

    def remove(self, name: str) -> None:
        """Let a client in no more. Raises NotFound."""
        clients = self.clients()
        if name not in clients:
            raise NotFound(f"There is no client {name[:80]!r}{nearest(name, clients)}")
        del clients[name]
        write_private(self.clients_path, clients)


def ring_for(folder: Path, address: str, *, encrypt: bool) -> KeyRing | None:
    """The keys of a server at this address, None for one that does not encrypt: one that only its own machine reaches
    and that was not asked to. Raises NotAllowed where keys have to be made first."""
    outside = not is_loopback(address)
    if not outside and not encrypt:
        return None
    ring = KeyRing(folder)
    if not ring.has_pair() or not ring.clients():
        missing = "knows no clients" if ring.has_pair() else "has no keys"
        where = "Other machines can reach this address" if outside else "Encryption was asked for"
        raise NotAllowed(
            f"{where}, and the backend {missing} yet",
            found=address,
            do="Run 'effigy keys make' and 'effigy keys add NAME KEY' first, or use 127.0.0.1 and an SSH tunnel",
        )
    return ring


def _checked(stored: Any, path: Path) -> dict[str, str]:
    try:
        if not isinstance(stored, dict) or len(stored) > MAX_CLIENTS:
            raise BadConfig("It is no list of clients")
        return {str(name): check_key(str(public), f"That of {name!r}"[:80]) for name, public in stored.items()}
    except BadConfig as error:
        raise BadConfig("The list of clients is damaged", found=f"{path}: {error.what}") from error
