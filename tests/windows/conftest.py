"""Fixtures of the windowed tests: the extension's zip installed in each Blender once, and one backend for all.

Where such a Blender cannot be had the tests skip and say why. In CI (the variable CI is set) 4.3 is required: there it
is an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend.tracker_environment import OVERRIDE
from blender_addon import build
from tests.stand_in_tracker import grey_video, stand_in_python
from tests.windows import debian
from tests.windows.session import WindowedBlender, build_extension, running_backend

REQUIRED = "4.3"
SCRIPTS = Path(__file__).parent / "scripts"
Open = Callable[..., WindowedBlender]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.windowed)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's zip."""
    try:
        return build_extension(tmp_path_factory.mktemp("dist"))
    except build.BuildError as error:
        if "pip could not download" in str(error) and not os.environ.get("CI"):
            pytest.skip(f"the wheels cannot be had here: {error}")
        raise


@pytest.fixture(scope="session", params=list(debian.RELEASES))
def installed(
    request: pytest.FixtureRequest, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A Blender's version, and user settings in which the zip was installed."""
    version = str(request.param)
    try:
        blender = WindowedBlender(version, tmp_path_factory.mktemp(f"blender-{version}"))
    except debian.Unavailable as error:
        if os.environ.get("CI") and version == REQUIRED:
            raise
        pytest.skip(f"no windowed Blender {version}: {error}")
    blender.install(archive)
    return version, blender.folder / "user"


@pytest.fixture
def open_blender(installed: tuple[str, Path], tmp_path: Path) -> Open:
    """Makes a Blender with fresh settings and the extension; keywords go to WindowedBlender."""
    version, user = installed

    def make(**options: object) -> WindowedBlender:
        folder = tmp_path / f"session-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(user, folder / "user")
        return WindowedBlender(version, folder, **options)  # type: ignore[arg-type]

    return make


@dataclass(frozen=True)
class Workday:
    """One window in which several scripts ran, and what they found: script -> results."""

    blender: WindowedBlender
    found: dict[str, Any]


@pytest.fixture(scope="package")
def workday(
    installed: tuple[str, Path], backend: str, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workday:
    """All that is done by hand in one window, which takes a third of the time of a window each."""
    version, user = installed
    folder = tmp_path_factory.mktemp(f"workday-{version}")
    shutil.copytree(user, folder / "user")
    blender = WindowedBlender(version, folder)
    shutil.copytree(library / "library" / "tiny.avatar", folder / "out" / "Dropped.avatar")
    grey_video(folder / "out" / "Talk.mp4", 14)
    scripts = [SCRIPTS / f"{name}.py" for name in ("panels", "edit", "animate", "drops", "live", "sidebar")]
    words = ("tiny", str(folder / "out"))
    return Workday(blender, blender.run(scripts[0], *words, then=scripts[1:], address=backend, timeout_s=700))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose library holds the untrained head 'tiny'."""
    from tests.tiny import tiny_avatar

    home = tmp_path_factory.mktemp("home")
    (home / "library").mkdir()
    tiny_avatar(home / "library")
    return home


@pytest.fixture(scope="package")
def backend(library: Path) -> Iterator[str]:
    """The address of one backend for all tests that only use it; its tracker is a stand-in.

    It ends with the last windowed test: the other files that this process goes on with neither share their cores with
    it nor find its processes and its tracker.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, str(stand_in_python(library)))
        with running_backend(library) as address:
            yield address
