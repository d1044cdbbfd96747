"""What all processes of a run share: the first one that needs it makes it, the others wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the whole run that `make` has filled; leave it as it is."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    done = place.with_name(f"{name}.done")
    with place.with_name(f"{name}.lock").open("w") as lock:
        if os.name == "posix":  # elsewhere the suite runs in one process
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(place)
            done.touch()
    return place
