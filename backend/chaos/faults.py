"""The table of faults: what is done to the server, its workers, its clients, its files and its disk."""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import psutil
import zmq

from backend.chaos.scene import LEARNING, PICTURES, REFERENCE, Scene
from backend.chaos.traffic import read_plan
from shared import wire
from shared.errors import EffigyError
from shared.messages import PROTOCOL_VERSION, Hello, ListAvatars
from shared.sockets import CONTROL_BYTES

RENDER, TRAIN = "backend.render_worker", "backend.train_worker"
BROKEN = "broken"
BOTH = (PICTURES, LEARNING)
DISK_FULL_S, DEAF_S = 2.5, 2.0
SMALL_FILE_BYTES = 2_000


@dataclass(frozen=True)
class Fault:
    """act: does it, and says what came of it where that is not as it must be, else ''; returns None where there was
    nothing to do it to (then it does not count). weight: how often, beside the others. ends: what begins anew after
    it, of PICTURES and LEARNING."""

    act: Callable[[Scene, random.Random], str | None]
    weight: int
    what: str
    ends: tuple[str, ...] = ()


# --- processes -------------------------------------------------------------------------------------------------------
def _kill_worker(module: str) -> Callable[[Scene, random.Random], str | None]:
    def act(scene: Scene, chosen: random.Random) -> str | None:
        return _signalled(scene.workers(module), signal.SIGKILL)

    return act


def _stop_worker(scene: Scene, chosen: random.Random) -> str | None:
    found = scene.workers(RENDER)
    told = _signalled(found, signal.SIGSTOP)
    time.sleep(chosen.uniform(0.5, 2.0))
    _signalled(found, signal.SIGCONT)
    return told


def _kill_server(scene: Scene, chosen: random.Random) -> str | None:
    scene.server.process.kill()
    scene.server.process.wait()
    time.sleep(chosen.uniform(0.0, 1.0))
    scene.start_again()
    return ""


def _kill_server_with_torn_journal(scene: Scene, chosen: random.Random) -> str | None:
    """As the machine's end while a line was being written."""
    scene.server.process.kill()
    scene.server.process.wait()
    with (scene.home.jobs / "journal.jsonl").open("ab") as file:
        file.write(b'{"at": "2026-01-01T00:00:00+00:00", "job_id": "torn'[: chosen.randrange(1, 50)])
    scene.start_again()
    return ""


def _restart_server(scene: Scene, chosen: random.Random) -> str | None:
    scene.server.stop()
    scene.start_again()
    return ""


def _stop_server(scene: Scene, chosen: random.Random) -> str | None:
    process = psutil.Process(scene.server.process.pid)
    process.suspend()
    time.sleep(chosen.uniform(0.5, 4.0))  # beyond the heartbeats' 3 s, too
    process.resume()
    return ""


def _kill_client(scene: Scene, chosen: random.Random) -> str | None:
    one = chosen.choice(scene.traffic)
    one.expected_end = True
    one.process.kill()
    one.process.wait()
    scene.traffic.remove(one)
    counts = dict(one.counts)
    counts["asked"] = counts.get("answered", 0) + counts.get("lost", 0)  # what it waited for is nobody's any more
    scene.gone.append(counts)
    scene.start_client(one.name)
    return ""


# --- the wire --------------------------------------------------------------------------------------------------------
def _garbage(scene: Scene, chosen: random.Random) -> str | None:
    host, port = scene.address.removeprefix("tcp://").rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=2) as raw:
        raw.sendall(chosen.choice((b"GET / HTTP/1.1\r\n\r\n", chosen.randbytes(chosen.randrange(1, 4000)))))
    return ""


def _malformed(scene: Scene, chosen: random.Random) -> str | None:
    with _stranger(scene) as stranger:
        for _ in range(20):
            parts = [chosen.randbytes(chosen.randrange(80)) for _ in range(chosen.randrange(1, 6))]
            _send(stranger, parts)
        # No Hello: one with a changed key would count as a wrong key, and those lock the address out.
        whole = wire.encode(ListAvatars(), request_id=1, epoch="0" * 32)
        header = bytearray(bytes(whole[0]))
        for _ in range(20):
            header[chosen.randrange(len(header))] = chosen.randrange(256)
            _send(stranger, [bytes(header), *whole[1:]])
        return _refusals(stranger)


def _many_parts(scene: Scene, chosen: random.Random) -> str | None:
    with _stranger(scene) as stranger:
        for _ in range(5):
            _send(stranger, [b"{}", *[bytes(20_000)] * (wire.FROM_CLIENT.parts + 1)])
        return _refusals(stranger)


def _oversized(scene: Scene, chosen: random.Random) -> str | None:
    with _stranger(scene) as stranger:
        _send(stranger, [bytes(CONTROL_BYTES + 1)])
        stranger.poll(300)
    return ""


def _wrong_epoch(scene: Scene, chosen: random.Random) -> str | None:
    """A request meant for another server must not be carried out."""
    with _stranger(scene) as stranger:
        _send(stranger, wire.encode(ListAvatars(), request_id=1, epoch="0" * 32))
        return _refusals(stranger)


