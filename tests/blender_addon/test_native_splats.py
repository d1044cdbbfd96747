"""Native splats: the documented attributes, their colour encoding, and following the pose.

No Blender with splats is at hand, so a stand-in of its PointCloud, strict about what field notes document, takes the
place of the data-block; what it stands for is listed in `FakePointCloud`.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from blender_addon.logic import splat_attributes
from blender_addon.services import animation, native_splats, pose_write
from blender_addon.services.connection import CONNECTION
from blender_addon.services.rig_info import avatar_of
from shared import errors, messages

from . import shots

WIDTHS = {"FLOAT_VECTOR": 3, "QUATERNION": 4, "FLOAT4": 4}


class FakeAttribute:
    def __init__(self, owner: FakePointCloud, name: str, data_type: str) -> None:
        self.owner, self.name, self.data_type, self.domain, self.values = owner, name, data_type, "POINT", None
        self.data = self

    def foreach_set(self, member: str, values: Any) -> None:
        assert member == {"FLOAT_VECTOR": "vector", "QUATERNION": "value", "FLOAT4": "vector"}[self.data_type]
        assert isinstance(values, np.ndarray)
        assert values.dtype == np.float32
        assert values.dtype.byteorder in "=|", "another layout is read value by value"
        assert values.flags.c_contiguous
        assert values.shape == (self.owner.count * WIDTHS[self.data_type],)
        self.values = values.copy()


class FakeAttributes(dict):
    def __init__(self, owner: FakePointCloud) -> None:
        super().__init__(position=FakeAttribute(owner, "position", "FLOAT_VECTOR"))
        self.owner = owner

    def __iter__(self) -> Any:
        return iter(list(self.values()))

    def new(self, name: str, data_type: str, domain: str) -> FakeAttribute:
        assert domain == "POINT"
        assert data_type in WIDTHS
        assert name not in self.keys()
        self[name] = FakeAttribute(self.owner, name, data_type)
        return self[name]

    def remove(self, attribute: FakeAttribute) -> None:
        assert attribute.name != "position", "Blender's own"
        del self[attribute.name]


class FakePointCloud:
    """resize, type, attributes by name (POINT domain), foreach_set of flat float32, update_tag."""

    def __init__(self) -> None:
        self.count, self.type, self.tagged = 0, "POINT", 0
        self.attributes = FakeAttributes(self)

    def resize(self, count: int) -> None:
        self.count = count

    def update_tag(self) -> None:
        self.tagged += 1


def cloud(count: int, coefficients: int = 1) -> messages.GaussianCloud:
    random = np.random.default_rng(count)
    quats = random.normal(size=(count, 4)).astype(np.float32)
    return messages.GaussianCloud(
        "v",
        random.normal(size=(count, 3)).astype(np.float32),
        quats / np.linalg.norm(quats, axis=-1, keepdims=True),
        random.random((count, 3)).astype(np.float32),
        random.random(count).astype(np.float32),
        random.normal(size=(count, coefficients, 3)).astype(np.float32),
    )


def test_the_documented_attributes_are_written() -> None:
    data, source = FakePointCloud(), cloud(7, 4)
    splat_attributes.fill(data, source)
    assert (data.type, data.count, data.tagged) == ("GAUSSIAN_SPLAT", 7, 1)
    found = {each.name: each.data_type for each in data.attributes}
    assert found == {
        "position": "FLOAT_VECTOR",
        "scale": "FLOAT_VECTOR",
        "rotation": "QUATERNION",
        "radiance:base": "FLOAT4",
        "radiance:sh_0": "FLOAT_VECTOR",
        "radiance:sh_1": "FLOAT_VECTOR",
        "radiance:sh_2": "FLOAT_VECTOR",
    }
    values = {each.name: each.values.reshape(7, -1) for each in data.attributes}
    np.testing.assert_array_equal(values["position"], source.means)
    np.testing.assert_array_equal(values["scale"], source.scales)  # linear standard deviations
    np.testing.assert_array_equal(values["rotation"], source.quats)  # w x y z
    np.testing.assert_array_equal(values["radiance:base"][:, :3], source.harmonics[:, 0])
    np.testing.assert_array_equal(values["radiance:base"][:, 3], source.opacities)  # activated, 0..1
    np.testing.assert_array_equal(values["radiance:sh_1"], source.harmonics[:, 2])


def test_counts_and_degrees_may_change() -> None:
    data = FakePointCloud()
    for count, coefficients in ((7, 9), (3, 1), (0, 1), (5, 4)):
        splat_attributes.fill(data, cloud(count, coefficients))
        assert data.count == count
        assert len([each for each in data.attributes if each.name.startswith("radiance:sh_")]) == coefficients - 1
    data.attributes["scale"].data_type = "FLOAT4"  # something else had that name
    splat_attributes.fill(data, cloud(4))
    assert data.attributes["scale"].data_type == "FLOAT_VECTOR"


def test_colours_decode_to_what_the_picture_shows(scene_with_avatar, tmp_path) -> None:
    """Blender's rule (harmonics + 0.5 is sRGB, then linear) gives the colours of the backend's own picture."""
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    picture = shots.render_exr(tmp_path / "p.exr")["Combined"]
    alpha = picture[..., 3]
    mean = picture[alpha > 0.9][:, :3].mean(0)
    data = FakePointCloud()
    fill_for_render(scene_with_avatar, data)
    base = data.attributes["radiance:base"].values.reshape(-1, 4)
    encoded = 0.5 + 0.28209479 * base[:, :3]
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((np.maximum(encoded, 0) + 0.055) / 1.055) ** 2.4)
    assert (base[:, 3] > 0.5).all(), "opacities are activated"
    assert (linear.min(0) < mean).all()
    assert (mean < linear.max(0)).all()
    assert np.abs(linear.mean(0) - mean).max() < 0.25


def fill_for_render(bpy_module: Any, data: FakePointCloud) -> native_splats.Follower:
    """What the handler does while Blender renders, on an object that stands for the point cloud."""
    avatar = next(avatar_of(o) for o in bpy_module.context.scene.objects if avatar_of(o) is not None)
    item = SimpleNamespace(name="splats", type="POINTCLOUD", data=data, effigy=SimpleNamespace(splats_of=avatar))
    follower = native_splats.Follower()
    follower.clouds = lambda scene: [item]
    follower.render(bpy_module.context.scene, bpy_module.context.evaluated_depsgraph_get())
    return follower


def test_the_cloud_follows_the_pose_and_is_asked_for_only_when_it_changes(scene_with_avatar, monkeypatch) -> None:
    context = scene_with_avatar.context
    data = FakePointCloud()
    follower = fill_for_render(scene_with_avatar, data)
    first = data.attributes["position"].values
    assert data.count > 100
    assert data.tagged == 1
    follower.render(context.scene, context.evaluated_depsgraph_get())
    assert data.tagged == 1, "nothing changed"
    avatar = next(avatar_of(o) for o in context.scene.objects if avatar_of(o) is not None)
    avatar.location.x = 3.0
    follower.render(context.scene, context.evaluated_depsgraph_get())
    assert data.tagged == 1, "the object's own place is Blender's to apply"
    pose_write.set_expressions(avatar, {"jawOpen": 1.0})
    follower.render(context.scene, context.evaluated_depsgraph_get())
    assert data.tagged == 2
    assert np.abs(data.attributes["position"].values - first).max() > 0.005


def test_gaussians_are_in_the_avatars_own_axes(scene_with_avatar) -> None:
    context = scene_with_avatar.context
    avatar = next(avatar_of(o) for o in context.scene.objects if avatar_of(o) is not None)
    proxy = avatar.children[0]
    data = FakePointCloud()
    avatar.location, avatar.rotation_euler = (1.0, 2.0, 3.0), (0.3, 0.2, 0.1)
    fill_for_render(scene_with_avatar, data)
    points = data.attributes["position"].values.reshape(-1, 3)
    mesh = proxy.evaluated_get(context.evaluated_depsgraph_get()).to_mesh()
    vertices = np.array([vertex.co[:] for vertex in mesh.vertices])
    assert (points.min(0) > vertices.min(0) - 0.05).all()
    assert (points.max(0) < vertices.max(0) + 0.05).all()
    assert np.abs(points.mean(0) - vertices.mean(0)).max() < 0.1


def test_where_blender_has_none_it_is_one_sentence(scene_with_avatar) -> None:
    if native_splats.has_kind():
        assert native_splats.why_not() == ""
        pytest.skip("this Blender has splats")
    with pytest.raises(RuntimeError, match="no Gaussian splats of its own"):
        scene_with_avatar.ops.effigy.native_splats()
    with pytest.raises(errors.EffigyError, match=r"5\.3"):
        native_splats.add(scene_with_avatar.context, avatar_of(scene_with_avatar.context.object))
    assert not bpy.data.pointclouds


def test_real_point_clouds_take_the_attributes_they_know(addon) -> None:
    """Where PointCloud.resize exists (5.1 and newer): everything but the splats' own kind and four floats."""
    if "resize" not in bpy.types.PointCloud.bl_rna.functions:
        pytest.skip("PointCloud.resize came after this Blender")
    data = bpy.data.pointclouds.new("try")
    source = cloud(5)
    data.resize(5)
    for name, (kind, values) in splat_attributes.attributes(source).items():
        kinds = bpy.types.Attribute.bl_rna.properties["data_type"].enum_items
        if kind not in kinds:
            continue
        attribute = data.attributes.get(name) or data.attributes.new(name, kind, "POINT")
        attribute.data.foreach_set(splat_attributes.MEMBERS[kind], values)
        back = np.empty_like(values)
        attribute.data.foreach_get(splat_attributes.MEMBERS[kind], back)
        np.testing.assert_array_equal(back, values)
    assert len(data.points) == 5


