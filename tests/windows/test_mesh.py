"""Mesh into Scene, clicked in a real window: a person with a mesh of their own becomes an ordinary one beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.avatars.surface_body.people import write_person
from tests.windows.conftest import SCRIPTS, Open
from tests.windows.session import running_backend

pytestmark = pytest.mark.timeout(300)


def test_the_button_brings_the_mesh(open_blender: Open, tmp_path: Path) -> None:
    blender = open_blender()
    if blender.version != "4.3":
        pytest.skip("once is enough; the mesh's own tests run in every Blender")
    home = tmp_path / "data"
    (home / "library").mkdir(parents=True)
    write_person(home / "library")
    with running_backend(home) as address:
        found = blender.run(SCRIPTS / "mesh.py", "walker", str(blender.folder / "out"), address=address)
    assert found["faces"] > 2500
    assert found["textures"] == ["Walker colour"]
    assert found["keys"] > 50, "expressions came along"
    assert found["uv"] == 1
    assert found["faults"] == []
    on_mesh, on_avatar = found["chests"]
    assert max(abs(a - b) for a, b in zip(on_mesh, on_avatar, strict=True)) < 60, "both show the same colours"
    assert (blender.folder / "out" / "mesh_made.png").stat().st_size > 10_000
