"""Which addresses the backend may listen at, and binding to them with an error a user understands."""

from __future__ import annotations

import ipaddress
import re
import sys
import uuid

import zmq

from shared.errors import EnvironmentFailed, NotAllowed

MAX_PORT = 65535
_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]]+):(?P<port>\d{1,5}|\*)")


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address. Raises EnvironmentFailed for what is no address."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return True
    host = _parts(address)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_loopback(address: str) -> None:
    """Refuse what other machines could reach, and what is no address. Raises NotAllowed, EnvironmentFailed."""
    if not is_loopback(address):
        raise NotAllowed(
            "What is not encrypted is taken from this machine only",
            found=address,
            expected="tcp://127.0.0.1:PORT",
            do="From another machine, use an SSH tunnel to it",
        )


def beside(address: str, offset: int) -> str:
    """The same host's port `offset` further on; a free one where the port is 0. Raises EnvironmentFailed."""
    host, port = _parts(address)
    number = 0 if port in ("0", "*") else int(port) + offset
    if number > MAX_PORT:
        raise EnvironmentFailed(
            "The two ports after the backend's are needed, too", found=address, expected=f"a port below {MAX_PORT - 1}"
        )
    return f"tcp://{host}:{number}"


def port_of(address: str) -> int:
    """The port of a bound TCP address."""
    return int(_parts(address)[1])


def _parts(address: str) -> tuple[str, str]:
    match = _TCP.fullmatch(address)
    if match is None or (match["port"] != "*" and int(match["port"]) > MAX_PORT):
        raise EnvironmentFailed("This is no address to listen at", found=address, expected="tcp://127.0.0.1:PORT")
    return match["host"], match["port"]


def bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Bind and return the address in use; port 0 takes a free one. Raises EnvironmentFailed when it is taken."""
    wanted = address[:-2] + ":*" if address.endswith(":0") else address
    wanted = wanted.replace("//localhost:", "//127.0.0.1:")
    if "[" in wanted:
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.bind(wanted)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise EnvironmentFailed(
                f"The port of {address} is in use",
                do="Another backend may be running: stop it, or give another port with --address",
            ) from error
        raise EnvironmentFailed(f"The backend cannot listen at {address}", found=str(error)) from error
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


def bind_private(socket: zmq.Socket[bytes]) -> str:
    """Bind for peers on this machine, the fastest way there is, and return the address.

    Linux: an abstract socket, which leaves no file behind however the process ends. Elsewhere: TCP on loopback.
    """
    if sys.platform == "linux" and zmq.has("ipc"):
        name = f"ipc://@effigy-{uuid.uuid4().hex}"
        bind(socket, name)
        return name
    return bind(socket, "tcp://127.0.0.1:0")
