"""Damages a parser's valid files over and over and watches what it does: accept, refuse in a sentence, or crash."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from backend.fuzzing.mutations import BY_SUFFIX, mutated
from shared.errors import EffigyError

Files = Mapping[str, bytes]
"""Relative path -> content of everything a parser is given."""
MAX_SENTENCE = 1500
MEMORY_BYTES = 3 << 30
"""What one parser may take in address space above what its process has: an allocation beyond it fails."""
MAX_GROWTH_BYTES, MAX_CASE_S = 64 << 20, 10.0
"""What one parser's cases may leave behind in the process, and the processor's time that one case may take."""
CURRENT = "current"
WARM_CASES = 400
"""From here on the growth of the process is measured."""


@dataclass(frozen=True)
class Parser:
    """One reader of bytes from strangers. samples: makes valid inputs. read: reads the files under a folder.

    parse: instead of `read`, for what comes over a wire. damaged: names of the files that are damaged, all where empty.
    sealed: whether every damage must be refused, as where a digest covers the bytes.
    """

    name: str
    samples: Callable[[], tuple[Files, ...]]
    read: Callable[[Path], Any] | None = None
    parse: Callable[[Files], Any] | None = None
    damaged: tuple[str, ...] = ()
    sealed: bool = False


@dataclass
class Row:
    """What was seen of one parser. crashes: a line each; growth_bytes: of the process from after
    the first cases."""

    name: str
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    worst_ms: float = 0.0
    worst_refusal_ms: float = 0.0
    growth_bytes: int = 0
    crashes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def fuzz(
    parser: Parser,
    seed: int,
    more: Callable[[int], bool],
    *,
    save: Path | None = None,
    most_crashes: int = 5,
    guarded: bool = False,
) -> Row:
    """Run cases while `more(count)`; crashes are saved as folders of files under `save`.

    guarded: write each case to save/current first, so that one that kills the process is not lost.
    """
    random = Random(f"{parser.name}/{seed}")
    row, crashes, seen, begun_bytes = Row(parser.name), [], set(), 0
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = [_laid_out(Path(place) / str(index), files) for index, files in enumerate(parser.samples())]
        for folder, files in folders:
            _valid(parser, folder, files)
        while more(row.cases):
            folder, files = random.choice(folders)
            name = random.choice(parser.damaged or tuple(files))
            content = mutated(files[name], random, BY_SUFFIX.get(Path(name).suffix, "bytes"))
            changed = {**files, name: content}
            if guarded and save is not None:
                write_files(save / CURRENT, {name: content})
            if parser.read is not None:
                _put(folder / name, content)
            crash, refused, took_ms = _tried(parser, folder, changed, content != files[name])
            if parser.read is not None:
                _put(folder / name, files[name])
            row.cases += 1
            row.refused += refused
            row.accepted += not refused and not crash
            row.worst_ms = max(row.worst_ms, took_ms)
            row.worst_refusal_ms = max(row.worst_refusal_ms, took_ms if refused else 0.0)
            if crash and _where(crash) not in seen:
                seen.add(_where(crash))
                crashes.append(f"{name}: {crash}")
                if save is not None:
                    write_files(save / f"{parser.name}-{zlib.crc32(content):08x}", changed)
                    (save / f"{parser.name}-{zlib.crc32(content):08x}" / "crash.txt").write_text(crash, "utf-8")
            if len(crashes) >= most_crashes:
                break
            if row.cases == WARM_CASES:
                gc.collect()
                begun_bytes = resident_bytes()
    if begun_bytes:
        gc.collect()
        row.growth_bytes = max(0, resident_bytes() - begun_bytes)
    if row.growth_bytes > MAX_GROWTH_BYTES:
        crashes.append(f"the process grew by {row.growth_bytes >> 20} MiB in {row.cases - WARM_CASES} cases")
    row.crashes = tuple(crashes)
    return row


def replay(parser: Parser, folder: Path) -> str:
    """What a saved case does: "accepted", "refused: …", or a crash's traceback."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("crash.txt", None)
    try:
        (parser.read or (lambda _: parser.parse(files) if parser.parse else None))(folder)
    except EffigyError as error:
        return f"refused: {error}"
    except Exception:  # noqa: BLE001 - any other error is what is looked for
        return traceback.format_exc()
    return "accepted"


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where that is not known."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return 0


@contextmanager
def bounded_memory(more_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Let allocations fail that take more than `more_bytes` of new address space (on Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def write_files(folder: Path, files: Files) -> None:
    """Put files under a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _put(folder / name, content)


def _put(path: Path, content: bytes) -> None:
    """Write a file, over what it holds.

    ext4 puts a file on the disk at once that is emptied and filled anew: 7 ms a case, seven times what a parser takes.
    """
    try:
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()
    except FileNotFoundError:
        path.write_bytes(content)


def _laid_out(folder: Path, files: Files) -> tuple[Path, Files]:
    write_files(folder, files)
    return folder, files


def _valid(parser: Parser, folder: Path, files: Files) -> None:
    """A sample that is refused would make the whole run worthless."""
    parser.read(folder) if parser.read is not None else parser.parse(files)  # type: ignore[misc]


def _tried(parser: Parser, folder: Path, files: Files, changed: bool) -> tuple[str, bool, float]:
    """(crash or nothing, whether it was refused, milliseconds)."""
    begun, worked = time.perf_counter(), time.process_time()
    try:
        parser.read(folder) if parser.read is not None else parser.parse(files)  # type: ignore[misc]
    except EffigyError as error:
        took, work_s = (time.perf_counter() - begun) * 1e3, time.process_time() - worked
        text = str(error)
        if work_s > MAX_CASE_S:
            return f"{work_s:.0f} s until it was refused: {text}", False, took
        if not text or len(text) > MAX_SENTENCE:
            return f"an error that is no sentence: {text[:200]!r} ({len(text)} characters)", False, took
        return "", True, took
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        return "".join(traceback.format_exception(error))[-4000:], False, (time.perf_counter() - begun) * 1e3
    took, work_s = (time.perf_counter() - begun) * 1e3, time.process_time() - worked
    if work_s > MAX_CASE_S:
        return f"{work_s:.0f} s until it was read", False, took
    if parser.sealed and changed:
        return "damage that was not noticed", False, took
    return "", False, took


def _where(crash: str) -> str:
    """What makes two crashes the same: kind of the error and the line it came from."""
    lines = [line for line in crash.splitlines() if line.strip()]
    with suppress(ValueError, IndexError):
        places = [line for line in lines if line.lstrip().startswith("File ")]
        return places[-1] + lines[-1].split(":")[0]
    return crash[:60]
