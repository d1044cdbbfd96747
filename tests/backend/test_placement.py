"""Who of a cluster does what, and what travels there: pure functions, damaged parcels, a machine's cache of avatars."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from avatars.avatar_folder import DESCRIPTION, LABEL, WEIGHTS, avatar_digest
from avatars.files import write_seal
from avatars.training import loop
from avatars.training.checkpoint_files import NOTES, TENSORS
from backend.cli import main
from backend.engines import checkpoint_copies
from backend.engines.choosing import add_engine_options, chosen_engine
from backend.engines.local import LocalEngine
from backend.engines.node_cache import NodeCache, avatar_parcel
from backend.engines.packing import pack, pack_folder, unpack, write_parcel
from backend.engines.placement import Candidate, Demand, Machine, Seat, Shares, choose, seats, training_demand
from backend.engines.ray_actors import RenderActor
from backend.engines.ray_train_actor import clear_left_behind
from backend.home import open_home
from backend.library import Library
from backend.rendering import Studio
from shared import wire
from shared.errors import BadAvatar, BadConfig, BadMessage, NotFound
from shared.messages import Failure, FrameReply, RenderRequest
from tests.backend.test_ray_cluster import film

GPUS = (Machine("b", 16, 2), Machine("a", 8, 0), Machine("c", 32, 1))
CORES = (Machine("a", 8, 0), Machine("b", 4, 0), Machine("head", 0, 0))
GIB = 1024**3


# --- seats and trainings ----------------------------------------------------------------------------------------------
def test_a_seat_on_each_gpu_and_none_beside_them() -> None:
    third = Demand(0.0, 0.3)
    assert seats(GPUS, Shares(0.3), "auto") == (Seat("b", 0, third), Seat("b", 1, third), Seat("c", 0, third))
    assert [seat.node_id for seat in seats(GPUS, Shares(), "cpu")] == ["a", "b", "c"]


def test_without_gpus_a_seat_on_each_machine_that_lends_cores() -> None:
    assert seats(CORES, Shares(0.25), "auto") == (Seat("a", 0, Demand(2.0, 0.0)), Seat("b", 0, Demand(1.0, 0.0)))
    assert seats(CORES, Shares(), "cuda") == ()
    assert seats((), Shares(), "auto") == ()


@pytest.mark.parametrize(
    ("machines", "device", "gpus", "expected"),
    [
        (GPUS, "auto", 1, Demand(0.0, 0.75)),
        (GPUS, "auto", 2, Demand(0.0, 2.0)),
        (GPUS, "auto", 3, None),
        (GPUS, "cpu", 1, Demand(6.0, 0.0)),
        (CORES, "auto", 1, Demand(3.0, 0.0)),
        (CORES, "cuda", 1, None),
        ((), "auto", 1, None),
    ],
    ids=["share", "two", "too many", "cores", "smallest", "no gpu", "nobody"],
)
def test_a_training_asks_for_its_share(
    machines: tuple[Machine, ...], device: str, gpus: int, expected: Demand | None
) -> None:
    assert training_demand(machines, Shares(), device, gpus) == expected


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_a_picture_goes_where_its_avatars_are() -> None:
    away = Candidate("1", True, 9 * GIB)
    disk = Candidate("2", True, 2 * GIB, stored=frozenset("x"))
    memory = Candidate("3", True, GIB, loaded=frozenset("x"))
    busy = Candidate("4", False, 9 * GIB, loaded=frozenset("x"))
    avatars = {"x": 10**6}
    assert choose(avatars, [away, disk, memory, busy]) == "3"
    assert choose(avatars, [away, disk, busy]) == "2"
    assert choose(avatars, [away, busy]) == "1", "who is free need not wait for who has it"
    assert choose(avatars, [busy]) is None
    assert choose(avatars, []) is None


def test_a_picture_goes_where_memory_is() -> None:
    little, much = Candidate("1", True, GIB, stored=frozenset("x")), Candidate("2", True, 8 * GIB)
    assert choose({"x": GIB}, [little, much]) == "2", "it would not fit into the memory of the first"
    assert choose({"x": GIB // 8}, [little, much]) == "1", "it fits, and is on the disk there"
    assert choose({"x": 9 * GIB}, [little, much]) == "1", "it fits nowhere: where it is on the disk"
    assert choose({}, [little, much]) == "2", "nothing to load: the most free memory"
    first, second = Candidate("1", True, GIB, frozenset("x")), Candidate("2", True, GIB, frozenset("y"))
    assert choose({"x": 1, "y": 5}, [first, second]) == "2", "the smaller one is to be read"
    assert choose({}, [Candidate("b", True, GIB), Candidate("a", True, GIB)]) == "a", "the same twice"


# --- what travels -----------------------------------------------------------------------------------------------------
def test_bundles_come_back_and_damaged_ones_are_refused() -> None:
    parts = [b"head", b"", bytes(range(256))]
    bundle = pack(parts)
    assert [bytes(part) for part in unpack(bundle)] == parts
    for cut in range(len(bundle)):
        with pytest.raises(BadMessage):
            unpack(bundle[:cut])
    with pytest.raises(BadMessage):
        unpack(bundle + b"!")
    with pytest.raises(BadMessage):
        unpack(b"\xff" * 40)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../b", ".hidden", "", "a\\b", 7])
def test_parcels_lead_nowhere_else(tmp_path: Path, name: object) -> None:
    with pytest.raises(BadMessage):
        write_parcel(pack([json.dumps([name]).encode(), b"x"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_parcels_hold_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "one.txt").write_text("1")
    (tmp_path / "a" / "deep" / "two.bin").write_bytes(b"2" * 1000)
    (tmp_path / "b").mkdir()
    write_parcel(pack_folder(tmp_path / "a"), tmp_path / "b")
    assert pack_folder(tmp_path / "b") == pack_folder(tmp_path / "a")
    for wrong in ([b"[]", b"x"], [b'["a", "a"]', b"x", b"y"], [b"{", b"x"], []):
        with pytest.raises(BadMessage):
            write_parcel(pack(wrong), tmp_path / "b")


# --- a machine's cache ------------------------------------------------------------------------------------------------
def test_a_machine_keeps_what_it_was_sent_by_digest(tmp_path: Path, avatar_folder: Path) -> None:
    cache, digest = NodeCache(tmp_path / "cache"), avatar_digest(avatar_folder)
    assert cache.digests() == frozenset()
    with pytest.raises(NotFound, match=digest[:12]):
        cache.path(digest)
    cache.keep(digest, avatar_parcel(avatar_folder))
    cache.keep(digest, b"not even read: it is here")
    assert cache.digests() == {digest}
    assert avatar_digest(cache.path(digest)) == digest
    assert not (cache.path(digest) / LABEL).exists()


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_what_arrives_damaged_is_not_kept(tmp_path: Path, avatar_folder: Path, name: str) -> None:
    cache, digest = NodeCache(tmp_path / "cache"), avatar_digest(avatar_folder)
    shutil.copytree(avatar_folder, tmp_path / "bad.avatar")
    content = bytearray((avatar_folder / name).read_bytes())
    content[-20] ^= 1
    (tmp_path / "bad.avatar" / name).write_bytes(content)
    with pytest.raises(BadAvatar):
        cache.keep(digest, avatar_parcel(tmp_path / "bad.avatar"))
    with pytest.raises(BadAvatar, match="announced"):
        cache.keep("0" * 64, avatar_parcel(avatar_folder))
    with pytest.raises(BadAvatar):
        cache.keep("../up", avatar_parcel(avatar_folder))
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_lets_go_of_what_was_not_used_for_longest(tmp_path: Path, avatar_folder: Path) -> None:
    cache = NodeCache(tmp_path / "cache", kept_bytes=1)
    (tmp_path / "cache" / ("0" * 64)).mkdir(parents=True)
    (tmp_path / "cache" / ("0" * 64) / "old").write_bytes(b"x" * 10)
    digest = avatar_digest(avatar_folder)
    cache.keep(digest, avatar_parcel(avatar_folder))
    assert cache.digests() == {digest}, "the newest stays, however large"


# --- checkpoints on their way -----------------------------------------------------------------------------------------
def written(folder: Path, images: int, weights: bytes = b"weights") -> Path:
    """Something whose digests are in order, as a checkpoint's are."""
    place = folder / checkpoint_copies.FOLDER / f"images_{images:010d}"
    place.mkdir(parents=True)
    (place / TENSORS).write_bytes(weights)
    (place / NOTES).write_text(json.dumps({"sha256": hashlib.sha256(weights).hexdigest()}))
    write_seal(place / NOTES)
    return place


