#!/usr/bin/env python3
"""The one entry for a fresh machine: makes what Effigy needs beside this file and runs it.

    python install.py demo       an avatar and a film of it from Blender (--avatar body, relit or surface: walking)
    python install.py test       the whole test suite
    python install.py addon      build the Blender extension; --blender PATH installs it there
    python install.py backend    run the server
    python install.py tracker    what `effigy capture track` needs, made beforehand (else on first use)
    python install.py doctor     what works, what is missing, what to do about it

Runs on any Python 3.10 or newer with nothing installed. Two environments are made, as on a user's machine: `.venv` for
the backend (torch) and `.venv-blender` for the `bpy` module, whose numpy must be older. Both are reused when they are
up to date with pyproject.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOG = ROOT / ".effigy" / "install.log"
TORCH = "torch==2.13.0"
GSPLAT = "gsplat>=1.5.3,<1.7"
BLENDER_LIBRARIES = [
    *("libx11-6", "libxrender1", "libxxf86vm1", "libxfixes3", "libxi6"),
    *("libxkbcommon0", "libsm6", "libice6", "libgl1", "libegl1"),
]
SLURM = ["--no-install-recommends", "slurmctld", "slurmd", "slurm-client", "munge"]  # for the tests of farms
WINDOWED_BLENDERS = ("4.3", "5.2")
# Whole runs take as many processes as there are cores, four at most; files stay together (tests/conftest.py says how).
SIDE_BY_SIDE = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder")
BLENDER_PROBE = "import bpy; print(bpy.app.version_string)"


class InstallError(Exception):
    """A reason to stop, in one or two sentences for the user."""


# --- running things --------------------------------------------------------------------------------------------------
def run(command: Sequence[str | Path], **options: object) -> int:
    """Run a command in the foreground, passing Ctrl-C on to it and waiting for its end; its exit status."""
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, **options)  # type: ignore[call-overload]
    try:
        return int(process.wait())
    except KeyboardInterrupt:
        # The terminal sent the signal to the child too; one that was started without a terminal gets it here.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
        raise


def logged(title: str, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
    """Run a set-up command with its output in the log, showing the time it takes. Raises InstallError on failure."""
    LOG.parent.mkdir(exist_ok=True)
    begin = time.monotonic()
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(1.0):
            sys.stdout.write(f"\r  {title} … {time.monotonic() - begin:4.0f} s ")
            sys.stdout.flush()

    ticker = threading.Thread(target=show, daemon=True)
    if sys.stdout.isatty() and threading.current_thread() is threading.main_thread():
        ticker.start()
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(str(part) for part in command)}\n")
        log.flush()
        try:
            status = run(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
        finally:
            ended.set()
    lead = "\r" if sys.stdout.isatty() else ""
    if status != 0:
        tail = "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise InstallError(f"{title} failed (exit status {status}); the end of {LOG}:\n{tail}")
    print(f"{lead}  {title}: {time.monotonic() - begin:.0f} s", flush=True)


def output_of(command: Sequence[str | Path]) -> str | None:
    """What a short probe prints, or None when it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# --- finding Pythons and Blenders ------------------------------------------------------------------------------------
def python_version(python: str | Path) -> tuple[int, int] | None:
    """(major, minor) of an interpreter that can make environments, or None. A version manager may only pretend."""
    text = output_of([python, "-c", "import ensurepip, venv, sys; print(*sys.version_info[:2])"])
    if not text:
        return None
    major, minor = text.split()
    return int(major), int(minor)


def base_of(python: str | Path) -> Path:
    """The interpreter behind an environment's: ours are made from it, never from themselves (`.venv` may be active)."""
    code = "import os, sys; print(os.path.realpath(getattr(sys, '_base_executable', '') or sys.executable))"
    return Path(output_of([python, "-c", code]) or python)


