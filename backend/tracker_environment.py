"""The tracker's own environment: mediapipe wants a numpy and a protobuf that neither torch nor Blender has.

Made on first use beside the project's others (`.venv-tracker`), or in the backend's home where the project's folder
cannot be written. `python install.py tracker` makes it beforehand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from backend.home import default_home
from shared.errors import EnvironmentFailed

MEDIAPIPE = "mediapipe==0.10.21"
"""The last release that carries its models in its wheel; it brings none of the packages below by itself here, since it
asks for jax, sound and a second OpenCV that face landmarks do without."""
OTHERS = (
    "numpy>=1.26,<2",
    "protobuf>=4.25.3,<5",
    "absl-py>=2.1,<3",
    "attrs>=23",
    "flatbuffers>=24,<26",
    "matplotlib>=3.8,<4",  # mediapipe imports it
    "opencv-python-headless>=4.10,<4.12",
)
PYTHONS = ((3, 11), (3, 12), (3, 10))
STAMP = ".effigy-stamp"
OVERRIDE = "EFFIGY_TRACKER_PYTHON"
TRACKER_MISSING = "The face tracker is not installed yet (about 100 MB, once)"
Tell = Callable[[str], None]


def environment_folder() -> Path:
    """Where it is or will be."""
    project = Path(__file__).resolve().parent.parent
    if (project / "install.py").is_file() and os.access(project, os.W_OK):
        return project / ".venv-tracker"
    return default_home() / "tracker"


def tracker_python() -> Path | None:
    """The interpreter of a finished environment (or EFFIGY_TRACKER_PYTHON), None where there is none yet."""
    named = os.environ.get(OVERRIDE)
    if named:
        return Path(named)
    folder = environment_folder()
    mark = folder / STAMP
    ready = mark.is_file() and mark.read_text(encoding="utf-8") == _stamp() and _inside(folder).exists()
    return _inside(folder) if ready else None


def make_tracker_environment(tell: Tell = lambda text: None) -> Path:
    """Its interpreter, after making it where it is missing or old (about 100 MB to download, half a minute).

    tell hears what is being done. Raises EnvironmentFailed.
    """
    found = tracker_python()
    if found is not None:
        return found
    python, folder = _base_python(), environment_folder()
    shutil.rmtree(folder, ignore_errors=True)
    tell("making the tracker's environment (once)")
    _run([python, "-m", "venv", folder], "The tracker's environment could not be made")
    inside = _inside(folder)
    pip: list[str | Path] = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    tell("installing the face tracker (once, about 100 MB)")
    failed = "The face tracker could not be installed"
    _run([*pip, "--no-deps", MEDIAPIPE], failed)
    _run([*pip, *OTHERS], failed)
    (folder / STAMP).write_text(_stamp(), encoding="utf-8")
    return inside


def main() -> int:
    """Make it from a terminal: exit status 0, or 1 with one sentence."""
    try:
        found = make_tracker_environment(_say)
    except EnvironmentFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _say(str(found))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def _inside(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _stamp() -> str:
    return hashlib.sha256("\n".join((MEDIAPIPE, *OTHERS)).encode()).hexdigest()


def _base_python() -> Path:
    """A Python that mediapipe has wheels for: the one behind ours, else one on PATH. Raises EnvironmentFailed."""
    own = Path(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))
    names = [f"python{major}.{minor}" for major, minor in PYTHONS]
    for candidate in [own, *(Path(path) for path in map(shutil.which, names) if path)]:
        code = "import ensurepip, venv, sys; print(*sys.version_info[:2])"
        try:
            done = subprocess.run(
                [os.fspath(candidate), "-c", code], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and tuple(int(part) for part in done.stdout.split()) in PYTHONS:
            return candidate
    raise EnvironmentFailed(
        "The face tracker needs a Python of its own",
        found=f"Python {sys.version_info[0]}.{sys.version_info[1]}",
        expected="Python 3.10, 3.11 or 3.12 on PATH",
        do=f"Install one of them, or name an environment's interpreter that has {MEDIAPIPE} in {OVERRIDE}",
    )


def _run(command: Sequence[str | Path], failed: str) -> None:
    try:
        done = subprocess.run(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise EnvironmentFailed(failed, found=error.strerror or str(error)) from error
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("[notice]")]
        raise EnvironmentFailed(
            failed,
            found=lines[-1][:200] if lines else f"exit status {done.returncode}",
            do="Connect to the internet once, or run `python install.py tracker` where there is a connection",
        )
