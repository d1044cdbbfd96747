"""Recordings of other programs, written once for this folder's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avatars.templates.opening import reference_of
from tests import insta_files, nersemble_files
from tests.flame_installed import flame_home


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """$EFFIGY_HOME with FLAME-shaped templates of both versions."""
    with flame_home(tmp_path_factory, tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="package")
def insta(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, insta_files.Truth]:
    """A wide INSTA folder with the twice as large pictures, and what is in it. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("insta") / "bala"
    reference = reference_of("flame2020_rgbavatar")
    return folder, insta_files.write_insta_folder(folder, reference, frames=6, size=(64, 48), high_quality=True)


@pytest.fixture(scope="package")
def nersemble(home: Path, tmp_path_factory: pytest.TempPathFactory) -> nersemble_files.Truth:
    """A UNION folder with two sequences beside it."""
    parent = tmp_path_factory.mktemp("nersemble")
    return nersemble_files.write_nersemble(parent, reference_of("flame2023_gaussian_avatars"))