def find_python(wanted: Sequence[tuple[int, int]]) -> Path | None:
    """The first interpreter of the wanted versions, in their order: this one, those on PATH, uv's."""
    for version in wanted:
        name = f"python{version[0]}.{version[1]}"
        candidates: list[str | None] = [sys.executable, shutil.which(name), f"/usr/bin/{name}", shutil.which("python3")]
        for candidate in candidates:
            if candidate and python_version(base := base_of(candidate)) == version:
                return base
    uv = shutil.which("uv")
    if uv:
        for version in wanted:
            request = f"{version[0]}.{version[1]}"
            found = output_of([uv, "python", "find", request])
            if not found and run([uv, "python", "install", request]) == 0:
                found = output_of([uv, "python", "find", request])
            if found and python_version(base := base_of(found)) == version:
                return base
    return None


def find_blender() -> Path | None:
    """An installed Blender 4.2 or newer: EFFIGY_BLENDER, or `blender` on PATH."""
    named = os.environ.get("EFFIGY_BLENDER") or shutil.which("blender")
    text = output_of([named, "--version"]) if named else None
    if not named or not text or not text.startswith("Blender "):
        return None
    major, minor = (int(part) for part in text.split()[1].split(".")[:2])
    return Path(named) if (major, minor) >= (4, 2) else None


# --- environments ----------------------------------------------------------------------------------------------------
def interpreter(environment: Path) -> Path:
    """Path of an environment's Python."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp_of(python: Path, *parts: str) -> str:
    """What an environment was made from; a change of any of it makes the environment anew."""
    # The linters' settings, which come last, install nothing.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\n[tool.ruff]")[0]
    content = "\n".join([str(python), str(python_version(python)), project, *parts])
    return hashlib.sha256(content.encode()).hexdigest()


def up_to_date(environment: Path, stamp: str) -> bool:
    """Whether the environment was finished for this stamp."""
    mark = environment / ".effigy-stamp"
    return interpreter(environment).exists() and mark.exists() and mark.read_text(encoding="utf-8") == stamp


def fresh(environment: Path, python: Path) -> Path:
    """A new empty environment in place of an absent, old or half-made one; its interpreter."""
    shutil.rmtree(environment, ignore_errors=True)
    logged(f"making {environment.name}", [python, "-m", "venv", environment])
    return interpreter(environment)


def has_nvidia_gpu() -> bool:
    """Whether the driver's tool lists a GPU."""
    return bool(output_of(["nvidia-smi", "-L"]))


def backend_environment() -> Path:
    """Make or reuse `.venv`; its interpreter."""
    python = find_python([(3, 11), (3, 12), (3, 13)])
    if python is None:
        raise InstallError("Effigy's backend needs Python 3.11, 3.12 or 3.13 with venv: install Python 3.11 or uv.")
    environment = ROOT / ".venv"
    gpu = has_nvidia_gpu()
    stamp = stamp_of(python, TORCH, GSPLAT if gpu else "")
    if up_to_date(environment, stamp):
        return interpreter(environment)
    inside = fresh(environment, python)
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    logged("installing torch", [*pip, TORCH])
    logged("installing the backend", [*pip, "-e", ".[dev]"])
    if gpu:
        try:
            logged("installing gsplat", [*pip, GSPLAT])
        except InstallError as error:  # the CPU rasteriser still works; `doctor` says what is missing
            print(f"  {error}\n  Going on without gsplat: rendering stays on the CPU.")
    (environment / ".effigy-stamp").write_text(stamp, encoding="utf-8")
    return inside


def blender_environment() -> Path | None:
    """Make or reuse `.venv-blender` with the bpy module; its interpreter, or None where no Python 3.11 is found."""
    python = find_python([(3, 11)])
    if python is None:
        return None
    environment = ROOT / ".venv-blender"
    stamp = stamp_of(python)
    if not up_to_date(environment, stamp):
        inside = fresh(environment, python)
        listed = output_of(
            [
                inside,
                "-c",
                "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))"
                "['dependency-groups']['blender'], sep='\\n')",
            ]
        )
        if not listed:
            raise InstallError("pyproject.toml has no dependency group 'blender'; restore it from the repository.")
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        logged("installing the bpy module (about 400 MB)", [*pip, *listed.splitlines()])
        (environment / ".effigy-stamp").write_text(stamp, encoding="utf-8")
    return interpreter(environment)


