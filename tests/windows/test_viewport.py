"""Avatars in real 3D views: hidden by what is before them, hiding what is behind; loss and return; playblast."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.windows.conftest import Open
from tests.windows.session import running_backend, start_backend, stop_backend

SCRIPTS = Path(__file__).parent / "scripts"
LIGHTS = ("captured", "sunset", "city", "point_left", "point_right", "area_and_sun", "lamps_off", "own_captured")


class MortalBackend:
    """A backend that is killed and started again when the script asks for it by a file in its output folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process, self.address = start_backend(home)
        self._over = threading.Event()

    def obey(self, out: Path) -> None:
        """Until close()."""
        while not self._over.wait(0.05):
            if (out / "kill_backend").exists():
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                (out / "kill_backend").unlink()
            if (out / "start_backend").exists():
                self.process, _ = start_backend(self.home, address=self.address)
                (out / "start_backend").unlink()

    def close(self) -> None:
        """End it."""
        self._over.set()
        stop_backend(self.process)


@pytest.fixture
def mortal_backend(tmp_path: Path) -> MortalBackend:
    """With the avatar 'tiny'."""
    from tests.tiny import tiny_avatar

    home = tmp_path / "mortal"
    (home / "library").mkdir(parents=True)
    tiny_avatar(home / "library", gaussians=4000)
    made = MortalBackend(home)
    yield made
    made.close()


@pytest.fixture
def lit_backend(tmp_path: Path) -> Iterator[str]:
    """With 'painted', a person of painted materials."""
    from avatars.avatar_folder import About, save_avatar
    from tests.avatars.relit_files import painted_avatar

    home = tmp_path / "lit"
    (home / "library").mkdir(parents=True)
    preview = np.full((8, 8, 4), 128, np.uint8)
    save_avatar(home / "library" / "painted.avatar", painted_avatar(8000, 4), About("Painted"), preview)
    with running_backend(home) as address:
        yield address


@pytest.mark.timeout(600)
def test_lamps_and_hdris_light_a_person_from_where_they_are(open_blender: Open, lit_backend: str) -> None:
    blender = open_blender()
    if blender.version != "4.3":
        pytest.skip("what is sent is the same in every version")
    found = blender.run(SCRIPTS / "relit.py", "painted", address=lit_backend, timeout_s=500)
    assert found.pop("faults") == []
    lit = {name: np.array(found[name], float) for name in LIGHTS}
    left, right = (lit["point_left"][side].mean() / lit["point_right"][side].mean() for side in (0, 1))
    assert left > 1.1, "its right side, on the left of the view, is nearer to the first lamp"
    assert right < 1 / 1.1
    for name in ("sunset", "city", "point_left", "area_and_sun"):
        assert lit[name].mean() > 2 * lit["lamps_off"].mean()
    assert np.abs(lit["sunset"] / lit["sunset"].mean() - lit["city"] / lit["city"].mean()).max() > 0.03, "another hue"
    np.testing.assert_allclose(lit["own_captured"], lit["captured"], atol=3)


@pytest.mark.timeout(700)
def test_views_of_avatars(open_blender: Open, mortal_backend: MortalBackend) -> None:
    blender = open_blender()
    out = blender.folder / "out"
    helper = threading.Thread(target=mortal_backend.obey, args=(out,), daemon=True)
    helper.start()
    begin = time.monotonic()
    shadings = ["wireframe", "xray", "cycles", "cycles_bare"]
    if blender.version == "4.3":  # EEVEE's shaders take software GL half a minute in 5.2
        shadings.append("material")
    if os.environ.get("EFFIGY_EEVEE"):
        shadings += ["eevee"] if "material" in shadings else ["material", "eevee"]
    found = blender.run(SCRIPTS / "viewport.py", "tiny", *shadings, address=mortal_backend.address, timeout_s=600)
    print(f"\nBlender {blender.version}, {time.monotonic() - begin:.0f} s: handler median {found['median_ms']} ms")
    print(f"found again after {found['found_again_s']:.2f} s, picture after {found['picture_again_s']:.2f} s")
    assert found["faults"] == []
    assert found["proxy_hidden"] is True
    # solid, panned, orthographic and the shadings were checked where they were seen; a late picture follows the view
    assert set(shadings) <= set(found)
    before, after = (np.array(colour, int) for colour in found["moved"])
    assert np.abs(before - after).max() < 60, "the face is still under the point it was under"
    assert len(found["two_views"]) == 2
    for colour in found["two_views"]:
        assert colour[0] > colour[2] + 20, "both views show the face"
    assert "The backend is away: this is the last picture" in found["banner"][0]
    assert found["while_lost"]["face"][0] > found["while_lost"]["face"][2] + 20, "the last picture stays"
    assert found["found_again_s"] < 30, "it is found again by itself"
    # no meshes in the engine's view: the World, linear 0.3 shown as sRGB
    np.testing.assert_allclose(found["rendered"]["behind"], (0, 148, 0), atol=12)
    assert found["rendered"]["before"][0] > found["rendered"]["before"][2] + 20, "the face is all there"
    assert found["playblast_PNG"] == found["playblast_MP4"] == ["FINISHED"]
    assert found["files"] == ["0001.png", "0002.png", "playblast_MP4.mp4"]
    picture = np.asarray(Image.open(out / "playblast_PNG" / "0001.png").convert("RGB"), int)
    assert picture.shape == (240, 320, 3)
    pink = (picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] > 200)
    skin = (picture[..., 0] > picture[..., 2] + 25) & (picture[..., 1] > 80)
    assert pink.sum() > 300
    assert skin.sum() > 500
    assert (out / "playblast_MP4.mp4").stat().st_size > 1000
