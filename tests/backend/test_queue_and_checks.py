"""Latest picture wins per client and view; bad requests are refused with their reason; which addresses are allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import zmq

from backend.addresses import bind, require_loopback
from backend.checks import check_render_request
from backend.frames import MAX_VIEWS_PER_CLIENT, Asked, WaitingRequests
from backend.leases import Holder
from shared.errors import BadMessage, EffigyError, EnvironmentFailed, NotAllowed
from shared.messages import GetAvatar, ListPresets, RenderRequest
from tests.shared.samples import instance, samples

REQUEST: RenderRequest = samples()["RenderRequest"]


def asked(view: str, client: bytes = b"a", number: int = 0) -> Asked:
    return Asked("frames", client, number, dataclasses.replace(REQUEST, view=view))


def test_the_newest_of_a_view_takes_the_place_of_the_older() -> None:
    queue = WaitingRequests()
    first, other, newer = asked("v", number=1), asked("w", number=2), asked("v", number=3)
    assert queue.put(first) is None
    assert queue.put(other) is None
    assert queue.put(newer) is first
    assert [queue.take(), queue.take(), queue.take()] == [newer, other, None]


def test_views_of_other_clients_and_final_renders_are_left_alone() -> None:
    queue = WaitingRequests()
    final = asked("final frame", b"farm")
    assert queue.put(final) is None
    for number in range(50):
        queue.put(asked("viewport", b"artist", number))
    assert len(queue) == 2
    assert queue.take() is final


def test_clients_take_turns_however_many_views_one_has() -> None:
    queue = WaitingRequests()
    many = [asked(f"v{number}", b"many", number) for number in range(4)]
    for item in many:
        queue.put(item)
    taken = []
    for number in range(6):
        queue.put(asked("only", b"one", number))
        taken.append(queue.take())
    assert [item.client for item in taken if item] == [b"many", b"one"] * 3
    assert [item for item in taken if item and item.client == b"many"] == many[:3]


def test_a_process_with_two_connections_has_one_turn() -> None:
    """A Blender that draws its views and a final frame at once takes from another what one picture costs."""
    queue = WaitingRequests()

    def of(process: str, client: bytes, view: str, number: int = 0) -> Asked:
        return dataclasses.replace(asked(view, client, number), holder=Holder(process, process))

    for number in range(3):
        queue.put(of("two", b"viewport", f"v{number}"))
        queue.put(of("two", b"final", f"v{number}"))  # names of views are a connection's own
        queue.put(of("one", b"other", f"v{number}"))
    taken = [queue.take() for _ in range(9)]
    assert [item.holder.name for item in taken[:6] if item] == ["two", "one"] * 3
    assert [item.client for item in taken if item and item.holder.name == "two"] == [b"viewport", b"final"] * 3
    first = of("two", b"final", "v", 1)
    assert queue.put(first) is None
    assert queue.put(of("two", b"viewport", "v", 2)) is None
    assert queue.put(of("two", b"final", "v", 3)) is first


def test_short_requests_go_first_in_their_order() -> None:
    queue = WaitingRequests()
    detail = [Asked("control", b"a", number, GetAvatar("anna")) for number in range(3)]
    queue.put(asked("v"))
    for item in detail:
        queue.put(item)
    assert [queue.take() for _ in range(3)] == detail
    assert queue.take_all()[0].message.view == "v"
    assert len(queue) == 0


def test_long_requests_take_turns_with_pictures() -> None:
    """A slow list does not hold back a view that just found its backend, and comes all the same."""
    queue = WaitingRequests()
    lists = [Asked("control", b"a", number, ListPresets()) for number in range(2)]
    pictures = [asked(f"v{number}") for number in range(3)]
    for item in (*lists, *pictures):
        queue.put(item)
    assert [queue.take() for _ in range(5)] == [pictures[0], lists[0], pictures[1], lists[1], pictures[2]]
    queue.put(lists[0])
    assert queue.take() is lists[0]
    assert queue.take() is None


def test_a_client_cannot_fill_the_queue() -> None:
    queue = WaitingRequests()
    for number in range(MAX_VIEWS_PER_CLIENT):
        queue.put(asked(f"v{number}"))
    with pytest.raises(EffigyError, match="Too many pictures"):
        queue.put(asked("one more"))
    assert queue.put(asked("one more", b"b")) is None
    assert queue.put(asked("v3")) is not None


def changed(**change: Any) -> RenderRequest:
    return dataclasses.replace(REQUEST, **change)


def with_instance(**change: Any) -> RenderRequest:
    return changed(instances=(dataclasses.replace(instance(), **change),))


NAN = np.full((1, 3), np.nan, np.float32)
BAD: dict[str, tuple[RenderRequest, str]] = {
    "no view": (changed(view=""), "view's name"),
    "long view": (changed(view="v" * 81), "view's name"),
    "no width": (changed(width_px=0), "size is out of range"),
    "huge": (changed(height_px=20_000), "size is out of range"),
    "too many bytes": (changed(width_px=16_000, height_px=16_000, passes=("combined",)), "too large to be sent"),
    "unknown pass": (changed(passes=("colour",)), "no pass 'colour'"),
    "pass twice": (changed(passes=("mask", "mask")), "each named once"),
    "no pass": (changed(passes=()), "at least one pass"),
    "quality": (changed(quality="best"), "no quality 'best'"),
    "planes": (changed(near_m=2.0, far_m=1.0), "out of order"),
    "nobody": (changed(instances=()), "no avatar"),
    "K": (changed(K=np.eye(3)), "sub-frames"),
    "no sub-frame": (changed(K=np.zeros((0, 3, 3))), "sub-frames"),
    "cameras": (changed(world_from_camera=np.eye(4)[None].repeat(2, 0)), "world_from_camera"),
    "integer K": (changed(K=np.eye(3, dtype=np.int32)[None]), "K is not a float array"),
    "NaN": (with_instance(translations=NAN), "translations of avatar 'anna' holds numbers that are not finite"),
    "rotations": (with_instance(rotations=np.zeros((1, 9), np.float32)), "rotations of avatar 'anna'"),
    "mirrored": (with_instance(world_from_avatar=np.diag([-1.0, 1, 1, 1])[None]), "uniform scale"),
    "uneven": (with_instance(world_from_avatar=np.diag([1.0, 2, 1, 1])[None]), "uniform scale"),
    "flat": (with_instance(world_from_avatar=np.zeros((1, 4, 4))), "uniform scale"),
    "projective": (with_instance(world_from_avatar=np.vstack((np.eye(4)[:3], np.ones(4)))[None]), "uniform scale"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures_are_refused_with_the_reason(case: str) -> None:
    request, reason = BAD[case]
    with pytest.raises(BadMessage, match=reason):
        check_render_request(request)


def test_good_pictures_pass() -> None:
    check_render_request(REQUEST)
    check_render_request(with_instance(world_from_avatar=np.diag([2.0, 2, 2, 1])[None]))
    check_render_request(changed(width_px=7680, height_px=4320, passes=("combined", "depth", "mask")))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:47615", "tcp://localhost:0", "tcp://[::1]:5000", "ipc://name"])
def test_own_machine_is_allowed(address: str) -> None:
    require_loopback(address)


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5000", "tcp://*:5000", "tcp://192.168.1.7:5000", "tcp://[::]:5000"])
def test_other_machines_are_refused_with_the_way_out(address: str) -> None:
    with pytest.raises(NotAllowed, match=r"from this machine only.*SSH tunnel"):
        require_loopback(address)


@pytest.mark.parametrize(
    "address", ["", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "http://127.0.0.1:80", "ipc://"]
)
def test_no_address(address: str) -> None:
    with pytest.raises(EnvironmentFailed, match="no address to listen at"):
        require_loopback(address)


def test_a_taken_port_is_one_sentence() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as one, context.socket(zmq.ROUTER) as two:
        address = bind(one, "tcp://127.0.0.1:0")
        assert address.startswith("tcp://127.0.0.1:")
        with pytest.raises(EnvironmentFailed, match=r"port of tcp://127\.0\.0\.1:\d+ is in use.*--address"):
            bind(two, address)
