"""Getting into a Ray cluster. Ray is imported when asked, never on import, and only by the relays and their actors.

Whatever Ray passes on for us is a string of bytes (`packing`). Its usage statistics are off, and so is its dashboard.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.engines.placement import Demand, Machine
from shared.errors import EnvironmentFailed, first_line

NAMESPACE = "effigy"
LOCAL = "local:"
"""Before a file's path: the address stands there once the cluster of this host is up."""
LOCAL_WITHIN_S = 120.0
QUIET: Mapping[str, str] = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOOPBACK: Mapping[str, str] = {**QUIET, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Without a cluster to be part of, Ray and everything it starts take 127.0.0.1 for this host's only address."""


def require_ray() -> None:
    """Raises EnvironmentFailed where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise EnvironmentFailed(
            "The engine 'ray' needs Ray, which is not installed", do="Install it with: pip install 'effigy[ray]'"
        )


def join_cluster(address: str) -> None:
    """Connect this process. address: HOST:PORT of a cluster that this host is part of, or LOCAL and a file's path.

    Raises EnvironmentFailed.
    """
    os.environ.update(LOOPBACK if address.startswith(LOCAL) else QUIET)
    found = _local_address(Path(address.removeprefix(LOCAL))) if address.startswith(LOCAL) else address
    import ray

    try:
        ray.init(address=found, namespace=NAMESPACE, configure_logging=True, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise EnvironmentFailed(
            "The Ray cluster cannot be joined",
            found=f"{found}: {first_line(error)}",
            do="Start Ray on this host first (ray start --address HOST:PORT), with the cluster's token",
        ) from error


def machines() -> list[Machine]:
    """The nodes that are alive."""
    import ray

    return [
        Machine(node["NodeID"], float(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]


def start_actor(kind: type[Any], demand: Demand, node_id: str, *arguments: Any, at_once: int = 1) -> Any:
    """An actor's handle. node_id: where it must run; empty: where Ray finds room, as evenly as it can.

    at_once: calls that may run at the same time. Neither the actor nor a call is ever tried again by Ray (at most
    once): whoever asked knows what was asked, and asks another one.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where: Any = NodeAffinitySchedulingStrategy(node_id, soft=False) if node_id else "SPREAD"
    options = {
        "num_cpus": demand.cpus,
        "num_gpus": demand.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": at_once,
        "scheduling_strategy": where,
    }
    return ray.remote(kind).options(**options).remote(*arguments)


def threads_asked() -> int:
    """How many threads the server's user wants for each worker; 0 for all cores of wherever it runs."""
    try:
        return max(0, int(os.environ.get("OMP_NUM_THREADS", "0")))
    except ValueError:
        return 0


def prepare_process(threads: int) -> None:
    """In an actor, before it loads torch: as many threads as a worker of one host has. Ray would allow one."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _local_address(path: Path) -> str:
    until = time.monotonic() + LOCAL_WITHIN_S
    while time.monotonic() < until:
        if path.is_file() and (text := path.read_text(encoding="utf-8").strip()):
            return text
        time.sleep(0.1)
    raise EnvironmentFailed("Ray did not start on this host", found=f"no address in {path}", do="See logs/ray.log")