def test_the_window_asks_without_waiting_and_takes_what_arrives(scene_with_avatar) -> None:
    context = scene_with_avatar.context
    avatar = next(avatar_of(o) for o in context.scene.objects if avatar_of(o) is not None)
    data = FakePointCloud()
    item = SimpleNamespace(name="splats", type="POINTCLOUD", data=data, effigy=SimpleNamespace(splats_of=avatar))
    follower = native_splats.Follower()
    follower.clouds = lambda scene: [item]
    animation.world_from_hdri(context.scene, animation.studio_light_files()["sunset"])
    try:
        follower.ask(context.scene, context.evaluated_depsgraph_get())
        assert data.count == 0, "nothing was waited for"
        deadline = time.monotonic() + 120
        while follower.take(context.scene) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert data.count > 100
        assert data.tagged == 1
        lit = data.attributes["radiance:base"].values
        follower.ask(context.scene, context.evaluated_depsgraph_get())
        assert not follower.take(context.scene), "nothing new to ask for"
        context.scene.effigy.light = "CAPTURED"
        follower.ask(context.scene, context.evaluated_depsgraph_get())
        while follower.take(context.scene) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert np.abs(data.attributes["radiance:base"].values - lit).max() > 0.05, "the sunset is gone"
    finally:
        CONNECTION.disconnect()
