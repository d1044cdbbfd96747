"""Who of a cluster does what: pure functions of what is known of its machines.

Seats are where render workers sit: one on each GPU, or on each machine where no machine has a GPU (pictures of one
device kind are equal to the bit, so kinds are never mixed). A picture goes to the free worker that has its avatars in
memory, else to one whose machine has them on disk, else to the one with the most free memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOADED_BYTES_PER_FILE_BYTE = 3
"""An avatar in memory beside its file: weights, what is derived from them, and what a picture of it needs."""


@dataclass(frozen=True)
class Machine:
    """A node of the cluster. cpus, gpus: what it lends to Ray."""

    node_id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Shares:
    """How much of a GPU (of a machine's cores, where there is none) one worker takes, 0 to 1."""

    render: float = 0.25
    train: float = 0.75


@dataclass(frozen=True)
class Demand:
    """What one worker asks Ray for."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Seat:
    """Where one render worker sits: the machine, and which of its workers it is."""

    node_id: str
    index: int
    demand: Demand


@dataclass(frozen=True)
class Candidate:
    """A render worker as placement sees it. loaded: digests of avatars in its memory; stored: on its machine's disk.

    free_bytes: of the memory it loads avatars into.
    """

    name: str
    free: bool
    free_bytes: int
    loaded: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()


def wants_gpus(machines: Sequence[Machine], device: str) -> bool:
    """Whether workers compute on GPUs. device: 'cpu', 'cuda', or 'auto' for GPUs where any machine has one."""
    return device.startswith("cuda") or (device == "auto" and any(machine.gpus >= 1 for machine in machines))


def seats(machines: Sequence[Machine], shares: Shares, device: str) -> tuple[Seat, ...]:
    """Every seat for a render worker, in order of machines."""
    found: list[Seat] = []
    for machine in sorted(machines, key=lambda machine: machine.node_id):
        if wants_gpus(machines, device):
            demand = Demand(0.0, shares.render)
            found += [Seat(machine.node_id, index, demand) for index in range(int(machine.gpus))]
        elif machine.cpus > 0:
            found.append(Seat(machine.node_id, 0, Demand(shares.render * machine.cpus, 0.0)))
    return tuple(found)


def training_demand(machines: Sequence[Machine], shares: Shares, device: str, gpus: int = 1) -> Demand | None:
    """What a training asks for: its share of a GPU, else of the smallest machine's cores; None where none can do it.

    gpus: more than one are whole ones of one machine.
    """
    if wants_gpus(machines, device):
        asked = shares.train if gpus == 1 else float(gpus)
        return Demand(0.0, asked) if any(machine.gpus >= gpus for machine in machines) else None
    cores = [machine.cpus for machine in machines if machine.cpus > 0]
    return Demand(shares.train * min(cores), 0.0) if cores else None


def choose(avatars: Mapping[str, int], candidates: Sequence[Candidate]) -> str | None:
    """The free worker that a picture of these avatars (digest -> bytes of the file) should go to; None where none is.

    First those with room for what is not loaded yet, among them the one that has to read least, then the one that has
    to be sent least, then the one with the most free memory. Where none has room the last rules decide alone: a worker
    whose memory is full lets go of other avatars and tries again.
    """
    free = [candidate for candidate in candidates if candidate.free]
    if not free:
        return None

    def cost(candidate: Candidate) -> tuple[bool, int, int, int, str]:
        to_load = sum(size for digest, size in avatars.items() if digest not in candidate.loaded)
        there = candidate.loaded | candidate.stored
        to_send = sum(size for digest, size in avatars.items() if digest not in there)
        crowded = to_load * LOADED_BYTES_PER_FILE_BYTE > candidate.free_bytes
        return crowded, to_load, to_send, -candidate.free_bytes, candidate.name

    return min(free, key=cost).name