def test_checkpoints_arrive_whole_or_not_at_all(tmp_path: Path) -> None:
    assert checkpoint_copies.FOLDER == loop.CHECKPOINTS
    there, here = tmp_path / "there", tmp_path / "here"
    for images in (8, 16, 24):
        written(there, images, bytes([images]))
        name = checkpoint_copies.newest_name(there)
        assert checkpoint_copies.put(here, checkpoint_copies.packed(there, name)) == name
    kept = sorted(path.name for path in (here / checkpoint_copies.FOLDER).iterdir())
    assert kept == ["images_0000000016", "images_0000000024"]
    bundle = checkpoint_copies.newest_packed(here)
    for place in range(0, len(bundle), 7):
        damaged = bytes([*bundle[:place], bundle[place] ^ 0x55, *bundle[place + 1 :]])
        assert checkpoint_copies.put(tmp_path / "third", damaged) == ""
        assert checkpoint_copies.newest_packed(tmp_path / "third") == b""
    (here / checkpoint_copies.FOLDER / "images_0000000024" / TENSORS).write_bytes(b"else")
    assert bytes(unpack(checkpoint_copies.newest_packed(here))[0]) == b"images_0000000016", "the older is intact"
    assert checkpoint_copies.packed(here, "../x") == b""


# --- the actor, called as Ray calls it --------------------------------------------------------------------------------
def test_an_actor_draws_the_same_bytes_as_the_one_host(
    tmp_path: Path, avatar_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_NODE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "library").mkdir()
    shutil.copytree(avatar_folder, tmp_path / "library" / "anna.avatar")
    studio = Studio(Library(tmp_path / "library"), "cpu")
    request: RenderRequest = film(studio.detail("anna"))[3]
    digest = avatar_digest(avatar_folder)
    actor = RenderActor("cpu", 1)
    facts = json.loads(bytes(unpack(actor.ready())[0]))
    assert (facts["loaded"], facts["stored"]) == ([], [])
    bundle = pack([json.dumps({"key": "k", "avatars": {"anna": digest}}).encode(), *wire.encode(request)])
    (head,) = unpack(actor.ask(bundle))
    assert json.loads(bytes(head))["stored"] == [], "it says that it has not been sent the avatar"
    actor.keep(digest, b"damaged")
    _, *parts = unpack(actor.ask(bundle))
    failure = wire.decode(parts, limits=wire.FROM_SERVER).message
    assert isinstance(failure, Failure)
    actor.keep(digest, avatar_parcel(avatar_folder))
    answers = []
    for _ in range(2):
        head, *parts = unpack(actor.ask(bundle))
        reply = wire.decode(parts, limits=wire.FROM_SERVER).message
        assert isinstance(reply, FrameReply)
        answers.append(reply.images[0].tobytes())
    note = json.loads(bytes(head))
    assert (note["key"], note["loaded"], note["stored"]) == ("k", [digest], [digest])
    assert answers == [studio.render(request).images[0].tobytes()] * 2


def test_folders_of_trainings_that_were_ended_from_outside_are_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left, used, other = (tmp_path / f"effigy-train-{name}" for name in (f"{gone.pid}-ab_1", f"{os.getpid()}-ab", "x"))
    for folder in (left, used, other):
        folder.mkdir()
    clear_left_behind()
    assert sorted(tmp_path.iterdir()) == sorted((used, other))


# --- choosing ---------------------------------------------------------------------------------------------------------
def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    add_engine_options(parser)
    return parser.parse_args(words)


def test_one_host_needs_no_ray_and_shares_are_checked(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    assert isinstance(chosen_engine(options(), home), LocalEngine)
    for words in (("--render-share", "0"), ("--train-share", "1.5"), ("--trainings", "0")):
        with pytest.raises(BadConfig, match=words[0]):
            chosen_engine(options("--engine", "ray", *words), home)


def test_without_ray_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["serve", "--engine", "ray", "--home", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "Ray, which is not installed" in told
    assert "pip install 'effigy[ray]'" in told
    assert len(told.strip().splitlines()) == 1
