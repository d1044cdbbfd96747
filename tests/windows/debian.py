"""Debian's Blenders in chroots: 4.3 from trixie (Python 3.13) and 5.2 from sid (Python 3.14), made once and cached.

The package mirror is the one this machine's own apt uses. Making one takes about 90 s; the result is kept as a tarball
in the cache folder ($EFFIGY_CACHE, else $XDG_CACHE_HOME/effigy, else ~/.cache/effigy), together with the unpacked tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = {"mmdebstrap": "mmdebstrap", "zstd": "zstd", "unshare": "util-linux", "chroot": "coreutils"}
"""Command -> Debian package that has it."""
PACKAGES = (
    *("blender", "xvfb", "xauth", "imagemagick", "libgl1-mesa-dri", "libegl1", "libegl-mesa0", "libglx-mesa0"),
    *("python3-numpy", "ca-certificates"),
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


class Unavailable(Exception):
    """Why this machine cannot have such a Blender, in one sentence."""


@dataclass(frozen=True)
class Release:
    """One Blender: the Debian suite that has it and what it needs besides PACKAGES."""

    suite: str
    extra: tuple[str, ...] = ()


RELEASES = {
    "4.3": Release("trixie"),
    # 5.2's own extension add-on imports cattrs and requests, which Debian only recommends.
    "5.2": Release("sid", ("python3-cattr", "python3-requests", "mesa-vulkan-drivers")),
}


def cache_folder() -> Path:
    """Where chroots and their tarballs are kept, outside the repository."""
    named = os.environ.get("EFFIGY_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "effigy"


def chroot(version: str) -> Path:
    """The folder of the chroot with Blender `version`, made or unpacked first where it is missing.

    Processes that ask at the same time wait for one another. Raises Unavailable.
    """
    release = RELEASES[version]
    _require_root()
    stamp = hashlib.sha256(repr((release, PACKAGES, LEFT_OUT)).encode()).hexdigest()[:8]
    name = f"blender-{version}-{release.suite}-{stamp}"
    folder = cache_folder() / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    root, tarball = folder / name, folder / f"{name}.tar.zst"
    with _locked(folder / f"{name}.lock"):
        if not root.is_dir():
            _require_tools()
            partial = folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            if tarball.is_file():
                partial.mkdir()
                _run(["tar", "--zstd", "-xf", tarball, "-C", partial], "unpacking Blender's tarball")
            else:
                _make(release, partial)
                packed = tarball.with_suffix(".partial")
                _run(["tar", "-I", "zstd -T0 -3", "-cf", packed, "-C", partial, "."], "packing Blender's tarball")
                packed.replace(tarball)
            partial.rename(root)
    return root


def inside(root: Path, exchange: Path, command: Sequence[str], *, own_processes: bool = False) -> list[str]:
    """The command line that runs `command` in the chroot, with `exchange` as its /mnt and mounts nobody else sees.

    Loopback and, unless own_processes, /proc are the machine's: the backend's sockets and shared memory can be reached.
    Compiled shaders stay in the chroot: the next session has them at once.
    """
    script = (
        'set -e; C=$1; X=$2; shift 2; mount --make-rprivate /; mount -t proc proc "$C/proc"; mount --bind /dev "$C/dev"'
        '; mount -t tmpfs tmpfs "$C/dev/shm"; mount -t tmpfs tmpfs "$C/tmp"; mount --bind "$X" "$C/mnt"'
        '; exec chroot "$C" env -i HOME=/mnt/home PATH=/usr/bin:/bin LANG=C.UTF-8 LIBGL_ALWAYS_SOFTWARE=1'
        ' MESA_SHADER_CACHE_DIR=/var/cache/shaders "$@"'
    )
    alone = ["--pid", "--fork", "--kill-child"] if own_processes else []
    return ["unshare", "--mount", *alone, "sh", "-c", script, "sh", str(root), str(exchange), *command]


def _make(release: Release, root: Path) -> None:
    options = ["--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    options += ["--aptopt=Acquire::Check-Valid-Until false", "--dpkgopt=force-unsafe-io"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    options += ["--include=" + ",".join((*PACKAGES, *release.extra))]
    _run(["mmdebstrap", *options, release.suite, root, _mirror()], f"installing Debian's Blender from {release.suite}")


def _mirror() -> str:
    """The Debian mirror of this machine's apt settings."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=False
    )
    found = [line for line in done.stdout.split() if re.search(r"/debian/?$", line)]
    if not found:
        raise Unavailable("this machine's apt settings name no Debian mirror")
    return found[0]


def _require_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("Debian's Blender is installed into a chroot, which needs root on Linux")
    if shutil.which("apt-get") is None:
        raise Unavailable("this system has no apt-get to install Debian's Blender with")
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"this system allows no private mounts ({done.stderr.strip()})")


def _require_tools() -> None:
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        if subprocess.run(install, capture_output=True, check=False).returncode != 0:
            _run(["apt-get", "update", "-qq"], "updating package lists")
            _run(install, f"installing {', '.join(missing)}")


def _run(command: Sequence[str | Path], doing: str) -> None:
    parts = [str(part) for part in command]
    done = subprocess.run(
        parts, capture_output=True, text=True, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode != 0:
        tail = " | ".join(line for line in done.stderr.strip().splitlines()[-4:])
        raise Unavailable(f"{doing} failed: {tail or 'no output'}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """`python -m tests.windows.debian VERSION` makes one; needs nothing but the standard library."""
    try:
        print(chroot(sys.argv[1]))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
