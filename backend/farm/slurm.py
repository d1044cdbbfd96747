"""A farm job for Slurm: an array of tasks, and a job after it that makes the film."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import backend
from backend.farm.job import FarmJob
from shared.errors import BadConfig, EnvironmentFailed

SUBMIT = "submit.sh"
KEPT_LETTERS = 60

FRAMES = """#!/bin/sh
# {tasks} tasks of {chunk} frames. A task that runs again renders only what is missing of its own.
{lines}
status=0
{task} "$SLURM_ARRAY_TASK_ID" || status=$?
# 0: all is there; 2: a mistake that trying again does not mend; 143: Slurm itself ended us. All else (frames missing,
# Blender or the backend killed) is worth another start.
case $status in
    0|2|143) exit $status ;;
esac
if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then
    echo "effigy: status $status; queued again (restart $((${{SLURM_RESTART_COUNT:-0}} + 1)) of {retries})" >&2
    # By its number in the array: one of the tasks has the array's own id, which would start all of them again.
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" && sleep 600
fi
exit $status
"""

FILM = """#!/bin/sh
# After the last frame.
{lines}
exec {film}
"""

SUBMIT_TEXT = """#!/bin/sh
# Sends the array, and what follows it. Sent again it renders only what is missing.
set -eu
array=$(sbatch --parsable {frames})
array=${{array%%;*}}
echo "frames: $array"
"""

SUBMIT_FILM = """film=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes {film})
echo "film: ${film%%;*}"
"""


def write_scripts(folder: Path, job: FarmJob, options: Sequence[str], retries: int) -> Path:
    """Write the job's scripts and return the one that submits them. options: of sbatch, for the array's tasks."""
    if any("\n" in option or not option.startswith("-") for option in options):
        raise BadConfig("An option of sbatch cannot be read", found=repr(options)[:120], expected="--sbatch=--OPTION")
    name = "".join(letter for letter in Path(job.shot).stem if letter.isalnum() or letter in "_-")[:KEPT_LETTERS]
    logs = _quoted(str(folder / "logs"))
    lines = [f"--job-name=effigy-{name}", f"--array=1-{job.tasks}", "--requeue", "--open-mode=append"]
    lines += [f"--output={logs}/%A_%a.log", *options]
    _script(
        folder / "frames.sbatch",
        FRAMES.format(
            tasks=job.tasks,
            chunk=job.chunk_size,
            lines=_directives(lines),
            task=_effigy("task", folder),
            retries=retries,
        ),
    )
    text = SUBMIT_TEXT.format(frames=shlex.quote(str(folder / "frames.sbatch")))
    if job.film:
        film = [f"--job-name=effigy-{name}-film", f"--output={logs}/film_%j.log", *_without_devices(options)]
        _script(folder / "film.sbatch", FILM.format(lines=_directives(film), film=_effigy("film", folder)))
        text += SUBMIT_FILM.replace("{film}", shlex.quote(str(folder / "film.sbatch")), 1)
    _script(folder / SUBMIT, text)
    return folder / SUBMIT


def submit(script: Path) -> str:
    """Send it; what Slurm said. Raises EnvironmentFailed."""
    try:
        done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed("Slurm does not answer", found="nothing in 120 s", do=f"Later: {script}") from error
    if done.returncode != 0:
        raise EnvironmentFailed(
            "Slurm did not take the job", found=" ".join(done.stderr.split())[-200:], do=f"Later: sh {script}"
        )
    return done.stdout.strip()


def _without_devices(options: Sequence[str]) -> list[str]:
    """A film needs no GPU."""
    return [option for option in options if not option.startswith(("--gres", "--gpus", "-G"))]


def _effigy(action: str, folder: Path) -> str:
    root = Path(backend.__file__).resolve().parent.parent
    path = os.pathsep.join([str(root), "${PYTHONPATH:-}"])
    python = shlex.quote(sys.executable)
    return f'env PYTHONPATH="{path}" {python} -m backend farm {action} {shlex.quote(str(folder))}'


def _directives(options: Sequence[str]) -> str:
    return "\n".join(f"#SBATCH {option}" for option in options)


def _quoted(text: str) -> str:
    """As sbatch reads the lines of a script: quotes around what has spaces."""
    return f'"{text}"' if " " in text else text


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
