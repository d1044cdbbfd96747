"""A FLAME head in Blender: bones, wide sliders, the pose read back, and the picture of a real backend."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from blender_addon.services import animation, pose_read, pose_write, rig_build, rig_info
from shared import template

from . import people, shots
from .conftest import ROOT, backend_python, start_backend


@pytest.fixture(scope="module")
def flame_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a FLAME template, a head on it and a tracked recording, made in the backend's Python."""
    home = tmp_path_factory.mktemp("flame")
    code = (
        "import sys, pathlib, numpy as np; from tests import flame_avatar as f, insta_files as i\n"
        "from avatars.templates.opening import reference_of; home = pathlib.Path(sys.argv[1])\n"
        "f.tiny_flame_avatar(home); t = i.write_insta_folder(home / 'insta', reference_of('flame2020_rgbavatar'))\n"
        "np.savez(home / 'truth.npz', expression=t.expression, jaw=t.jaw)"
    )
    done = subprocess.run(
        [backend_python(), "-c", code, str(home)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def flame(flame_home: Path) -> template.TemplateArrays:
    return template.load_template(flame_home / "templates" / "flame2020_rgbavatar.npz")


def flame_detail(flame: template.TemplateArrays):
    return people.detail(flame, groups=tuple(flame.faces))


def read(bpy, rig_object):
    return next(iter(pose_read.read_avatars(bpy.context.evaluated_depsgraph_get())))


def test_bones_sliders_and_pose_of_a_flame_head(addon, flame) -> None:
    rig_object = rig_build.add_avatar(addon.context, flame_detail(flame))
    bones = rig_object.data.bones
    assert [bone.name for bone in bones] == ["root", "neck", "jaw", "left_eye", "right_eye"]
    assert bones["neck"].tail_local.z > bones["neck"].head_local.z + 0.1, "it points up, as it carries the head"
    assert bones["jaw"].tail_local.y < bones["jaw"].head_local.y - 0.05
    keys = rig_info.proxy_of(rig_object).data.shape_keys.key_blocks
    assert len(keys) == 103
    assert (keys["exp000"].slider_min, keys["exp000"].slider_max) == (-5, 5)
    assert keys["eyelid_left"].slider_max == pytest.approx(1.5)
    rng = np.random.default_rng(0)
    rotations, translation = rng.normal(0, 0.4, (5, 3)), np.array([0.1, -0.2, 0.3])
    pose_write.set_pose(rig_object, rotations, translation)
    pose_write.set_expressions(rig_object, {"exp000": -2.5, "exp099": 3.5, "eyelid_right": 0.5})
    state = read(addon, rig_object)
    np.testing.assert_allclose(state.rotations, rotations, atol=1e-5)
    np.testing.assert_allclose(state.translation, translation, atol=1e-5)
    assert state.expression[[0, 99, 101]].tolist() == pytest.approx([-2.5, 3.5, 0.5])

    # Blender's own skinning of the proxy is the template's, without the pose correctives.
    expression = np.zeros(102)
    expression[[0, 99, 101]] = -2.5, 3.5, 0.5
    vertices, _ = template.rest(flame, expression=expression)
    skinning, _ = template.joint_transforms(rotations, flame.joints, flame.parents, translation)
    depsgraph = addon.context.evaluated_depsgraph_get()
    mesh = rig_info.proxy_of(rig_object).evaluated_get(depsgraph).to_mesh()
    posed = np.empty((len(vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", posed.reshape(-1))
    np.testing.assert_allclose(posed, template.skin(vertices, flame.weights, skinning), atol=2e-4)


def test_the_example_performance_moves_neck_jaw_and_lids(addon, flame) -> None:
    rig_object = rig_build.add_avatar(addon.context, flame_detail(flame))
    animation.key_performance(rig_object, addon.context.scene, 1, 24)
    states = []
    for frame in range(1, 25):
        addon.context.scene.frame_set(frame)
        states.append(read(addon, rig_object))
    rotations = np.stack([state.rotations for state in states])
    assert np.abs(rotations[:, 1]).max() > 0.1, "the neck turns the head"
    assert rotations[:, 2, 0].max() > 0.1, "the jaw opens"
    assert max(state.expression[-1] for state in states) > 0.3, "a blink"


def test_a_flame_avatar_of_a_real_backend_is_linked_and_rendered(addon, flame_home, monkeypatch, tmp_path) -> None:
    backend = start_backend(flame_home)
    try:
        monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
        shots.set_up(addon, avatar_id="flame")
        rig_object = addon.context.scene.objects["flame"]
        keys = rig_info.proxy_of(rig_object).data.shape_keys.key_blocks
        assert keys["exp024"].slider_max == 5
        addon.context.scene.render.film_transparent = True
        still = shots.render_exr(tmp_path / "still.exr")["Combined"]
        assert still[..., 3].max() > 0.9
        pose_write.set_expressions(rig_object, {"exp024": 3.0})
        opened = shots.render_exr(tmp_path / "open.exr")["Combined"]
        assert np.abs(opened - still).max() > 0.1
        # A tracker's folder: its .frame files are torch's, so the backend reads them.
        addon.context.scene.render.fps = 25
        addon.ops.effigy.import_motion(filepath=str(flame_home / "insta"), start=1)
        with np.load(flame_home / "truth.npz") as truth:
            for frame in (0, 4):
                addon.context.scene.frame_set(1 + frame)
                found = read(addon, rig_object)
                np.testing.assert_allclose(found.expression[:100], truth["expression"][frame], atol=1e-3)
                jaw = truth["jaw"][frame]
                np.testing.assert_allclose(found.rotations[2], (jaw[0], -jaw[2], jaw[1]), atol=1e-3)
    finally:
        backend.stop()
