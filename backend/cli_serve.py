"""`serve`: run the server in the foreground until it is told to end."""

from __future__ import annotations

import argparse
import json
import logging
import logging.handlers
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from backend.engines.choosing import add_engine_options, chosen_engine
from backend.home import Home, open_home
from backend.options import add_device, add_home
from shared.addresses import DEFAULT_ADDRESS
from shared.errors import EnvironmentFailed

LOG_BYTES, LOG_FILES = 2 * 1024**2, 3


def add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="run the server until Ctrl-C")
    parser.add_argument("--address", default=os.environ.get("EFFIGY_ADDRESS", DEFAULT_ADDRESS))
    add_home(parser)
    parser.add_argument(
        "--key-file", type=Path, help="file whose first line is the key (default: $EFFIGY_KEY, or none)"
    )
    parser.add_argument(
        "--encrypt", action="store_true", help="only for clients that 'effigy keys add' named; always so off-host"
    )
    add_device(parser)
    add_engine_options(parser)
    parser.add_argument(
        "--parent-pid", type=int, default=0, help="end when this process is gone and no training job is left"
    )
    parser.add_argument("--even-training", action="store_true", help="with --parent-pid: end also while a job trains")
    parser.set_defaults(run=serve)


def serve(arguments: argparse.Namespace) -> int:
    """Bind, say so in one JSON line on standard output, and serve."""
    home = open_home(arguments.home)
    _log_to(home)
    key = read_key(arguments.key_file)
    engine = chosen_engine(arguments, home)
    engine.load_ahead()
    try:
        from backend.server import Server, ServerSettings

        server = Server(ServerSettings(home, arguments.address, key, arguments.device, arguments.encrypt), engine)
    except BaseException:
        engine.close()
        raise
    ended = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: ended.set())
    orphaned = parent_watch(arguments.parent_pid)
    print(json.dumps({"ready": True, "address": server.address, "epoch": server.epoch}), flush=True)
    logging.getLogger("effigy").info("listening at %s, data in %s", server.address, home.root)
    server.run(lambda: ended.is_set() or (orphaned() and (arguments.even_training or not server.jobs.active())))
    return 0


def read_key(path: Path | None) -> str:
    """The key from a file's first line, or from $EFFIGY_KEY, or none. Raises EnvironmentFailed."""
    if path is None:
        return os.environ.get("EFFIGY_KEY", "").strip()
    try:
        key = (path.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFailed("The key file cannot be read", found=f"{path}: {error}") from error
    if not key:
        raise EnvironmentFailed("The key file is empty", found=str(path), do="Write a key into its first line")
    return key


def parent_watch(pid: int) -> Callable[[], bool]:
    """A function that says whether process `pid` is gone; pid 0 is never gone."""
    if not pid:
        return lambda: False
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        return lambda: not handle or kernel.WaitForSingleObject(handle, 0) == 0
    if os.getppid() == pid:  # also true to a parent that ended but was not yet collected by its own
        return lambda: os.getppid() != pid

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    return gone


def _log_to(home: Home) -> None:
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    file = logging.handlers.RotatingFileHandler(
        home.logs / "server.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    screen = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("effigy")
    logger.setLevel(logging.INFO)
    for handler in (file, screen):
        handler.setFormatter(form)
        logger.addHandler(handler)
