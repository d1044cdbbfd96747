"""The zip in real windows, Python 3.13 and 3.14: it installs, connects, and its panels take typing and clicks."""

from __future__ import annotations

from pathlib import Path

from tests.windows.conftest import Open

SCRIPTS = Path(__file__).parent / "scripts"
PYTHONS = {"4.3": "3.13", "5.2": "3.14"}


def test_an_avatar_is_added_with_the_mouse_and_a_name_is_typed(open_blender: Open, backend: str) -> None:
    blender = open_blender()
    found = blender.run(SCRIPTS / "sidebar.py", address=backend)
    assert found["python"] == PYTHONS[blender.version]
    assert "/mnt/user/extensions/" in found["zmq"], "pyzmq comes from the extension's wheels"
    assert found["avatars"] == ["tiny"]
    assert found["address"] == backend.replace("127.0.0.1", "localhost")
    assert found["connected_to"] == found["address"]
    assert found["after_disabling"] == {"panels": [], "handlers": 0, "threads": 0, "properties": False}
    assert (blender.folder / "out" / "sidebar.png").stat().st_size > 10_000