def working_blender(explicit: str | None) -> list[str]:
    """The command that runs a Blender script: `[python]` with bpy, or `[blender, -b, --python]`."""
    if explicit:
        if output_of([explicit, "--version"]) is None:
            raise InstallError(f"{explicit} does not run as a Blender: give --blender the path of its executable.")
        return [explicit, "--background", "--python"]
    python = blender_environment()
    if python is not None:
        if output_of([python, "-c", BLENDER_PROBE]) is None:
            install_packages("Blender's libraries", BLENDER_LIBRARIES)
        if output_of([python, "-c", BLENDER_PROBE]) is not None:
            return [str(python)]
    blender = find_blender()
    if blender is not None:
        return [str(blender), "--background", "--python"]
    if python is not None:
        raise InstallError(
            f"The bpy module was installed but does not load: run `{python} -c 'import bpy'` to see which system "
            f"library is missing (Debian packages: {' '.join(BLENDER_LIBRARIES)})."
        )
    raise InstallError("No Blender found: install Python 3.11 (or uv), or Blender 4.2+ and put it on PATH.")


def install_packages(what: str, packages: Sequence[str]) -> None:
    """Debian's packages, where we may install them: as root on a Debian-like system."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        logged("updating package lists", ["apt-get", "update", "-qq"])
        logged(f"installing {what}", ["apt-get", "install", "-y", "-qq", *packages])


# --- commands --------------------------------------------------------------------------------------------------------
def demo(arguments: argparse.Namespace, extra: list[str]) -> int:
    """Set up, then hand over to the backend's demo, which trains, starts the server and drives Blender."""
    print("Effigy: setting up", flush=True)
    blender = working_blender(arguments.blender)
    python = backend_environment()
    environment = dict(os.environ)
    if len(blender) > 1:
        # An installed Blender has no pyzmq: the extension brings it. It goes into a settings folder of our own, so that
        # the user's Blender stays as it is.
        environment["BLENDER_USER_RESOURCES"] = str(LOG.parent / "blender")
        build = [python, "-m", "blender_addon.build", "--output", ROOT / "dist", "--install-into", blender[0]]
        logged("installing the add-on into Blender", build, environment)
    usual = ROOT / "output" / ("demo" if arguments.avatar == "head" else f"demo_{arguments.avatar}")
    output = Path(arguments.output).resolve() if arguments.output else usual
    command = [python, "-m", "backend", "demo", "--avatar", arguments.avatar, "--output", output]
    for part in blender:
        command.append(f"--blender={part}")
    return run([*command, *extra], env=environment)


def test(arguments: argparse.Namespace, extra: list[str]) -> int:
    """The whole suite: the rooms in the backend's environment, then the add-on's in Blender's."""
    print("Effigy: setting up the tests", flush=True)
    blender = working_blender(arguments.blender)
    meanwhile = threading.Thread(target=prepare_tests, name="tests' programs", daemon=True)
    if not extra:
        meanwhile.start()
    python = backend_environment()
    if not extra:
        meanwhile.join()
    environment = {**os.environ, "EFFIGY_BACKEND_PYTHON": str(python), "EFFIGY_BLENDER_COMMAND": "\n".join(blender)}
    pytest = ["-m", "pytest", *(extra or SIDE_BY_SIDE)]
    print("\nEffigy: shared, avatars, backend, end to end, windowed Blenders", flush=True)
    first = run([python, *pytest, "tests", "--ignore=tests/blender_addon"], env=environment)
    print("\nEffigy: the add-on, inside Blender", flush=True)
    inside = blender[0] if len(blender) == 1 else None
    if inside is None:
        print("skipped: the add-on's tests run with the bpy module, which needs Python 3.11")
        return first
    second = run([inside, *pytest, "tests/blender_addon"], env=environment)
    # pytest's 5 is 'nothing collected': fine when the user selected tests of one half only.
    return first or second if not extra else next((code for code in (first, second) if code not in (0, 5)), 0)


