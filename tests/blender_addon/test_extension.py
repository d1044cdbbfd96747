"""The extension zip: same bytes each time, accepted and run by a real Blender from its own copy of everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from blender_addon import build

PROBE = """
import bpy  # puts its own modules on the path
import os, sys, addon_utils
# The bpy module starts without the user's preferences, so what was enabled on installing is enabled here again.
assert addon_utils.enable("bl_ext.user_default.effigy", default_set=True)
effigy = sys.modules["bl_ext.user_default.effigy"]
from bl_ext.user_default.effigy.services import backend, preferences
assert preferences.preferences().address == "tcp://127.0.0.1:47615"
client = backend.new_client(preferences.settings(bpy.context.scene), "probe")
client.close()
assert type(client).__module__ == "bl_ext.user_default.effigy.shared.client", type(client).__module__
assert "shared" not in sys.modules and "blender_addon" not in sys.modules
scene = bpy.context.scene
scene.render.engine = "EFFIGY"
scene.render.resolution_x = scene.render.resolution_y = 16
scene.camera = bpy.data.objects.new("C", bpy.data.cameras.new("C"))
scene.collection.objects.link(scene.camera)
scene.render.filepath = sys.argv[1]
bpy.ops.render.render(write_still=True)
folder = os.path.join(os.path.dirname(sys.argv[1]), "capture")
bpy.ops.effigy.synthesise_capture(folder=folder, frames=1, cameras=1, size_px=16, samples=1, strands=200)
assert os.path.isfile(os.path.join(folder, "capture.json"))
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.effigy")
assert not hasattr(bpy.types.Scene, "effigy")
print("PROBE DONE")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    try:
        return build.build(tmp_path_factory.mktemp("dist"), [build.current_platform()], build.ROOT / "build" / "wheels")
    except build.BuildError as error:
        if "pip could not download" in str(error):
            pytest.skip(f"the wheels cannot be had here: {error}")
        raise


def test_building_again_gives_the_same_bytes(archive, tmp_path) -> None:
    again = build.build(tmp_path, [build.current_platform()], build.ROOT / "build" / "wheels")
    assert again.read_bytes() == archive.read_bytes()


def test_blender_accepts_installs_enables_and_renders(archive, tmp_path) -> None:
    validator = Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    done = subprocess.run([sys.executable, validator, "validate", archive], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Away from the repository and without its path, as on a user's machine.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "EFFIGY_ADDRESS", "EFFIGY_KEY"}
    } | {"BLENDER_USER_RESOURCES": str(tmp_path / "user")}
    arguments = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    installer = f"import sys; sys.path.append({str(build.ROOT)!r}); from blender_addon.build import *; "
    installer += f"install(Path({str(archive)!r}), sys.executable)"
    done = subprocess.run([sys.executable, "-c", installer], check=False, **arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    picture = str(tmp_path / "picture.png")
    done = subprocess.run([sys.executable, "-c", PROBE, picture], check=False, **arguments)
    assert "PROBE DONE" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "picture.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"wheels/other-1-cp311-none.whl": b""}, "not the packed ones"),
        ({"engine.py": b"from shared import types"}, "engine.py imports shared by an absolute name"),
        ({"LICENSE": None}, "lacks LICENSE"),
    ],
)
def test_a_package_that_would_not_work_is_refused(archive, change, sentence) -> None:
    import zipfile

    with zipfile.ZipFile(archive) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    for name, value in change.items():
        content.pop(name, None)
        if value is not None:
            content[name] = value
    with pytest.raises(build.BuildError, match=sentence):
        build.check(content)


def test_a_zip_of_abi3_wheels_alone_is_refused() -> None:
    content = {
        "blender_manifest.toml": build.manifest_text(
            "1.0.0", ["linux-x64"], ["pyzmq-27-cp311-cp311-x.whl", "pyzmq-27-cp312-abi3-x.whl"]
        ).encode(),
        "wheels/pyzmq-27-cp311-cp311-x.whl": b"",
        "wheels/pyzmq-27-cp312-abi3-x.whl": b"",
    }
    with pytest.raises(build.BuildError, match=r"cp313.*Python 3\.13"):
        build.check(content)
