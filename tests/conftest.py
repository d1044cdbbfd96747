"""Fixtures of every room: FLAME files are written once a run (tests/once.py), since they take seconds each.

`install.py test` runs several processes side by side (pytest-xdist): the tests of a file stay together, for they share
what their fixtures make, and so do all that open windows, for they share a backend and an installed extension.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

WINDOWED = "tests/windows/"
WINDOWS = Path(__file__).parent / "windows"

if TYPE_CHECKING:
    from shared.template import TemplateArrays
    from tests.flame_files import FlameFiles


def pytest_configure() -> None:
    """As the backend's processes: torch's threads wait asleep. Spinning, they starve each other on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The windowed ones first, since they take longest."""
    items.sort(key=lambda item: WINDOWS not in item.path.parents)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile` with all windowed files as one; `loadgroup` would say it shorter, but not with pytest 9.2."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class FilesTogether(LoadFileScheduling):
        """What is of one scope runs in one process."""

        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return WINDOWED if file.startswith(WINDOWED) else file

    return FilesTogether(config, log)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread: small work is quicker so where several processes share the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def flame_2020(tmp_path_factory: pytest.TempPathFactory) -> FlameFiles:
    """Written files of FLAME 2020; leave them as they are."""
    from tests.flame_installed import flame_files

    return flame_files(tmp_path_factory, "2020")


@pytest.fixture(scope="session")
def flame_2023(tmp_path_factory: pytest.TempPathFactory) -> FlameFiles:
    """Written files of FLAME 2023; leave them as they are."""
    from tests.flame_installed import flame_files

    return flame_files(tmp_path_factory, "2023")


@pytest.fixture(scope="session")
def flame_template(flame_2020: FlameFiles) -> TemplateArrays:
    """FLAME 2020 with RGBAvatar's teeth and eyelids, read from those files, not installed."""
    from avatars.templates.flame import read_flame

    return read_flame(flame_2020.model, uv=flame_2020.uv, eyelids=flame_2020.eyelids, teeth="rgbavatar")


@pytest.fixture(scope="session")
def flame_folder(
    tmp_path_factory: pytest.TempPathFactory, flame_2020: FlameFiles, flame_template: TemplateArrays
) -> Path:
    """A data folder with flame2020_rgbavatar, flame2020_gaussian_avatars and no other FLAME."""
    from avatars.templates.flame import read_flame
    from avatars.templates.installed import install

    home = tmp_path_factory.mktemp("flame_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFIGY_HOME", str(home))
        install(flame_template)
        install(read_flame(flame_2020.model, uv=flame_2020.uv, teeth="gaussian_avatars"))
    return home


@pytest.fixture
def flame_home(flame_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, in use."""
    monkeypatch.setenv("EFFIGY_HOME", str(flame_folder))
    return flame_folder
