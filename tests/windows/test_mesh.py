"""A signed-distance body trained from the panel, and Mesh into Scene: clicked in one real window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.windows.conftest import SCRIPTS, Open
from tests.windows.session import running_backend

pytestmark = pytest.mark.timeout(800)


def test_a_body_is_trained_watched_added_and_made_a_mesh(open_blender: Open, tmp_path: Path) -> None:
    blender = open_blender()
    if blender.version != "4.3":
        pytest.skip("once is enough; the mesh's own tests run in every Blender")
    home = tmp_path / "data"
    (home / "library").mkdir(parents=True)
    scripts = [SCRIPTS / f"{name}.py" for name in ("train_surface", "mesh")]
    words = ("walker", str(blender.folder / "out"))
    with running_backend(home) as address:
        results = blender.run(scripts[0], *words, then=scripts[1:], address=address, timeout_s=650)
    trained, found = results["train_surface"], results["mesh"]
    assert trained["job"][0] == "done", trained["job"]
    assert np.std(trained["seen_learning"]) > 0, "the preview is a picture"
    apart = np.abs(np.subtract(trained["chest"], trained["beside"]))
    assert apart.max() > 25, "the finished person stands in the scene"
    assert trained["faults"] == []
    assert found["faces"] > 2500
    assert found["textures"] == ["walker colour"]
    assert found["keys"] > 50, "expressions came along"
    assert found["uv"] == 1
    assert found["faults"] == []
    on_mesh, on_avatar = found["chests"]
    assert max(abs(a - b) for a, b in zip(on_mesh, on_avatar, strict=True)) < 60, "both show the same colours"
    for picture in ("surface_form", "surface_training", "surface_done", "surface_avatar", "mesh_made"):
        assert (blender.folder / "out" / f"{picture}.png").stat().st_size > 10_000
