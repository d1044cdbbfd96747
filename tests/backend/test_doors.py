"""Who may talk and change what, piece by piece: lockout, leases, the key ring, the doorkeeper, the flood guard."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.addresses import beside, is_loopback
from backend.doorkeeper import Doorkeeper, Peer
from backend.flood_guard import FloodGuard
from backend.key_ring import KeyRing, ring_for
from backend.leases import LEASE_S, Holder, Leases
from backend.lockout import MAX_ADDRESSES, MAX_FAILURES, THIS_MACHINE, WINDOW_S, Lockout, address_of
from shared import wire
from shared.errors import (
    BadConfig,
    BadMessage,
    EffigyError,
    EnvironmentFailed,
    Held,
    HelloFirst,
    NotAllowed,
    NotFound,
    VersionMismatch,
)
from shared.keys import make_pair
from shared.messages import PROTOCOL_VERSION, Hello, JobInfo, Ping

ANNA, BEN = Holder("a", "Blender of anna"), Holder("b", "Blender of ben")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_ten_failures_a_minute_lock_an_address_out_and_no_other() -> None:
    clock = Clock()
    lockout = Lockout(clock)
    for _ in range(MAX_FAILURES):
        assert lockout.left_s("10.0.0.7") == 0
        lockout.failed("10.0.0.7")
        clock.now_s += 1
    assert lockout.left_s("10.0.0.7") == WINDOW_S - MAX_FAILURES
    assert lockout.left_s("10.0.0.8") == 0
    clock.now_s += WINDOW_S - MAX_FAILURES
    assert lockout.left_s("10.0.0.7") == 0
    lockout.failed("10.0.0.7")
    assert lockout.left_s("10.0.0.7") > 0  # nine of the last minute and this one


def test_slow_failures_and_many_addresses_lock_nobody_out_and_take_no_memory() -> None:
    clock = Clock()
    lockout = Lockout(clock)
    for _ in range(100):
        lockout.failed("10.0.0.7")
        clock.now_s += WINDOW_S / (MAX_FAILURES - 1)
        assert lockout.left_s("10.0.0.7") == 0
    for number in range(3 * MAX_ADDRESSES):
        lockout.failed(f"10.1.{number // 256}.{number % 256}")
    assert len(lockout._failures) == MAX_ADDRESSES


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "localhost:0:0:2805", "", "::ffff:127.0.0.1"])
def test_all_of_this_machine_is_one_address(peer: str) -> None:
    assert address_of(peer) == THIS_MACHINE


def test_another_machine_is_its_own_address() -> None:
    assert address_of("::ffff:10.0.0.7") == address_of("10.0.0.7") == "10.0.0.7"


def job(state: str = "running") -> JobInfo:
    return JobInfo("j1", "train", "Anna", state)


def test_a_job_is_its_owners_until_the_owner_has_been_gone_for_a_while() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.seen(ANNA)
    leases.give("j1", ANNA)
    clock.now_s += LEASE_S
    leases.seen(ANNA)  # any message renews it
    clock.now_s += LEASE_S
    with pytest.raises(Held, match=r"Another client holds this job .found Blender of anna.*effigy jobs take j1"):
        leases.require("j1", BEN)
    assert leases.owned(job()).owner == "Blender of anna"
    leases.require("j1", ANNA)
    clock.now_s += 0.1
    assert leases.owned(job()).owner == ""
    leases.seen(BEN)
    leases.require("j1", BEN)
    leases.seen(ANNA)
    with pytest.raises(Held, match="Blender of ben"):
        leases.require("j1", ANNA)


def test_a_job_can_be_taken_over_and_is_nobodys_once_it_is_over() -> None:
    leases = Leases(Clock())
    for holder in (ANNA, BEN):
        leases.seen(holder)
        leases.give("j1", holder)
    assert leases.owner("j1") == "Blender of ben"
    assert leases.owned(job("done")).owner == ""
    leases.require("j1", ANNA)


def test_leases_outlive_the_server_and_a_damaged_file_of_them_costs_nothing_else(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "leases.json"
    leases = Leases(clock, path)
    leases.seen(ANNA)
    for job_id in ("j1", "j2"):
        leases.give(job_id, ANNA)
    assert leases.owned(JobInfo("j2", "train", "Anna", "done")).owner == ""
    again = Leases(clock, path)
    with pytest.raises(Held, match="Blender of anna"):
        again.require("j1", BEN)
    again.require("j2", BEN)
    clock.now_s += LEASE_S + 0.1  # she did not come back
    again.require("j1", BEN)
    for content in (b"", b"[1]", b'{"j1": "a"}', b'{"j1": [1, 2, 3]}', b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        assert Leases(clock, path).owner("j1") == ""


def test_who_leaves_frees_its_own_jobs_only() -> None:
    leases = Leases(Clock())
    for holder, job_id in ((ANNA, "j1"), (ANNA, "j2"), (BEN, "j3")):
        leases.seen(holder)
        leases.give(job_id, holder)
    assert leases.release("a") == ["j1", "j2"]
    assert leases.owner("j3") == "Blender of ben"


def hello(key: str = "right", instance: str = "i1", protocol: int = PROTOCOL_VERSION, client: str = "Blender") -> Hello:
    return Hello(protocol, client, "0.1.0", key, instance)


def test_ten_wrong_keys_close_the_door_even_to_the_right_one_but_greeted_ones_stay() -> None:
    clock = Clock()
    door = Doorkeeper("right", "e1", Lockout(clock))
    first, stranger = Peer("control", b"1", "10.0.0.7"), Peer("control", b"2", "10.0.0.7")
    door.greet(first, hello())
    header = wire.open_header(wire.encode(Ping(), epoch="e1"), wire.FROM_CLIENT)
    for _ in range(MAX_FAILURES):
        with pytest.raises(NotAllowed, match="key is missing or wrong"):
            door.greet(stranger, hello("wrong"))
    for key in ("wrong", "right"):
        with pytest.raises(NotAllowed, match=r"Too many wrong keys.*10\.0\.0\.7.*again in 60 s"):
            door.greet(stranger, hello(key))
    door.require(first, header)
    door.greet(Peer("control", b"3", "10.0.0.8"), hello())
    with pytest.raises(HelloFirst):
        door.require(stranger, header)
    clock.now_s += WINDOW_S
    door.greet(stranger, hello())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (hello(protocol=PROTOCOL_VERSION - 1), VersionMismatch),
        (hello(client="x" * 300), BadMessage),
        (hello(instance="x" * 65), BadMessage),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_and_counted(said: Hello, kind: type[EffigyError]) -> None:
    door, peer = Doorkeeper("right", "e1", Lockout()), Peer("control", b"1", "10.0.0.7")
    with pytest.raises(kind) as caught:
        door.greet(peer, said)
    door.note_refusal(peer, caught.value)
    door.note_refusal(peer, NotFound("an answer, not a refusal"))
    assert door.refused == {kind.code: 1}


def test_a_process_leaves_with_its_last_connection() -> None:
    door = Doorkeeper("", "e1", Lockout())
    peers = [Peer("control", bytes([number]), "127.0.0.1") for number in (1, 2)]
    holder, _ = (door.greet(peer, hello("")) for peer in peers)
    door.leases.give("j1", holder)
    assert door.leave(peers[0]) == []
    assert door.leave(peers[1]) == ["j1"]


def test_the_key_ring_lets_in_who_was_added_until_removed(tmp_path: Path) -> None:
    ring, elsewhere = KeyRing(tmp_path), KeyRing(tmp_path)  # the server's, and that of a command
    anna, ben = make_pair().public, make_pair().public
    assert ring.name_of(anna) == ""
    elsewhere.add("anna", anna)
    assert ring.name_of(anna) == "anna"
    elsewhere.add("anna", anna)
    with pytest.raises(BadConfig, match="with another key"):
        ring.add("anna", ben)
    with pytest.raises(BadConfig, match="known by another name"):
        ring.add("ben", anna)
    with pytest.raises(BadConfig, match="no name"):
        ring.add("../ben", ben)
    with pytest.raises(NotFound, match="did you mean 'anna'"):
        ring.remove("ana")
    ring.remove("anna")
    assert elsewhere.name_of(anna) == ""
    assert ring.pair() == elsewhere.pair() != ring.renew()


def test_other_machines_need_keys_first_and_this_one_does_not(tmp_path: Path) -> None:
    assert ring_for(tmp_path, "tcp://127.0.0.1:0", encrypt=False) is None
    for address, encrypt in (("tcp://0.0.0.0:47615", False), ("tcp://[::]:1", False), ("tcp://127.0.0.1:1", True)):
        with pytest.raises(NotAllowed, match=r"has no keys yet.*effigy keys make"):
            ring_for(tmp_path, address, encrypt=encrypt)
    ring = KeyRing(tmp_path)
    ring.pair()
    with pytest.raises(NotAllowed, match="knows no clients yet"):
        ring_for(tmp_path, "tcp://*:47615", encrypt=False)
    ring.add("anna", make_pair().public)
    assert ring_for(tmp_path, "tcp://*:47615", encrypt=False) is not None


def test_a_damaged_list_of_clients_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    path.touch(0o600)
    path.write_text('{"anna": "short"}')
    with pytest.raises(BadConfig, match=r"list of clients is damaged.*anna"):
        KeyRing(tmp_path).clients()


def test_frames_and_events_stand_beside_the_control_port() -> None:
    assert beside("tcp://0.0.0.0:47615", 1) == "tcp://0.0.0.0:47616"
    assert beside("tcp://[::1]:47615", 2) == "tcp://[::1]:47617"
    assert beside("tcp://*:0", 2) == "tcp://*:0"
    with pytest.raises(EnvironmentFailed, match="two ports after"):
        beside("tcp://0.0.0.0:65534", 2)
    assert not is_loopback("tcp://eth0:5000")


def test_the_flood_guard_looks_at_growth_only() -> None:
    size = [5_000]
    guard = FloodGuard(1_000, lambda: size[0])
    assert not guard.flooded()
    size[0] = 6_001
    guard._look_at_s = 0.0
    assert guard.flooded()