def prepare_tests() -> None:
    """Slurm and, cached elsewhere, Debian's Blenders in chroots, while the environment is made: stdlib only."""
    if not (sys.platform == "linux" and os.geteuid() == 0):
        print("  neither Slurm nor windowed Blenders: they need root on Linux; their tests skip")
        return
    if not shutil.which("slurmctld", path="/usr/sbin"):
        attempt(install_packages, "Slurm", SLURM)
    for version in WINDOWED_BLENDERS:
        attempt(logged, f"windowed Blender {version}", [sys.executable, "-m", "tests.windows.debian", version])


def attempt(step: Callable[..., None], *given: object) -> None:
    """A step that can be done without."""
    try:
        step(*given)
    except InstallError as error:
        print(f"  {error}\n  Going on without it.")


def addon(arguments: argparse.Namespace, extra: list[str]) -> int:
    """Build the extension zip into dist/; with --blender also install it there."""
    command = [backend_environment(), "-m", "blender_addon.build", "--output", ROOT / "dist"]
    if arguments.blender:
        command += ["--install-into", arguments.blender]
    return run([*command, *extra])


def backend(arguments: argparse.Namespace, extra: list[str]) -> int:
    """Run the server in the foreground until Ctrl-C."""
    return run([backend_environment(), "-m", "backend", "serve", *extra])


def tracker(arguments: argparse.Namespace, extra: list[str]) -> int:
    """Make the face tracker's own environment, `.venv-tracker`."""
    code = "from backend.tracker_environment import main; raise SystemExit(main())"
    return run([backend_environment(), "-c", code, *extra])


def doctor(arguments: argparse.Namespace, extra: list[str]) -> int:
    """Say what works without changing anything: what this script sees, then what the backend sees from inside."""
    rows = [
        ("this Python", f"{platform.python_version()} at {sys.executable}", ""),
        (
            "Python for the backend",
            str(find_python([(3, 11), (3, 12), (3, 13)]) or "none"),
            "install Python 3.11 or uv",
        ),
        ("Python for bpy", str(find_python([(3, 11)]) or "none"), "install Python 3.11, or use an installed Blender"),
        ("installed Blender 4.2+", str(find_blender() or "none"), "optional: set EFFIGY_BLENDER or put it on PATH"),
        ("NVIDIA GPU", "yes" if has_nvidia_gpu() else "none", "optional: the CPU is used without one"),
    ]
    for name, found, do in rows:
        print(f"  {name:<24} {found}" + (f"  -> {do}" if found == "none" else ""))
    for name, maker in ((".venv", "demo"), (".venv-blender", "demo"), (".venv-tracker", "tracker")):
        ready = (ROOT / name / ".effigy-stamp").exists()
        print(f"  {name:<24} {'ready' if ready else f'not made yet  -> python install.py {maker} makes it'}")
    blender_python = interpreter(ROOT / ".venv-blender")
    if blender_python.exists():
        version = output_of([blender_python, "-c", BLENDER_PROBE])
        print(f"  {'bpy module':<24} {version or 'does not load  -> ' + ' '.join(BLENDER_LIBRARIES)}")
    inside = interpreter(ROOT / ".venv")
    return run([inside, "-m", "backend", "doctor", *extra]) if (ROOT / ".venv" / ".effigy-stamp").exists() else 0


COMMANDS = {"demo": demo, "test": test, "addon": addon, "backend": backend, "tracker": tracker, "doctor": doctor}


def main() -> int:
    """Parse the command line and run one command; errors are one sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--blender", help="use this Blender executable instead of the bpy module")
    parser.add_argument("--output", help="demo: output folder (default: output/demo, output/demo_body, …)")
    parser.add_argument(
        "--avatar",
        choices=("head", "body", "relit", "surface"),
        default="head",
        help="demo: talk, walk, or walk in real light",
    )
    arguments, extra = parser.parse_known_args()
    extra = [part for part in extra if part != "--"]
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return COMMANDS[arguments.command](arguments, extra)
    except InstallError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; what was done is kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