def _slow_reader(scene: Scene, chosen: random.Random) -> str | None:
    """Asks for many pictures and reads none."""
    try:
        with scene.client("slow") as client:
            frames, epoch = client.connect().frames_address, client.connect().epoch
    except EffigyError:
        return None
    with _stranger(scene, frames) as stranger:
        _send(stranger, wire.encode(Hello(PROTOCOL_VERSION, "slow", "0", scene.key), request_id=1))
        shot = read_plan(scene.plan)[0]
        for number in range(40):
            _send(stranger, wire.encode(shot.request(f"slow {number}"), request_id=2 + number, epoch=epoch))
        time.sleep(DEAF_S)
    return ""


# --- files and the disk ----------------------------------------------------------------------------------------------
def _corrupt_avatar(scene: Scene, chosen: random.Random) -> str | None:
    """A damaged avatar beside the good ones: it must be refused with a reason, and be nobody else's trouble.

    Not the reference's copy: a worker that has an avatar of that digest in memory need not read it again.
    """
    others = sorted(path for path in scene.home.library.glob("*.avatar") if path.stem not in (REFERENCE, BROKEN))
    if not others:
        return None
    place, beside = scene.home.library / f"{BROKEN}.avatar", scene.folder / "damaged"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(chosen.choice(others), beside)
    _flip(beside / "weights.safetensors", chosen)
    beside.rename(place)
    try:
        shot = replace(read_plan(scene.plan)[0], avatar_id=BROKEN)
        with scene.client("broken") as client:
            client.render(shot.request("broken"), timeout_s=20.0)
        return "a damaged avatar was rendered"
    except EffigyError:
        return ""
    finally:
        shutil.rmtree(place)


def _corrupt_checkpoint(scene: Scene, chosen: random.Random) -> str | None:
    """The newest of two checkpoints is damaged and its worker killed: it must go on from the other one."""
    kept = sorted(path for path in scene.home.jobs.glob("*/checkpoints/images_*") if path.is_dir())
    running = scene.workers(TRAIN)
    if not running or len(kept) < 2 or kept[-1].parent != kept[-2].parent:
        return None
    _signalled(running, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):  # the worker has just left it behind
        _flip(kept[-1] / "state.safetensors", chosen)
    return ""


def _disk_full(scene: Scene, chosen: random.Random) -> str | None:
    """Nothing of more than 2 kB can be written by the training for a while."""
    found = scene.workers(TRAIN)
    if not found:
        return None
    with contextlib.suppress(psutil.Error, OSError):
        _, hard = resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE)
        resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES, hard))
        time.sleep(DISK_FULL_S)
        resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE, (hard, hard))
    return ""


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "render worker killed": Fault(_kill_worker(RENDER), 3, "SIGKILL", (PICTURES,)),
        "train worker killed": Fault(
            _kill_worker(TRAIN), 3, "SIGKILL at any moment, in a checkpoint as well", (LEARNING,)
        ),
        "render worker frozen": Fault(_stop_worker, 2, "SIGSTOP for up to 2 s"),
        "server killed": Fault(_kill_server, 2, "SIGKILL, started again at its address", BOTH),
        "server killed, journal torn": Fault(_kill_server_with_torn_journal, 1, "half a line at the end", BOTH),
        "server restarted": Fault(_restart_server, 1, "SIGTERM, started again", BOTH),
        "server frozen": Fault(_stop_server, 1, "SIGSTOP for up to 4 s"),
        "client killed": Fault(_kill_client, 2, "SIGKILL, another takes its place"),
        "garbage on the port": Fault(_garbage, 4, "bytes that are no ZeroMQ"),
        "malformed messages": Fault(_malformed, 4, "random parts, and a good header with bytes changed"),
        "too many parts": Fault(_many_parts, 3, "one more than allowed"),
        "oversized part": Fault(_oversized, 3, "beyond the socket's limit"),
        "request of another server": Fault(_wrong_epoch, 3, "another epoch"),
        "slow reader": Fault(_slow_reader, 2, "40 requests, no answer read"),
        "damaged avatar": Fault(_corrupt_avatar, 2, "a bit of its weights"),
        "damaged checkpoint": Fault(_corrupt_checkpoint, 2, "a bit of the newest one, its worker killed", (LEARNING,)),
        "full disk": Fault(_disk_full, 2, "nothing above 2 kB can be written"),
    }
)
"""Name -> what is done. All of them work on Linux; a run elsewhere is refused."""


def _signalled(processes: list[psutil.Process], number: int) -> str | None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    return "" if processes else None


def _flip(path: Path, chosen: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    path.write_bytes(content)


@contextlib.contextmanager
def _stranger(scene: Scene, address: str = "") -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVHWM, 1)
        made.connect(address or scene.address)
        yield made


def _send(stranger: zmq.Socket[bytes], parts: Sequence[wire.Part]) -> None:
    if stranger.poll(2_000, zmq.POLLOUT):
        stranger.send_multipart(parts, zmq.NOBLOCK)


def _refusals(stranger: zmq.Socket[bytes]) -> str:
    """What was answered with something else than a refusal."""
    while stranger.poll(300):
        answer = wire.decode(stranger.recv_multipart(), limits=wire.FROM_SERVER)
        if type(answer.message).__name__ not in ("Failure", "Welcome"):
            return f"nonsense was answered with a {type(answer.message).__name__}"
    return ""
