"""Build the extension zip: this package, a copy of `shared`, and the wheels Blender's Python lacks.

    python -m blender_addon.build [--output dist] [--platform linux-x64 … | all] [--install-into BLENDER]

Plain Python: no Blender is needed to build. The same sources and wheels give the same bytes.

Why two wheels: the network needs pyzmq only. Its wheels are tagged cp311 and cp312-abi3, and Blender (at least to 5.2)
drops the generic "3" of an abi3 wheel as soon as any wheel names a minor version, so a zip with these two is refused on
Python 3.13. msgpack has wheels for cp311, cp313 and cp314, which puts those versions back on Blender's list.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "blender_addon"
LEFT_OUT = {"build.py", "demo_scene.py", "blender_manifest.toml", "synthesise/paint_skin.py"}
LEFT_OUT |= {"motions/make_motions.py", "motions/limbs.py"}
PYTHONS = ("3.11", "3.13", "3.14")
"""Official Blender 4.2 to 5.0 has 3.11, 5.1 and later 3.13; distributions build with 3.13 and 3.14."""
REQUIREMENTS = ("pyzmq>=27,<28", "msgpack>=1.1,<2")
WHEEL_TAGS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64", "macosx_10_15_universal2"),
    "macos-x64": (
        *("macosx_10_15_universal2", "macosx_10_15_x86_64", "macosx_10_13_x86_64"),
        *("macosx_10_12_x86_64", "macosx_10_9_x86_64"),
    ),
}
TIMESTAMP = (2020, 1, 1, 0, 0, 0)


class BuildError(Exception):
    """One sentence about what stopped the build."""


def current_platform() -> str:
    """Blender's name for this machine's platform."""
    machine = os.uname().machine if hasattr(os, "uname") else "x86_64"
    if sys.platform == "darwin":
        return "macos-arm64" if machine == "arm64" else "macos-x64"
    return "windows-x64" if os.name == "nt" else "linux-x64"


def download_wheels(platforms: Sequence[str], folder: Path) -> list[Path]:
    """The wheels for all supported Pythons on these platforms, kept in `folder`. Raises BuildError."""
    folder.mkdir(parents=True, exist_ok=True)
    found: set[Path] = set()
    for platform in platforms:
        for python in PYTHONS:
            target = folder / f"{platform}-{python}"
            if not _complete(target):
                _pip_download(python, platform, target)
            found.update(target.glob("*.whl"))
    by_name = {path.name: path for path in sorted(found)}
    return [by_name[name] for name in sorted(by_name)]


def _complete(folder: Path) -> bool:
    names = [path.name.partition("-")[0] for path in folder.glob("*.whl")]
    return sorted(names) == sorted(re.split(r"[<>=]", requirement)[0] for requirement in REQUIREMENTS)


def _pip_download(python: str, platform: str, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, "--dest", str(target)]
    for tag in WHEEL_TAGS[platform]:
        command += ["--platform", tag]
    done = subprocess.run([*command, *REQUIREMENTS], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BuildError(f"pip could not download the wheels for Python {python} on {platform}: {reason}")


def manifest_text(version: str, platforms: Sequence[str], wheels: Iterable[str]) -> str:
    """The manifest with version, platforms and wheels filled in."""
    text = (PACKAGE / "blender_manifest.toml").read_text(encoding="utf-8")
    text, count = re.subn(r'(?m)^version = ".*$', f'version = "{version}"', text)
    head, mark, tables = text.partition("\n[")
    if count != 1 or not mark:
        raise BuildError("blender_manifest.toml has lost its version line or its tables; restore it")
    listed = ",\n".join(f'  "./wheels/{name}"' for name in sorted(wheels))
    names = ", ".join(f'"{platform}"' for platform in platforms)
    return f"{head}platforms = [{names}]\nwheels = [\n{listed},\n]\n{mark}{tables}"


def package_files() -> dict[str, Path]:
    """Path inside the zip -> source file: this package without its tools, and `shared` as a sub-package."""
    files: dict[str, Path] = {}
    for source, prefix in ((PACKAGE, ""), (ROOT / "shared", "shared/")):
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and not (prefix == "" and inside in LEFT_OUT):
                files[prefix + inside] = path
    return files


def build(output: Path, platforms: Sequence[str], wheel_folder: Path) -> Path:
    """Write `output`/effigy-VERSION-PLATFORMS.zip and check it. Raises BuildError; a broken zip is not left behind."""
    version = _version()
    wheels = download_wheels(platforms, wheel_folder)
    content = {name: path.read_bytes() for name, path in package_files().items()}
    content |= {f"wheels/{path.name}": path.read_bytes() for path in wheels}
    content["blender_manifest.toml"] = manifest_text(version, platforms, (path.name for path in wheels)).encode()
    check(content)
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"effigy-{version}-{'-'.join(p.replace('-', '_') for p in platforms)}.zip"
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, TIMESTAMP)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content[name])
    partial.replace(target)
    return target


def check(content: dict[str, bytes]) -> None:
    """Refuse a package Blender would refuse, or one that would look for `shared` outside itself. Raises BuildError."""
    manifest = tomllib.loads(content["blender_manifest.toml"].decode())
    listed = {name.removeprefix("./") for name in manifest["wheels"]}
    packed = {name for name in content if name.startswith("wheels/")}
    if listed != packed:
        raise BuildError(f"The manifest's wheels are not the packed ones: {sorted(listed ^ packed)}")
    for python in PYTHONS:
        tag = "cp" + python.replace(".", "")
        if not any(f"-{tag}-" in name for name in packed):
            raise BuildError(f"No wheel names {tag}, so Blender would refuse the zip on Python {python}")
    for needed in ("__init__.py", "LICENSE", "shared/__init__.py", "shared/client.py"):
        if needed not in content:
            raise BuildError(f"The package lacks {needed}")
    for name, source in content.items():
        if name.endswith(".py"):
            tree = ast.parse(source, name)
            absolute = {
                alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
            } | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
            rooms = {module.split(".")[0] for module in absolute} & {"shared", "blender_addon", "avatars", "backend"}
            if rooms and name != "_shared.py":
                raise BuildError(f"{name} imports {', '.join(sorted(rooms))} by an absolute name; use ._shared")


def install(archive: Path, blender: str) -> None:
    """Install and enable the zip in a Blender executable, or in the bpy module of a Python. Raises BuildError."""
    probe = subprocess.run([blender, "--version"], capture_output=True, text=True, check=False)
    if probe.stdout.startswith("Blender "):
        command = [blender, "--command", "extension", "install-file", "-r", "user_default", "-e", str(archive)]
    else:
        code = (
            "import sys, bpy; bpy.ops.extensions.package_install_files("
            "filepath=sys.argv[1], repo='user_default', enable_on_install=True); bpy.ops.wm.save_userpref()"
        )
        command = [blender, "-c", code, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BuildError(f"{blender} did not install the extension: {reason}")


def _version() -> str:
    match = re.search(r'__version__ = "([^"]+)"', (ROOT / "shared" / "__init__.py").read_text(encoding="utf-8"))
    if match is None:
        raise BuildError("shared/__init__.py has lost its __version__; restore it")
    return match[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the process's exit status."""
    parser = argparse.ArgumentParser(prog="blender_addon.build", description="Build Effigy's Blender extension.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder for the zip (default: dist)")
    parser.add_argument(
        "--platform",
        action="append",
        choices=[*sorted(WHEEL_TAGS), "all"],
        help="may be repeated; all: one zip for every platform (default: this machine's)",
    )
    parser.add_argument("--install-into", metavar="BLENDER", help="also install into this Blender or Python with bpy")
    options = parser.parse_args(arguments)
    try:
        platforms = list(WHEEL_TAGS) if "all" in (options.platform or ()) else options.platform or [current_platform()]
        archive = build(options.output, platforms, ROOT / "build" / "wheels")
        print(archive)
        if options.install_into:
            install(archive, options.install_into)
            print(f"installed into {options.install_into}")
    except (BuildError, OSError) as error:
        print(f"The extension was not built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
