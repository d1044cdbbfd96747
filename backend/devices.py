"""Which device computes, and what it is called. Imports torch when asked, never on import."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared.errors import EnvironmentFailed, first_line


def resolve_device(wanted: str) -> str:
    """'cpu', 'cuda' or 'cuda:N' for what was asked; 'auto' takes CUDA where there is one. Raises EnvironmentFailed."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if kind == "cpu" and not index:
        return "cpu"
    if kind != "cuda" or (index and not index.isdecimal()):
        raise EnvironmentFailed("There is no such device", found=wanted, expected="auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise EnvironmentFailed(
            "This CUDA device is not there",
            found=f"{wanted}; torch sees {torch.cuda.device_count()}",
            do="Use --device cpu, or install the driver and a torch with CUDA",
        )
    return wanted


def device_name(device: str) -> str:
    """For people: the GPU's name, or the CPU with its threads."""
    import torch

    if device.startswith("cuda"):
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"cpu, {usable_cores()} threads"


def rasteriser_name(device: str) -> str:
    """Which implementation `rasterise` takes on this device."""
    return "gsplat" if device.startswith("cuda") else "numba"


def device_memory(device: str) -> tuple[int, int]:
    """Bytes in use and in all: of the GPU by whoever uses it, of the machine where the CPU computes."""
    import psutil
    import torch

    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return int(total - free), int(total)
    machine = psutil.virtual_memory()
    return int(machine.total - machine.available), int(machine.total)


def usable_cores() -> int:
    """Cores this process may use, which on a shared machine or in a container are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cores(count: int) -> None:
    """Let torch and numba use this many threads in this process; OMP_NUM_THREADS and NUMBA_NUM_THREADS go first."""
    import numba
    import torch

    torch.set_num_threads(max(1, min(count, int(os.environ.get("OMP_NUM_THREADS", count)))))
    numba.set_num_threads(max(1, min(count, numba.get_num_threads())))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Within it torch computes with one thread, so that equal input gives equal bytes on any number of cores.

    Its CPU kernels take the last numbers of every thread's share by other instructions than the rest (pow), or add in
    another order (products, Fourier transforms). Kernels of numba and of GPUs are not concerned.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that there is no memory left, on the device or beside it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error)


def refusal_for_want_of_memory(error: BaseException, what: str) -> EnvironmentFailed:
    """What a user is told where `what` needs more memory than there is: trying again would only fail again."""
    return EnvironmentFailed(
        f"The device has not enough memory for this {what}",
        found=first_line(error),
        do=DO_FOR_MEMORY.get(what, "Close what else uses it, then ask again"),
    )


DO_FOR_MEMORY: Mapping[str, str] = {
    "job": "Close what else uses it, or train with smaller pictures or fewer Gaussians, then resume the job",
    "live training": "Close what else uses it, or choose a smaller preset, then start another one",
}


def release_memory(device: str) -> None:
    """Hand what is not in use any more back to the device, where others may need it."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
