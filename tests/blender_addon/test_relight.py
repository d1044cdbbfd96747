"""An avatar with materials in Blender: it is lit from where Cycles lights its proxy from, and its passes come along.

Light over pi (what a white matt surface would show) is the diffuse pass over albedo and occlusion; Cycles gives the
same of the proxy mesh in white.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Euler, Vector

from blender_addon.logic import passes
from blender_addon.services.rig_info import proxy_of
from blender_addon.ui import panels_relight
from blender_addon.viewport import contents, overlay

from . import shots
from .conftest import ROOT, RealBackend, backend_python, start_backend
from .drawn import draw
from .test_lamps import add_light, cycles, white

SIZE = 160
RIM_PX = 3  # surfels smaller than a pixel are drawn a pixel wide and reach over rims by some
MAKE = """
import sys
from pathlib import Path
import numpy as np
from avatars.avatar_folder import About, save_avatar
from tests.avatars.relit_files import painted_avatar
avatar = painted_avatar(12000, 2)
avatar.probes = None
save_avatar(Path(sys.argv[1]) / "bare.avatar", avatar, About("Bare"), np.full((8, 8, 4), 128, np.uint8))
"""


@pytest.fixture(scope="module")
def relit_backend(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBackend]:
    """A backend that has the head 'tiny' and 'bare', a person of painted materials and without what hides the light."""
    home = Path(shutil.copytree(library, tmp_path_factory.mktemp("relit") / "home"))
    command = [backend_python(), "-c", MAKE, str(home / "library")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    running = start_backend(home)
    yield running
    running.stop()


@pytest.fixture
def person(addon: object, relit_backend: RealBackend, monkeypatch: pytest.MonkeyPatch) -> object:
    """The bare person's armature, moved and turned, a camera before it, and the World black. Nothing casts shadows."""
    monkeypatch.setenv("EFFIGY_ADDRESS", relit_backend.address)
    shots.set_up(addon, SIZE, "bare")
    item = bpy.context.object
    proxy_of(item).visible_shadow = False
    item.location, item.rotation_euler.z = (0.7, 0.4, 0.3), 0.5
    lens = bpy.data.cameras.new("Lens")
    lens.lens = 78.0
    eye = bpy.data.objects.new("Eye", lens)
    eye.location, eye.rotation_euler = (0.7, -4.2, 1.3), (np.pi / 2, 0, 0)
    bpy.context.scene.collection.objects.link(eye)
    bpy.context.scene.camera = eye
    cycles(samples=32, size=SIZE)
    return item


