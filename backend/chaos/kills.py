"""A training killed again and again, at random moments and inside checkpoints being written, beside one left alone."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from avatars.files import sha256_of
from backend.chaos.scene import CAPTURE, PRESET, TRAINING
from shared.errors import EnvironmentFailed

RUN_WITHIN_S = 900.0
MOST_WRITES, MOST_WAIT_S, MOST_INTO_S = 3, 4.0, 0.006
"""A kill comes at one of the first checkpoints that a process writes, so long after that was begun at most, or so long
after its first one at most."""
LOOK_S = 0.0002


@dataclass
class Kills:
    """What came of it. in_writes: kills while a checkpoint was half written. equal: runs with the weights of the one
    that was left alone."""

    seed: int
    kills: int = 0
    in_writes: int = 0
    runs: int = 0
    equal: int = 0

    def as_json(self) -> dict[str, int]:
        """All of it."""
        return asdict(self)


def run_kills(
    folder: Path,
    kills: int,
    seed: int,
    *,
    training: dict[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Kills:
    """Train once undisturbed, then kill trainings until there were so many kills, and let the last one end.

    Every other kill is aimed at a checkpoint being written. training: settings of the runs (default: those of chaos).
    Raises EnvironmentFailed where a run that nobody kills fails.
    """
    chosen, outcome = random.Random(seed), Kills(seed)
    command = _command(training or TRAINING)
    tell("A training that is left alone")
    wanted = _finish(command, folder / "alone")
    while outcome.kills < kills:
        home = folder / f"killed{outcome.runs}"
        while outcome.kills < kills:
            before = _halves(home)
            place = _killed(command, home, chosen, in_write=outcome.kills % 2 == 0)
            if place is None:
                break
            outcome.kills += 1
            halved = bool(_halves(home) - before)
            outcome.in_writes += halved
            tell(f"kill {outcome.kills} {place}{', a half one is left' if halved else ''}")
        outcome.runs += 1
        outcome.equal += _finish(command, home) == wanted
    return outcome


def _command(settings: dict[str, str]) -> list[str]:
    words = [sys.executable, "-m", "backend", "train", "--local", "--capture", CAPTURE, "--preset", PRESET]
    words += ["--name", "killed", "--device", "cpu"]
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    return words


def _started(command: Sequence[str], home: Path) -> subprocess.Popen[bytes]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "train.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--home", str(home)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def _killed(command: Sequence[str], home: Path, chosen: random.Random, *, in_write: bool) -> str | None:
    """Begin (or go on) and kill it: where it was then; None where the run ended first.

    In a write: the process is stopped first, then it is looked at whether the half is still there; where the write was
    quicker, the process goes on to its next checkpoint.
    """
    earlier = _halves(home)
    process = _started(command, home)
    try:
        writes, seen = chosen.randint(1, MOST_WRITES), set[str]()
        wait_s, into_s, first_s = chosen.uniform(0.0, MOST_WAIT_S), chosen.uniform(0.0, MOST_INTO_S), 0.0
        until = time.monotonic() + RUN_WITHIN_S
        while process.poll() is None and time.monotonic() < until:
            half = _being_written(home, earlier)
            if half is not None:
                first_s = first_s or time.monotonic()
                seen.add(half.name)
                if in_write and len(seen) > writes:
                    time.sleep(into_s)
                    process.send_signal(signal.SIGSTOP)
                    held = _files(half)
                    if held is not None:
                        return f"inside {half.name}, {held} of its files begun"
                    into_s /= 2  # the whole of it took less
                    process.send_signal(signal.SIGCONT)
            if not in_write and first_s and time.monotonic() - first_s > wait_s:
                return f"{wait_s:.1f} s after its first checkpoint"
            time.sleep(LOOK_S)
        if process.returncode != 0:
            raise EnvironmentFailed("A training that nobody killed failed", found=_last_words(home))
        return None
    finally:
        process.kill()
        process.wait()


def _being_written(home: Path, earlier: set[Path]) -> Path | None:
    """A half checkpoint beside those that earlier kills left."""
    with contextlib.suppress(FileNotFoundError):  # a run that is done takes its checkpoints away
        return next((path for path in home.glob("jobs/*/checkpoints/.images_*.tmp") if path not in earlier), None)
    return None


def _files(half: Path) -> int | None:
    """How many files a half checkpoint has; None where it is not there any more."""
    try:
        return len(list(half.iterdir()))
    except OSError:
        return None


def _halves(home: Path) -> set[Path]:
    """Checkpoints that were not written to their end."""
    return set(home.glob("jobs/*/checkpoints/.images_*"))


def _finish(command: Sequence[str], home: Path) -> str:
    """Let it end; the digest of its avatar's weights. Of a run that is done already only that."""
    status = _started(command, home).wait(RUN_WITHIN_S)
    found = sorted(home.glob("library/*.avatar/weights.safetensors"))
    if status != 0 or len(found) != 1:
        raise EnvironmentFailed(
            "A training that nobody killed failed", found=f"{len(found)} avatars; {_last_words(home)}"
        )
    return sha256_of(found[0])


def _last_words(home: Path) -> str:
    return (home / "train.log").read_text(encoding="utf-8", errors="replace").strip()[-400:]
