"""A real Slurm of this machine alone: munged, slurmctld and slurmd from Debian's packages, in a folder, on free ports.

Runs as any user, without cgroups, so also inside containers. One node with two task slots.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
SBIN = "/usr/sbin"
START_S = 30.0

CONF = """ClusterName=effigy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=1
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 Port={d_port} CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no Slurm can run here; empty where it can."""
    lacking = [name for name in PROGRAMS if program(name) is None]
    return f"no {', '.join(lacking)} here (Debian packages: slurmctld slurmd slurm-client munge)" if lacking else ""


def program(name: str) -> str | None:
    """Its path; Debian's servers are not on every PATH."""
    return shutil.which(name) or shutil.which(name, path=SBIN)


@dataclass(frozen=True)
class Cluster:
    """A running one. environ: what its commands need."""

    folder: Path
    environ: dict[str, str]

    def run(self, *command: str) -> str:
        """Standard output of a Slurm command."""
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=60, cwd=self.folder
        )
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of the servers' logs."""
        return "\n".join(
            "\n".join(log.read_text(errors="replace").splitlines()[-15:]) for log in sorted(self.folder.glob("*.log"))
        )


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one and stop all of it at the end, jobs included."""
    with tempfile.TemporaryDirectory(prefix="effigy-slurm-") as text:
        folder = Path(text)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o400)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        host = socket.gethostname().partition(".")[0]
        ctld_port, d_port = _free_ports(2)
        places = {"folder": folder, "user": user, "host": host, "ctld_port": ctld_port, "d_port": d_port}
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(**places))
        environ = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:{SBIN}"}
        munged = [str(program("munged")), "--foreground", "--force", f"--socket={folder}/munge.socket"]
        munged += [f"--key-file={key}", f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed"]
        munged += [f"--log-file={folder}/munge.log", "--num-threads=2"]
        running = Cluster(folder, environ)
        with contextlib.ExitStack() as stack:
            _start(stack, munged, environ, folder)
            _until((folder / "munge.socket").exists, running)
            _start(stack, [str(program("slurmctld")), "-D"], environ, folder)
            _start(stack, [str(program("slurmd")), "-D", "-N", host], environ, folder)
            stack.callback(_cancel_all, running)
            _until(lambda: "idle" in _state(running), running)
            yield running


def _start(stack: contextlib.ExitStack, command: list[str], environ: dict[str, str], folder: Path) -> None:
    with (folder / f"{Path(command[0]).name}.out.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _state(running: Cluster) -> str:
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%T"], env=running.environ, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout


def _cancel_all(running: Cluster) -> None:
    subprocess.run(["scancel", "--user", str(os.getuid())], env=running.environ, check=False, timeout=30)
    end = time.monotonic() + 10
    while time.monotonic() < end and running.run("squeue", "-h").strip():
        time.sleep(0.2)


def _until(true: object, running: Cluster) -> None:
    end = time.monotonic() + START_S
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, f"Slurm did not start:\n{running.logs()}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