def effigy_light(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Light over pi [H, W, 3] that the backend's avatar gets, and where it is seen [H, W]."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.render.engine, scene.effigy.light = "EFFIGY", "WORLD"
    for name in ("diffuse", "albedo", "metallic", "occlusion", "mask"):
        setattr(layer.effigy, f"use_pass_{name}", True)
    found = shots.render_exr(folder / "effigy.exr")
    cover = found["Mask"][..., :1]
    seen = cover > 0.97
    share = (1 - found["Metallic"] / np.maximum(cover, 1e-3)) * found["Occlusion"] / np.maximum(cover, 1e-3)
    seen &= share > 0.3
    return found["Diffuse"] / np.maximum(found["Albedo"] * share, 1e-3), seen[..., 0]


def cycles_light(item: object, folder: Path) -> np.ndarray:
    """What Cycles shows of the proxy mesh in white, [H, W, 4]."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    proxy = proxy_of(item)
    kept = list(proxy.data.materials)
    white(proxy)
    picture = shots.render_exr(folder / "cycles.exr", single=True)
    proxy.data.materials.clear()
    for material in kept:
        proxy.data.materials.append(material)
    return picture


def inside(mask: np.ndarray) -> np.ndarray:
    """What of a mask is RIM_PX away from its rim."""
    kept = mask.copy()
    for rows in range(-RIM_PX, RIM_PX + 1):
        for columns in range(-RIM_PX, RIM_PX + 1):
            kept &= np.roll(mask, (rows, columns), (0, 1))
    return kept


def compare(item: object, folder: Path) -> tuple[float, float, float]:
    """Correlation, ratio of brightness where Cycles is bright, and distance of the light's centroids as a share of the
    picture."""
    ours, seen = effigy_light(folder)
    truth = cycles_light(item, folder)
    both = seen & inside(truth[..., 3] > 0.97)
    assert both.sum() > 900
    ours, truth = ours.mean(-1), truth[..., :3].mean(-1)
    bright = both & (truth > 0.4 * np.percentile(truth[both], 98))
    correlation = float(np.corrcoef(ours[both], truth[both])[0, 1])
    rows, columns = np.nonzero(both)
    places = np.stack([rows, columns], -1) / SIZE
    centres = [(places * image[both][:, None]).sum(0) / image[both].sum() for image in (ours, truth)]
    return correlation, float(np.median(ours[bright] / truth[bright])), float(np.linalg.norm(centres[0] - centres[1]))


def texel_world(towards: np.ndarray, turn: tuple[float, float, float]) -> None:
    """A World whose only light is one texel, so that after the Mapping node's turn it shines from `towards`."""
    looked_up = np.array(Euler(turn).to_matrix()) @ towards
    image = bpy.data.images.new("Texel", 64, 32, float_buffer=True)
    pixels = np.zeros((32, 64, 4), np.float32)
    pixels[..., 3] = 1
    u = 0.5 - np.arctan2(looked_up[1], looked_up[0]) / (2 * np.pi)
    v = 0.5 + np.arcsin(looked_up[2]) / np.pi  # Blender's row 0 is the bottom
    pixels[int(v * 32), int(u * 64) % 64, :3] = 400.0
    image.pixels.foreach_set(pixels.reshape(-1))
    image.pack()
    world = bpy.data.worlds.new("Texel")
    if world.node_tree is None:
        world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture, mapping, place = (nodes.new(f"ShaderNode{kind}") for kind in ("TexEnvironment", "Mapping", "TexCoord"))
    texture.image, mapping.inputs["Rotation"].default_value = image, turn
    background = next(node for node in nodes if node.type == "BACKGROUND")
    links.new(place.outputs["Generated"], mapping.inputs["Vector"])
    links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
    links.new(texture.outputs["Color"], background.inputs["Color"])
    background.inputs["Strength"].default_value = 1.5
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 256
    bpy.context.scene.world = world


def unit(azimuth_degrees: float, elevation_degrees: float) -> np.ndarray:
    a, e = np.radians((azimuth_degrees, elevation_degrees))
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


TEXELS = {
    "from the right, unturned": (unit(-25, 15), (0.0, 0.0, 0.0)),
    "from the left, turned": (unit(-130, 10), (0.0, 0.0, 2.0)),
    "from above in front, turned": (unit(-80, 50), (0.0, 0.0, -1.1)),
    "from below, turned about all axes": (unit(-60, -35), (0.6, -0.4, 1.3)),
}


def check(name: str, item: object, folder: Path) -> None:
    correlation, ratio, apart = compare(item, folder)
    assert correlation > 0.88, (name, correlation)
    assert 0.93 < ratio < 1.07, (name, ratio)
    assert apart < 0.01, (name, apart)


def test_one_bright_texel_lights_the_side_it_lights_in_cycles(person: object, tmp_path: Path) -> None:
    for name, (towards, turn) in TEXELS.items():
        texel_world(towards, turn)
        check(name, person, tmp_path)


LAMPS = {
    "sun": ("SUN", (2.0, -2.0, 1.5), {"energy": 3.0, "angle": 0.02}),
    "low sun": ("SUN", (-3.0, -2.4, 0.4), {"energy": 3.0, "angle": 0.3}),
    "near point": ("POINT", (1.6, -0.9, 1.7), {"energy": 60.0, "shadow_soft_size": 0.05}),
    "spot": ("SPOT", (-0.6, -1.8, 2.2), {"energy": 200.0, "spot_size": 0.9, "spot_blend": 0.4}),
    "area": ("AREA", (-0.8, -1.2, 1.6), {"energy": 60.0, "shape": "RECTANGLE", "size": 0.7, "size_y": 0.4}),
}


def test_lamps_light_the_avatar_as_they_light_its_proxy(person: object, tmp_path: Path) -> None:
    middle = Vector((0.7, 0.4, 1.2))
    for name, (kind, place, settings) in LAMPS.items():
        item = add_light(kind, Vector(place), **settings)
        item.rotation_euler = (Vector(place) - middle).to_track_quat("Z", "Y").to_euler()
        check(name, person, tmp_path)
        bpy.data.objects.remove(item)


def test_surface_and_light_are_passes_beside_cryptomatte(person: object, tmp_path: Path) -> None:
    add_light("SUN", Vector((1.0, -2.0, 1.0)), energy=3.0)
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.render.engine, scene.effigy.light = "EFFIGY", "WORLD"
    layer.use_pass_cryptomatte_object = True
    for name in passes.SURFACE_PASSES:
        setattr(layer.effigy, f"use_pass_{name}", True)
    found = shots.render_exr(tmp_path / "all.exr")
    assert {"Albedo", "Roughness", "Metallic", "Occlusion", "Diffuse", "Specular", "CryptoObject00"} <= set(found)
    np.testing.assert_allclose(found["Combined"][..., :3], found["Diffuse"] + found["Specular"], atol=5e-3)
    inside_it = found["Combined"][..., 3] > 0.97
    assert found["Specular"][inside_it].max() > 0.01
    assert 0.4 < np.median(found["Roughness"][inside_it]) < 0.9
    assert found["Metallic"][inside_it].max() > 0.5, "the belt"
    assert found["CryptoObject00"][inside_it].any()
    for name in passes.SURFACE_PASSES[1:]:
        setattr(layer.effigy, f"use_pass_{name}", False)
    assert not {"Roughness", "Diffuse", "Specular"} & set(shots.render_exr(tmp_path / "few.exr"))


def test_lamps_join_the_light_that_is_chosen_but_never_the_captured_one(person: object) -> None:
    scene = bpy.context.scene
    lamp = add_light("SUN", Vector((1.0, -2.0, 1.0)), energy=3.0)
    kept = contents.Contents()

    def light() -> Any:
        scene.update_tag()
        bpy.context.view_layer.update()
        kept.frame_changed(bpy.context.evaluated_depsgraph_get())
        return kept.of(scene, bpy.context.view_layer, overlay.choose_light)

    scene.effigy.light = "WORLD"
    first = light()
    assert len(first.lights.beside) == 1
    lamp.rotation_euler.x += 0.3
    second = light()
    assert second.light_stamp != first.light_stamp
    scene.effigy_relight.exposure = 1.0
    np.testing.assert_allclose(light().lights.beside.suns[0, 3:6], 6.0)
    scene.effigy_relight.use_lamps = False
    assert len(light().lights.beside) == 0
    scene.effigy_relight.use_lamps = True
    scene.effigy.light = "CAPTURED"
    assert light().lights.picture is None
    assert contents._matters(lamp.data)
    assert contents._matters(lamp)


def test_an_armature_knows_whether_its_avatar_holds_materials(person: object) -> None:
    assert person.data.effigy.relightable
    bpy.ops.effigy.add_avatar(avatar_id="tiny")
    assert not bpy.context.object.data.effigy.relightable


def test_the_relight_part_follows_the_selected_avatar(person: object) -> None:
    """By what the backend says it holds; the file tells where no backend does."""
    bpy.ops.effigy.add_avatar(avatar_id="tiny")
    head = bpy.context.object
    for avatar, said in ((person, "Bare holds materials"), (head, "tiny holds colours")):
        bpy.context.view_layer.objects.active = avatar
        assert said in " ".join(draw(panels_relight.EFFIGY_PT_relight))
    assert "tiny holds no materials" in " ".join(draw(panels_relight.EFFIGY_PT_relight_passes))
    add_light("SUN", energy=1.0)
    assert panels_relight.shining(bpy.context) == 1
    assert "Choose World" in " ".join(draw(panels_relight.EFFIGY_PT_relight))
    head.data.effigy.relightable = True  # as a head of a later version may be
    assert "tiny holds materials" in " ".join(draw(panels_relight.EFFIGY_PT_relight))
