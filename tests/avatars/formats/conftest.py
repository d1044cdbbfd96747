"""FLAME with both sets of teeth, added to a home of this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.templates.flame import read_flame
from avatars.templates.installed import install
from tests.flame_files import write_flame_files


@pytest.fixture(scope="session")
def flame_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with flame2020_rgbavatar, flame2020_gaussian_avatars and no other FLAME."""
    home = tmp_path_factory.mktemp("flame_home")
    files = write_flame_files(tmp_path_factory.mktemp("flame_files"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(home))
        install(read_flame(files.model, uv=files.uv, eyelids=files.eyelids, teeth="rgbavatar"))
        install(read_flame(files.model, uv=files.uv, teeth="gaussian_avatars"))
    return home


@pytest.fixture
def flame_home(flame_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, in use."""
    monkeypatch.setenv("EFFIGY_HOME", str(flame_folder))
    return flame_folder
