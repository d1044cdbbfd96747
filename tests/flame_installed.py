"""FLAME-shaped templates installed in a home of their own, for tests of what needs a template the user has added.

Writing the files and reading them takes ten seconds, so a run does it once for all its processes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flame_files import FlameFiles, files_in, write_flame_files
from tests.once import once


def flame_files(factory: pytest.TempPathFactory, version: str) -> FlameFiles:
    """Written files of FLAME '2020' or '2023'; leave them as they are."""
    folder = once(factory, f"flame_{version}", lambda place: write_flame_files(place, version=version))
    return files_in(folder, version)


@contextmanager
def flame_home(
    factory: pytest.TempPathFactory, folder: Path, versions: tuple[str, ...] = ("2020", "2023")
) -> Iterator[Path]:
    """$EFFIGY_HOME is `folder` with FLAME 2020 (60 teeth vertices, eyelids) and 2023 (120) added."""
    for version in versions:
        home = once(factory, f"flame_home_{version}", lambda place, version=version: _install(factory, place, version))  # type: ignore[misc]
        shutil.copytree(home, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(folder))
        yield folder


def _install(factory: pytest.TempPathFactory, home: Path, version: str) -> None:
    from avatars.templates.flame import read_flame
    from avatars.templates.installed import install

    files = flame_files(factory, version)
    if version == "2020":
        arrays = read_flame(files.model, uv=files.uv, eyelids=files.eyelids, teeth="rgbavatar")
    else:
        arrays = read_flame(files.model, uv=files.mesh, eyelids=None, teeth="gaussian_avatars")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(home))
        install(arrays)
