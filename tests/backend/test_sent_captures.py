"""Captures on their way to a machine that does not have them: what is sent, what is refused, what is dropped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.engines import capture_cache, capture_listing
from backend.engines.capture_cache import FOLDER, CaptureCache, is_there
from backend.engines.capture_listing import Entry, as_bytes, capture_digest, entries_of, listed, with_digests
from backend.engines.capture_sending import CaptureSender, folder_to_send
from backend.engines.node_cache import FOLDER_VARIABLE
from backend.engines.ray_train_actor import TrainActor
from shared.errors import BadMessage, Cancelled, EnvironmentFailed


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A folder as captures are: some files, one empty, one with a name of its own, one behind a link."""
    folder = tmp_path / "here" / "Anna 1"
    (folder / "images" / "left").mkdir(parents=True)
    for number in range(4):
        (folder / "images" / "left" / f"{number}.png").write_bytes(os.urandom(3000 + number))
    (folder / "capture.json").write_text("{}")
    (folder / "empty").touch()
    (tmp_path / "else where ü").write_bytes(b"linked")
    (folder / "länk").symlink_to(tmp_path / "else where ü")
    (folder / "round").symlink_to(folder)
    return folder


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaptureCache:
    """The cache of a machine whose home is another one."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(capture_listing, "PIECE_BYTES", 1000)
    monkeypatch.setattr(capture_cache, "FREE_BYTES", 0)
    monkeypatch.setattr("backend.engines.ray_train_actor.prepare_process", lambda threads: None)
    return CaptureCache(tmp_path / "cache" / FOLDER)


class Calls:
    """An actor in this process, and what it was sent. `change` may damage a piece on its way."""

    def __init__(self, change: Callable[[bytes], bytes] = lambda piece: piece) -> None:
        self.actor, self.sent, self._change = TrainActor("cpu", 1), bytearray(), change

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> bytes:
            if name == "take_capture":
                self.sent += arguments[0]
                arguments = (self._change(arguments[0]),)
            answer: bytes = getattr(self.actor, name)(*arguments)
            return answer

        return type("Method", (), {"remote": staticmethod(remote)})


def provided(path: Path, calls: Calls, heed: Callable[[], None] = lambda: None) -> Path | None:
    """Where the machine has the capture after it was provided; None for the path that was asked for."""
    CaptureSender(str(path), lambda answer: answer, heed, lambda text: None).provide(calls, "there")
    return calls.actor._capture


def content(folder: Path) -> dict[str, bytes]:
    return {entry.name: (folder / entry.name).read_bytes() for entry in listed(folder)}


def elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines do not see the path any more."""
    seen = capture_cache.is_there
    monkeypatch.setattr(
        "backend.engines.ray_train_actor.is_there", lambda asked, entries: asked != str(path) and seen(asked, entries)
    )


def test_a_machine_that_sees_the_same_files_is_sent_nothing(capture: Path, there: CaptureCache, tmp_path: Path) -> None:
    calls = Calls()
    assert provided(capture, calls) is None
    assert not calls.sent
    copied = Path(shutil.copytree(capture, tmp_path / "copied", ignore=shutil.ignore_patterns("round")))
    entries = with_digests(capture, listed(capture), lambda: None)
    for path in copied.rglob("*"):
        os.utime(path, (1, 1))
    assert is_there(str(copied), entries), "another time, the same contents"
    changed = copied / "images" / "left" / "2.png"
    changed.write_bytes(bytes(changed.stat().st_size))
    assert not is_there(str(copied), entries)
    assert not is_there(str(tmp_path / "nowhere"), entries)


