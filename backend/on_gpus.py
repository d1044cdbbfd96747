"""A training on several GPUs: torchrun as a child process, a process a GPU, and what they say as if it were done here.

Ctrl-C reaches this process only; it asks them to pause. Should this process end, however that comes, so do they. Where
one of them ends by itself torchrun ends the others.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import backend
from backend.rank_orders import Order, config_of
from backend.training_run import check_number
from shared.errors import BadConfig, EnvironmentFailed, WorkerFailed
from shared.messages import Failure

if TYPE_CHECKING:
    from avatars.training.progress import TrainResult

LOG = "gpus.log"
LOOK_EVERY_S = 0.1
END_S = 3.0
"""Given to torchrun and its processes to end when they are told to. By force is no worse: checkpoints are whole."""
ENDED = re.compile(r"rank\s*:\s*(\d+) .*\n\s*exitcode\s*:\s*(-?\d+)")


class RankLost(WorkerFailed):
    """A process of the training ended by itself. Its last checkpoint stays; the same training goes on from there."""


def check_gpus(count: int, device: str) -> None:
    """Raises BadConfig for a number that makes no sense, EnvironmentFailed where there are fewer GPUs here."""
    check_number(count)
    if count == 1:
        return
    if ":" in device:
        raise BadConfig(
            "Several GPUs are asked for, but one is named",
            found=f"{count} and {device}",
            do="Leave the device out; CUDA_VISIBLE_DEVICES says which GPUs there are",
        )
    import torch
    import torch.distributed

    if not torch.distributed.is_available():
        raise EnvironmentFailed("This torch cannot train on several GPUs", do="Train on one, or install another torch")
    there = torch.cuda.device_count() if device.startswith("cuda") else count
    if there < count:
        raise EnvironmentFailed(
            f"There are not {count} GPUs here",
            found=f"{there}",
            do=f"Train on {there}" if there else "Train without --gpus",
        )


def run_on_gpus(
    order: Order,
    gpus: int,
    folder: Path,
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    module: str = "backend.rank_worker",
) -> TrainResult:
    """`rank_orders.obey` on so many GPUs (device cuda), or in as many processes (device cpu).

    Begins again with half the batch where a device's memory is too small. Raises RankLost where a process ended by
    itself, and what the training raises.
    """
    from avatars.methods import find_trainer
    from avatars.training.progress import Progress
    from avatars.training.ranks import batch_of
    from avatars.training.room import smaller_batch

    check_gpus(gpus, device)
    config = config_of(order)
    plan, splits = config.schedule, getattr(find_trainer(config.method), "splits_rays", False)
    limit = 0
    while True:
        with _Ranks(order, gpus, folder, device, limit, module) as running:
            result, failure = running.followed(on_event, wanted)
        if result is not None:
            return result
        if failure is None or failure.code != "short_of_memory":
            raise failure.error() if failure is not None else running.lost()
        together = plan.views if splits else plan.views * gpus
        limit = smaller_batch(limit or batch_of(plan, splits=splits, several=gpus), together)
        on_event(Progress(0, plan.images, message=f"A device was out of memory; batches of {limit} from here on"))


class _Ranks:
    """torchrun and its processes, and the folder where they are told what to do and leave why they failed."""

    def __init__(self, order: Order, gpus: int, folder: Path, device: str, batch: int, module: str) -> None:
        self.gpus, self.log_path = gpus, folder / LOG
        folder.mkdir(parents=True, exist_ok=True)
        self.kept = tempfile.TemporaryDirectory(prefix="effigy-ranks-")
        place = Path(self.kept.name)
        (place / "order.json").write_text(json.dumps(asdict(order)), encoding="utf-8")
        kind = device.partition(":")[0]
        command = [*torchrun(gpus), "-m", module, "--order", str(place / "order.json"), "--folder", str(folder)]
        command += ["--kind", kind, "--batch", str(batch)]
        with self.log_path.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=ranks_environment(gpus),
                start_new_session=True,
            )
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.reader = threading.Thread(target=self._read, name="ranks", daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def followed(self, on_event: Callable[[Any], None], wanted: Callable[[], str]) -> tuple[TrainResult | None, Any]:
        """Pass on what they tell and what is wanted of them until they end: what came of it, or why nothing did."""
        result, asked = None, ""
        while self.process.poll() is None or self.reader.is_alive() or not self.lines.empty():
            if (now := wanted()) != asked:
                asked = now
                self._say(now)
            try:
                document = json.loads(self.lines.get(timeout=LOOK_EVERY_S))
            except queue.Empty:
                continue
            except ValueError:
                continue  # printed by something else
            if "progress" in document:
                on_event(_progress(document["progress"]))
            elif "result" in document:
                result = _result(document["result"])
        if result is not None and self.process.returncode == 0:
            return result, None
        return None, self._failure()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{word}\n".encode())
            self.process.stdin.flush()

    def _failure(self) -> Failure | None:
        try:
            return Failure(**json.loads((Path(self.kept.name) / "failure.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def lost(self) -> RankLost:
        """One that ended without a word, as far as torchrun's log says."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self.log_start)
                text = log.read().decode("utf-8", "replace")
        except OSError:
            text = ""
        ends = [(int(number), int(status)) for number, status in ENDED.findall(text)]
        number, status = ends[-1] if ends else (-1, self.process.returncode)
        who = f"process {number + 1} of {self.gpus}" if ends else "torchrun"
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return RankLost(
            "A process of the training ended by itself",
            found=f"{who}, {how}",
            do=f"The same training goes on from its last checkpoint; its log is {self.log_path}",
        )

    def __enter__(self) -> _Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever still runs: first by the end of standard input, then by force."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        until = time.monotonic() + (0.5 if self.process.poll() is None else 0)
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
        if self.process.poll() is None:
            self.process.kill()  # its processes go with it (tie_to_parent)
            self.process.wait()
        self.reader.join(END_S)
        self.kept.cleanup()


def torchrun(count: int) -> tuple[str, ...]:
    """The beginning of a command that starts so many processes of a module on this machine."""
    return (sys.executable, "-m", "backend.torchrun", "--standalone", "--nproc-per-node", str(count))


def ranks_environment(count: int) -> dict[str, str]:
    """For torchrun and what it starts: ours, with a share of the cores each."""
    from backend.devices import usable_cores

    root = str(Path(backend.__file__).resolve().parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "OMP_NUM_THREADS": str(max(1, usable_cores() // count)),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ else {}),
    }


def _result(values: dict[str, Any]) -> TrainResult:
    """What `rank_worker` packed."""
    from avatars.training.progress import TrainResult

    folders = Path(values["avatar_folder"]), Path(values["report_folder"])
    return TrainResult(*folders, values["metrics"], values["state"])


def _progress(values: dict[str, Any]) -> Any:
    """What `rank_worker` packed."""
    from avatars.training.progress import Progress

    shape, pixels = values.pop("shape", None), values.pop("pixels", None)
    told = Progress(**values)
    if shape is None:
        return told
    return replace(told, preview=np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(shape))
