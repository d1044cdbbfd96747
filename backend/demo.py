"""The main job end to end: capture -> trained avatar -> server -> animated, relit Blender render -> one output folder.

Everything here goes the way a user goes: training is a job of a server in its own process, and the picture comes out of
a Blender process that speaks to that server over ZeroMQ. What is already done is kept: the training job is named by a
key made from what it depends on, and a finished film is made anew only when the avatar or the scene changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import shared
from backend.following import begin_job, follow_job
from backend.launcher import RunningServer, running_server
from shared.client import BackendClient
from shared.errors import EnvironmentFailed, WorkerFailed
from shared.messages import AvatarList, AvatarSummary, JobInfo, ListAvatars, StartTraining

DEMO_SCENE = Path(__file__).resolve().parent.parent / "blender_addon" / "demo_scene.py"
PROGRESS_MARK = "EFFIGY_PROGRESS "
REQUEST_S = 30.0
MESH_FACES, MESH_PX = 30_000, 1024


@dataclass(frozen=True)
class DemoSettings:
    """What the demo makes. blender: the command that runs a script, such as ('python',) with bpy.

    name: of the avatar, and of its folder beside the film. mesh: also leave it as a rigged mesh, and from four sides.
    """

    output: Path
    blender: tuple[str, ...]
    name: str = "demo_head"
    capture: str = "demo_head"
    preset: str = "demo_cpu"
    overrides: dict[str, str] = field(default_factory=dict)
    frames: int = 60
    size_px: int = 512
    device: str = "auto"
    mesh: bool = False


class PeakMemory:
    """The most memory this process and all it started held at once, in bytes, sampled every half second."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.5):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    # PSS counts a page shared by several processes once in all; where it cannot be read, RSS is an
                    # upper bound.
                    memory = process.memory_full_info()
                    total += int(getattr(memory, "pss", 0) or memory.rss)
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)


def run_demo(settings: DemoSettings, console: Console) -> Path:
    """Make or complete the demo in `settings.output`; returns that folder. Raises EffigyError."""
    begin = time.monotonic()
    output = settings.output
    output.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with (
        PeakMemory() as memory,
        running_server(home=output / "backend", device=settings.device) as server,
        BackendClient(server.address, key=server.key, name="demo") as client,
        _progress(console) as progress,
    ):
        client.connect(REQUEST_S)
        mark = time.monotonic()
        job, avatar = _trained(client, settings, progress)
        seconds["train"] = time.monotonic() - mark
        library = output / "backend" / "library"
        _publish(output, settings.name, Path(job.report_folder), library / f"{avatar.avatar_id}.avatar")
        if settings.mesh:
            mark = time.monotonic()
            _mesh(output, output / f"{settings.name}.avatar", settings.device)
            seconds["mesh"] = time.monotonic() - mark
        mark = time.monotonic()
        with BackendClient(server.address, key=server.key, name="demo") as again:
            welcome = again.connect(REQUEST_S)  # by now the render worker has told the server what it computes on
        film, kept = _film(settings, server, avatar, progress)
        seconds["blender"] = time.monotonic() - mark
    seconds["total"] = time.monotonic() - begin
    report = {
        "version": shared.__version__,
        "device": welcome.device,
        "rasteriser": welcome.rasteriser,
        "avatar": {"id": avatar.avatar_id, "digest": avatar.digest, "metrics": avatar.metrics},
        "film": film,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_gib": round(memory.peak_bytes / 2**30, 2),
    }
    report_file = output / "demo.json"
    if kept and report_file.is_file():  # nothing was made: the figures of the run that made it all stay
        report = json.loads(report_file.read_text(encoding="utf-8"))
    report_file.write_text(json.dumps(report, indent=2), encoding="utf-8")
    _tell(console, report)
    return output


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


# --- training --------------------------------------------------------------------------------------------------------
def _trained(client: BackendClient, settings: DemoSettings, progress: Progress) -> tuple[JobInfo, AvatarSummary]:
    """The finished training job and its avatar; trains only if that was not done before."""
    parts = [shared.__version__, settings.capture, settings.preset, json.dumps(settings.overrides, sort_keys=True)]
    key = "demo-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    # A finished job whose avatar was deleted or damaged since is done again, under the next free key.
    for attempt in range(100):
        job = _finished_job(client, settings, f"{key}-{attempt}", progress)
        listed = client.request(ListAvatars(), timeout_s=REQUEST_S)
        assert isinstance(listed, AvatarList)
        found = next((item for item in listed.avatars if item.avatar_id == job.avatar_id), None)
        if found is not None and not found.problem:
            return job, found
    raise WorkerFailed(
        "The demo's avatar is damaged each time it is made", do=f"Delete {settings.output} and try again"
    )


