"""Fixtures of every room: FLAME files are written once a run, since they take a second each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shared.template import TemplateArrays
    from tests.flame_files import FlameFiles


@pytest.fixture(scope="session")
def flame_2020(tmp_path_factory: pytest.TempPathFactory) -> FlameFiles:
    """Written files of FLAME 2020; leave them as they are."""
    from tests.flame_files import write_flame_files

    return write_flame_files(tmp_path_factory.mktemp("flame_2020"))


@pytest.fixture(scope="session")
def flame_2023(tmp_path_factory: pytest.TempPathFactory) -> FlameFiles:
    """Written files of FLAME 2023; leave them as they are."""
    from tests.flame_files import write_flame_files

    return write_flame_files(tmp_path_factory.mktemp("flame_2023"), version="2023")


@pytest.fixture(scope="session")
def flame_template(flame_2020: FlameFiles) -> TemplateArrays:
    """FLAME 2020 with RGBAvatar's teeth and eyelids, read from those files, not installed."""
    from avatars.templates.flame import read_flame

    return read_flame(flame_2020.model, uv=flame_2020.uv, eyelids=flame_2020.eyelids, teeth="rgbavatar")