def test_what_it_lacks_is_sent_once(capture: Path, there: CaptureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(capture, monkeypatch)
    first, second = Calls(), Calls()
    made = provided(capture, first)
    assert made is not None
    assert made.name == "Anna 1"
    assert content(made) == content(capture)
    assert len(first.sent) == sum(entry.size for entry in listed(capture))
    assert provided(capture, second) == made
    assert not second.sent
    entries = with_digests(capture, listed(capture), lambda: None)
    changed = capture / "images" / "left" / "1.png"
    changed.write_bytes(b"another picture")
    third = Calls()
    other = provided(capture, third)
    assert bytes(third.sent) == b"another picture", "and nothing else"
    assert content(other) == content(capture) != content(made)
    assert there.path("Anna 1", entries) == made
    (made / "images" / "left" / "1.png").write_bytes(b"")  # as a machine that lost its power may leave it
    assert there.path("Anna 1", entries) is None
    assert content(other) == content(capture)
    for calls in (first, second, third):
        calls.actor.leave()
    assert not list(there.folder.glob(".*"))


@pytest.mark.parametrize(
    "change",
    [lambda piece: piece[:-1] + bytes([piece[-1] ^ 1]), lambda piece: piece[:-1], lambda piece: piece + b"more"],
    ids=["damaged", "short", "long"],
)
def test_nothing_damaged_is_kept(
    capture: Path, there: CaptureCache, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    elsewhere(capture, monkeypatch)
    calls = Calls(change)
    with pytest.raises(BadMessage):
        provided(capture, calls)
    calls.actor.leave()
    assert not [path for path in there.folder.iterdir() if path.is_dir()]
    assert provided(capture, Calls()) is not None, "the next one has it all"


def test_it_can_be_stopped_and_two_do_not_bring_the_same(
    capture: Path, there: CaptureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(capture, monkeypatch)
    monkeypatch.setattr("backend.engines.capture_sending.BUSY_WAIT_S", 0.0)
    entries = with_digests(capture, listed(capture), lambda: None)
    other = there.receive("Anna 1", entries)
    assert other is not None
    heeded: list[int] = []

    def heed() -> None:
        heeded.append(1)
        if len(heeded) > 40:
            raise Cancelled("the user has it stopped")

    with pytest.raises(Cancelled):
        provided(capture, Calls(), heed)
    other.close()
    assert provided(capture, Calls()) is not None


def test_the_cache_drops_what_was_not_used_for_longest(capture: Path, there: CaptureCache) -> None:
    entries = with_digests(capture, listed(capture), lambda: None)
    size = sum(entry.size for entry in entries)
    folders = {}
    for age, name in enumerate(("old", "used", "new")):
        own = [replace(entry, name=f"{name}/{entry.name}") for entry in entries]
        digest = capture_digest(name, own)
        folders[name] = there.folder / digest
        for entry in own:
            path = folders[name] / name / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((capture / entry.name.partition("/")[2]).read_bytes())
        os.utime(folders[name], (age + 1, age + 1))
    mark = there.use(folders["used"].name)
    there.kept_bytes = 2 * size
    there.make_room(size)
    assert [name for name, folder in folders.items() if folder.is_dir()] == ["used"], "in use, though older"
    mark.close()
    there.make_room(2 * size)
    assert not folders["used"].is_dir()
    with pytest.raises(EnvironmentFailed, match="no room"):
        there.make_room(2**62)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/./b", "", "C:/x", "a\\b", "a\0b", "x" * 2000], ids=lambda name: repr(name)[:12]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(BadMessage):
        entries_of(as_bytes([Entry(name, 1, 1, "0" * 64)]))


def test_damaged_listings_are_refused() -> None:
    good = Entry("a", 1, 1, "0" * 64)
    assert entries_of(as_bytes([good])) == (good,)
    for damaged in (
        b"",
        b"{",
        b"[1]",
        b'[["a"]]',
        b"[" * 100_000,
        as_bytes([good, good]),
        as_bytes([replace(good, size=-1)]),
        as_bytes([replace(good, digest="x")]),
        b'[["a", "1", 1, ""]]',
        b'[[1, 1, 1, ""]]',
        b'[["a", 1, 1, 5]]',
    ):
        with pytest.raises(BadMessage):
            entries_of(damaged)
    for name in ("../x", ".hidden", "", "a/b"):
        with pytest.raises(BadMessage):
            CaptureCache(Path("unused")).path(name, [good])


def test_what_is_not_only_its_folder_is_not_sent(capture: Path) -> None:
    assert folder_to_send(str(capture)) == capture
    assert folder_to_send("demo_head") is None, "it ships with Effigy"
    assert folder_to_send(str(capture / "nowhere")) is None
    assert folder_to_send("") is None
    (capture / "cameras.json").touch()
    (capture / "albedos").mkdir()
    assert folder_to_send(str(capture)) is None
