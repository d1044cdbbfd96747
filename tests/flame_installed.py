"""FLAME-shaped templates installed in a home of their own, for tests of what needs a template the user has added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avatars.templates.flame import read_flame
from avatars.templates.installed import install
from tests.flame_files import write_flame_files


@contextmanager
def flame_home(folder: Path, versions: tuple[str, ...] = ("2020", "2023")) -> Iterator[Path]:
    """$EFFIGY_HOME is `folder` with FLAME 2020 (60 teeth vertices, eyelids) and 2023 (120) added."""
    for version in versions:
        files = write_flame_files(folder / "files" / version, version=version)
        if version == "2020":
            arrays = read_flame(files.model, uv=files.uv, eyelids=files.eyelids, teeth="rgbavatar")
        else:
            arrays = read_flame(files.model, uv=files.mesh, eyelids=None, teeth="gaussian_avatars")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EFFIGY_HOME", str(folder))
            install(arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(folder))
        yield folder