def _finished_job(client: BackendClient, settings: DemoSettings, key: str, progress: Progress) -> JobInfo:
    asked = StartTraining(key, settings.name, settings.capture, settings.preset, settings.overrides)
    job = begin_job(client, asked)
    task = progress.add_task("Training the avatar", total=job.steps or None, completed=job.step, note=job.message)

    def show(told: JobInfo) -> None:
        losses = "  ".join(f"{name} {value:.4f}" for name, value in told.losses.items())
        note = f"{told.images_per_s:.1f} images/s  {losses}  {told.eta_s:.0f} s left  {told.message}"
        progress.update(task, total=told.steps or None, completed=told.step, note=note)

    job = follow_job(client, job, show)
    if job.state != "done":
        raise WorkerFailed(
            f"Training ended as {job.state}", found=job.message, do="See the job's log in the backend folder"
        )
    progress.update(task, total=job.steps or 1, completed=job.steps or 1, note=job.message)
    return job


def _publish(output: Path, name: str, report: Path, avatar: Path) -> None:
    """Copy the training report and the avatar beside the film, where the user looks for them."""
    for source, place in ((report, "training_report"), (avatar, f"{name}.avatar")):
        target = output / place
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def _mesh(output: Path, avatar: Path, device: str) -> None:
    """mesh/, the avatar as a rigged, textured mesh, and four_sides.png: its own mesh in its colours and bare."""
    from avatars.avatar_folder import load_avatar
    from avatars.evaluation.geometry import write_four_sides
    from avatars.surface.asset import MeshSettings
    from backend.devices import resolve_device
    from backend.meshes import write_mesh

    where = resolve_device(device)
    write_mesh(avatar, output / "mesh", MeshSettings(MESH_FACES, MESH_PX), where)
    write_four_sides(output / "four_sides.png", load_avatar(avatar, where))


# --- Blender ---------------------------------------------------------------------------------------------------------
def _film(
    settings: DemoSettings, server: RunningServer, avatar: AvatarSummary, progress: Progress
) -> tuple[dict[str, list[str]], bool]:
    """Render the film in a Blender process: its files by kind, and whether an earlier run had finished it."""
    folder = settings.output / "film"
    scene_file = folder / "scene.json"
    scene = json.dumps(
        {
            "avatar": avatar.digest,
            "frames": settings.frames,
            "size_px": settings.size_px,
            "script": hashlib.sha256(DEMO_SCENE.read_bytes()).hexdigest(),
        },
        indent=1,
    )
    if not scene_file.is_file() or scene_file.read_text(encoding="utf-8") != scene:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        scene_file.write_text(scene, encoding="utf-8")
    done = folder / "done"
    task = progress.add_task("Rendering in Blender", total=settings.frames, note="")
    if done.exists():
        progress.update(task, completed=settings.frames, note="kept from an earlier run")
        return _film_files(folder), True

    def note(event: dict[str, Any]) -> None:
        progress.update(task, completed=event["done"], total=event["total"], note=event["stage"])

    options = [
        *("--address", server.address, "--avatar", avatar.avatar_id, "--output", str(folder), "--keep-frames"),
        *("--frames", str(settings.frames), "--size", str(settings.size_px)),
    ]
    _run_blender([*settings.blender, str(DEMO_SCENE), "--", *options], server.key, folder / "blender.log", note)
    files = _film_files(folder)
    if not files["films"]:
        raise EnvironmentFailed("Blender ended without a film", do=f"Read {folder / 'blender.log'}")
    done.touch()
    return files, False


def _film_files(folder: Path) -> dict[str, list[str]]:
    """File names of a film's folder by kind, relative to it."""
    kinds = {"films": "*.mp4", "scenes": "*.blend", "stills": "stills/*.png"}
    return {kind: [str(path.relative_to(folder)) for path in sorted(folder.glob(it))] for kind, it in kinds.items()}


def _run_blender(command: Sequence[str], key: str, log_path: Path, note: Callable[[dict[str, Any]], None]) -> None:
    """Run Blender, passing its progress lines to `note` and all else to the log. Raises EnvironmentFailed."""
    tail: deque[str] = deque(maxlen=8)
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            list(command),
            env={**os.environ, "EFFIGY_KEY": key},  # not on the command line, where every user of the machine reads it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(PROGRESS_MARK):
                    note(json.loads(line[len(PROGRESS_MARK) :]))
                    continue
                log.write(line)
                if line.strip():
                    tail.append(line.rstrip())
            status = process.wait()
        except BaseException:
            process.kill()
            raise
    if status != 0:
        raise EnvironmentFailed(f"Blender ended with status {status}", found=" | ".join(tail), do=f"Read {log_path}")


def _tell(console: Console, report: dict[str, Any]) -> None:
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in report["avatar"]["metrics"].items())
    seconds = "  ".join(f"{name} {value:.0f} s" for name, value in report["seconds"].items())
    console.print(f"Backend: {report['device']}, rasteriser {report['rasteriser']}")
    console.print(f"Held-out: {metrics}\nTime: {seconds}   Peak memory: {report['peak_memory_gib']} GiB")
