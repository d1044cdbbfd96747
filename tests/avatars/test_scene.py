"""Whole pictures of one or several avatars: passes, sub-frames, light and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting import environment_irradiance
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.rendering.gsplat_backend import why_unavailable
from avatars.scene import SceneInstance, render_scene
from shared import lamps
from shared.errors import EffigyError
from shared.packed import unpack
from shared.types import CAPTURED, PASS_CHANNELS, Camera, Environment

WIDTH, HEIGHT = 40, 30


@dataclass(frozen=True, eq=False)
class Ball:
    """A ball of small Gaussians; joint 0's rotation about z turns it, expression 0 makes it grow."""

    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    captured_irradiance: Tensor | None = None
    radius_m: float = 0.3
    opacity: float = 0.95

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        frames, count = len(rotations), 600
        where = rotations.device
        index = torch.arange(count, device=where) + 0.5
        z, turn = 1 - 2 * index / count, index * math.pi * (1 + math.sqrt(5))
        around = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], dim=-1)
        angle = rotations[:, 0, 2, None]
        x, y = around[:, 0], around[:, 1]
        normals = torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y, z + 0 * angle], -1)
        size = self.radius_m * (1 + expressions[:, 0])[:, None, None]
        shape = (frames, count)
        return PosedGaussians(
            normals * size + translations[:, None],
            torch.tensor([1.0, 0, 0, 0], device=where).expand(*shape, 4),
            torch.full((*shape, 3), 0.12 * self.radius_m, device=where),
            torch.full(shape, self.opacity, device=where),
            torch.tensor(self.colour, device=where).expand(*shape, 3),
            normals,
        )


def camera(distance_m: float = 2.0, far_m: float = 100.0) -> Camera:
    """In front of the origin (at -y), looking along +y, z up."""
    pose = np.array([[1, 0, 0, 0], [0, 0, 1, -distance_m], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    K = np.array([[50.0, 0, WIDTH / 2], [0, 50.0, HEIGHT / 2], [0, 0, 1]])
    return Camera(WIDTH, HEIGHT, K, pose, far_m=far_m)


def instance(avatar: Ball, *places: tuple[float, float, float], scale: float = 1.0, turn: float = 0.0) -> SceneInstance:
    places = places or ((0.0, 0.0, 0.0),)
    matrices = np.tile(np.eye(4), (len(places), 1, 1))
    matrices[:, :3, :3] *= scale
    matrices[:, :3, 3] = places
    rotations = np.zeros((len(places), 1, 3))
    rotations[..., 2] = turn
    return SceneInstance(avatar, matrices, rotations, np.zeros((len(places), 3)), np.zeros((len(places), 1)))


CENTRE = (HEIGHT // 2, WIDTH // 2)


def test_every_pass_has_its_shape_and_type() -> None:
    images = render_scene([instance(Ball())], [camera()], None, list(PASS_CHANNELS))
    kinds = {"depth": np.float32, "id": np.int32, "packed": np.float32}
    for name, channels in PASS_CHANNELS.items():
        assert images[name].shape == (HEIGHT, WIDTH, channels or 1)
        assert images[name].dtype == kinds.get(name, np.float16)
        assert not images[name][0, 0].any(), f"{name} is not empty in the corner"
    assert float(images["mask"][CENTRE][0]) > 0.98
    assert images["id"][CENTRE][0] == 1
    assert float(images["depth"][CENTRE][0]) == pytest.approx(1.72, abs=0.05)
    np.testing.assert_allclose(images["normal"][CENTRE], [0, -1, 0], atol=0.1)


def test_combined_is_premultiplied_linear() -> None:
    combined = render_scene([instance(Ball((0.5, 0.25, 1.0)))], [camera()], None, ["combined"])["combined"]
    straight = linear_from_srgb(torch.tensor([0.5, 0.25, 1.0])).numpy()
    alpha = combined[..., 3:].astype(np.float32)
    assert ((alpha > 0.05) & (alpha < 0.9)).any()
    np.testing.assert_allclose(combined[..., :3], straight * alpha, rtol=5e-3, atol=2e-3)


def test_passes_asked_alone_are_the_same_as_together() -> None:
    scene = [instance(Ball((0.8, 0.2, 0.1)), (0.1, 0, 0)), instance(Ball(), (-0.2, 0.4, 0))]
    together = render_scene(scene, [camera()], None, list(PASS_CHANNELS))
    for name in PASS_CHANNELS:
        np.testing.assert_array_equal(render_scene(scene, [camera()], None, [name])[name], together[name])


def test_avatars_are_sorted_together_whatever_their_order() -> None:
    near, far = instance(Ball((1.0, 0.0, 0.0)), (0, -0.7, 0)), instance(Ball((0.0, 1.0, 0.0)), (0.6, 0.7, 0))
    first = render_scene([near, far], [camera()], None, ["combined", "id", "depth"])
    second = render_scene([far, near], [camera()], None, ["combined", "id", "depth"])
    np.testing.assert_allclose(first["combined"], second["combined"], atol=2e-3)
    assert first["id"][CENTRE][0] == 1
    assert second["id"][CENTRE][0] == 2
    assert float(first["combined"][CENTRE][0]) > 0.95
    assert set(np.unique(first["id"])) == {0, 1, 2}


def test_subframes_are_averaged_and_depth_is_the_nearest() -> None:
    places = [(-0.3, 0.0, 0.0), (0.3, -0.5, 0.0)]
    moving = render_scene([instance(Ball(), *places)], [camera(), camera()], None, ["combined", "depth", "mask"])
    still = [render_scene([instance(Ball(), place)], [camera()], None, ["combined", "depth"]) for place in places]
    average = sum(image["combined"].astype(np.float32) for image in still) / 2
    np.testing.assert_allclose(moving["combined"], average, atol=2e-3)
    depths = np.stack([image["depth"] for image in still])
    nearest = np.where(depths > 0, depths, np.inf).min(axis=0)
    np.testing.assert_allclose(moving["depth"], np.where(np.isfinite(nearest), nearest, 0), rtol=1e-5)
    np.testing.assert_array_equal(moving["mask"], moving["combined"][..., 3:])
    draft = render_scene([instance(Ball(), *places)], [camera(), camera()], None, ["combined"], quality="draft")
    np.testing.assert_array_equal(draft["combined"], still[1]["combined"])


def test_coverage_tells_every_avatar_of_a_pixel() -> None:
    """What covers a pixel adds up to its alpha, also where avatars overlap, and averages over sub-frames."""
    red, green, blue = Ball((1.0, 0, 0), opacity=0.3), Ball((0, 1.0, 0), opacity=0.3), Ball((0, 0, 1.0))
    scene = [instance(red, (0.15, -0.2, 0)), instance(green, (-0.1, 0.5, 0)), instance(blue, (0.6, 0, 0))]
    images = render_scene(scene, [camera()], None, ["coverage", "mask", "combined"])
    coverage = images["coverage"].astype(np.float32)
    assert coverage.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(coverage.sum(-1), images["mask"][..., 0], atol=2e-3)
    combined = torch.from_numpy(images["combined"].astype(np.float32))
    alpha = combined[..., 3:]
    blended = srgb_from_linear(combined[..., :3] / alpha.clamp(min=1e-3)) * alpha  # each is of one pure colour
    np.testing.assert_allclose(coverage, blended, atol=0.02)
    assert ((coverage > 0.1).sum(-1) >= 2).sum() > 20, "red and green overlap"
    twice = [
        replace_places(item, places) for item, places in zip(scene, (((0.15, -0.2, 0), (0.3, -0.2, 0)), None, None))
    ]
    moved = render_scene(twice, [camera(), camera()], None, ["coverage"])["coverage"].astype(np.float32)
    other = render_scene([instance(red, (0.3, -0.2, 0)), *scene[1:]], [camera()], None, ["coverage"])["coverage"]
    np.testing.assert_allclose(moved, (coverage + other) / 2, atol=2e-3)


def replace_places(item: SceneInstance, places: tuple[tuple[float, float, float], ...] | None) -> SceneInstance:
    """The instance at two instants, at other places or twice where it is."""
    return instance(item.avatar, *(places or (tuple(item.world_from_avatar[0, :3, 3]),) * 2))


def test_a_held_out_avatar_hides_what_is_behind_it_and_is_a_hole_itself() -> None:
    behind, front = instance(Ball((0.8, 0.4, 0.2)), (0.3, 0.7, 0)), instance(Ball(), (-0.25, -0.7, 0))
    hole = replace(front, holdout=True)
    names = list(PASS_CHANNELS)
    alone, whole = (render_scene(scene, [camera()], None, names) for scene in ([behind], [behind, front]))
    held = render_scene([behind, hole], [camera()], None, names)
    both = (HEIGHT // 2, 21)
    assert float(alone["mask"][both][0]) > 0.5
    assert float(held["mask"][both][0]) < 0.01, "nothing is seen through it"
    far = (HEIGHT // 2, 29)  # where only the one behind is
    assert float(alone["mask"][far][0]) > 0.9
    for name in names:
        width = 1 if name == "coverage" else None
        np.testing.assert_allclose(held[name][far][:width], alone[name][far][:width], rtol=2e-3, atol=2e-3)
    shown = whole["coverage"][..., 0].astype(np.float32)
    np.testing.assert_allclose(held["mask"][..., 0], shown, atol=2e-3)  # what the other still shows
    np.testing.assert_allclose(held["coverage"], np.stack([shown, 0 * shown], -1), atol=2e-3)
    edge = (shown > 0.1) & (shown < 0.9)
    np.testing.assert_allclose(held["depth"][edge], alone["depth"][edge], rtol=0.15)
    nothing = render_scene([hole], [camera()], None, names)
    assert all(not image.any() for image in nothing.values())


def test_orthographic_pictures_are_as_large_from_afar() -> None:
    K = np.array([[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]])
    near, far = (replace(camera(distance_m), K=K, orthographic=True) for distance_m in (1.0, 50.0))
    pictures = [render_scene([instance(Ball())], [lens], None, ["combined", "depth", "normal"]) for lens in (near, far)]
    np.testing.assert_allclose(pictures[0]["combined"], pictures[1]["combined"], atol=5e-3)
    covered = pictures[0]["combined"][..., 3] > 0.5
    assert covered[CENTRE[0]].sum() == pytest.approx(30, abs=2), "0.6 m and some of the outer Gaussians, at 40 px per m"
    np.testing.assert_allclose(pictures[1]["depth"][covered] - pictures[0]["depth"][covered], 49, atol=0.02)
    with pytest.raises(EffigyError, match="two kinds"):
        render_scene([instance(Ball(), (0, 0, 0), (0, 0, 0))], [near, camera()], None, ["mask"])


def sky(*, turn_rad: float = 0.0, strength: float = 1.0) -> Environment:
    """Dim from everywhere, bright from +x."""
    radiance = np.full((16, 32, 3), 0.2, np.float32)
    radiance[6:10, 13:19] = 20.0
    return Environment(radiance, turn_rad, strength)


def brightness(images: dict, columns: slice) -> float:
    return float(images["combined"][12:18, columns, 1].astype(np.float32).mean())


LEFT, RIGHT = slice(15, 17), slice(23, 25)


def test_an_avatar_in_a_light_of_its_own_looks_as_if_all_were_in_that_light() -> None:
    even = environment_irradiance(Environment(np.ones((8, 16, 3), np.float32)))
    left, right = ((Ball(captured_irradiance=even), (side, 0.0, 0.0)) for side in (-0.4, 0.4))
    lamp = lamps.ball((0.0, -2.0, 0.0), (4.0, 4.0, 4.0))[None]
    own = replace(sky(turn_rad=math.pi, strength=2.0), lamps=lamp)

    def picture(light: Environment | None, left_light: object = None, right_light: object = None) -> np.ndarray:
        scene = [
            replace(instance(*left), light=left_light),
            replace(instance(*right), light=right_light),
        ]
        return render_scene(scene, [camera()], light, ["combined"])["combined"].astype(np.float32)

    on_left, on_right = slice(0, WIDTH // 2 - 2), slice(WIDTH // 2 + 2, WIDTH)
    all_sky, all_own, as_captured = picture(sky()), picture(own), picture(None)
    assert np.abs(all_sky - all_own)[:, on_right].max() > 0.1
    for mixed, here, there in (
        (picture(sky(), None, own), all_sky, all_own),
        (picture(own, sky()), all_sky, all_own),
        (picture(sky(), None, CAPTURED), all_sky, as_captured),
        (picture(None, None, own), as_captured, all_own),
    ):
        np.testing.assert_allclose(mixed[:, on_left], here[:, on_left], atol=2e-3)
        np.testing.assert_allclose(mixed[:, on_right], there[:, on_right], atol=2e-3)


def test_the_light_of_the_capture_leaves_the_picture_as_it_was() -> None:
    bright = sky()
    ball = Ball(captured_irradiance=environment_irradiance(bright))
    relit = render_scene([instance(ball)], [camera()], bright, ["combined"])["combined"]
    plain = render_scene([instance(ball)], [camera()], None, ["combined"])["combined"]
    np.testing.assert_allclose(relit, plain, atol=1e-3)


def test_new_light_comes_from_where_it_is() -> None:
    even = environment_irradiance(Environment(np.full((8, 16, 3), 1.0, np.float32)))
    ball = Ball(captured_irradiance=even)
    from_right = render_scene([instance(ball)], [camera()], sky(), ["combined"])
    assert brightness(from_right, RIGHT) > 2 * brightness(from_right, LEFT)
    from_left = render_scene([instance(ball)], [camera()], sky(turn_rad=math.pi), ["combined"])
    assert brightness(from_left, LEFT) > 2 * brightness(from_left, RIGHT)
    stronger = render_scene([instance(ball)], [camera()], sky(strength=2.0), ["combined"])
    assert brightness(stronger, RIGHT) == pytest.approx(2 * brightness(from_right, RIGHT), rel=0.02)
    assert float(stronger["combined"].astype(np.float32).min()) >= 0


def test_captured_shading_turns_with_the_avatar() -> None:
    """Colours are shaded as in the room of the capture: turn the object by half and the bright side is the other."""
    ball = Ball(captured_irradiance=environment_irradiance(Environment(sky().radiance + 0.3)))
    even = Environment(np.full((8, 16, 3), 1.0, np.float32))
    straight = render_scene([instance(ball)], [camera()], even, ["combined", "albedo"])
    half_turn = instance(ball)
    half_turn.world_from_avatar[:, :2, :2] *= -1
    turned = render_scene([half_turn], [camera()], even, ["combined", "albedo"])
    assert brightness(straight, LEFT) > 1.3 * brightness(straight, RIGHT)
    assert brightness(turned, RIGHT) > 1.3 * brightness(turned, LEFT)
    assert float(straight["albedo"][15, 16, 0]) > float(straight["albedo"][15, 24, 0])
    posed = render_scene(
        [instance(ball, turn=math.pi)], [camera()], even, ["combined"]
    )  # it moved in that room instead
    assert brightness(posed, LEFT) > 1.3 * brightness(posed, RIGHT)


@dataclass(frozen=True, eq=False)
class InsideOut(Ball):
    """A ball whose normals point inwards, so that those that are seen point away from the camera."""

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        posed = super().pose(rotations, translations, expressions)
        return replace(posed, normals=-posed.normals)


def test_normals_that_cannot_be_seen_do_not_catch_light_from_behind() -> None:
    radiance = np.full((16, 32, 3), 0.2, np.float32)
    radiance[6:10, 5:11] = 20.0  # behind the ball, at +y
    even = environment_irradiance(Environment(np.full((8, 16, 3), 1.0, np.float32)))
    lit = render_scene([instance(InsideOut(captured_irradiance=even))], [camera()], Environment(radiance), ["combined"])
    mean = environment_irradiance(Environment(radiance))[0, 1] / even[0, 1] * 0.214
    assert float(lit["combined"][CENTRE][1]) == pytest.approx(float(mean), rel=0.1)


def test_scale_and_emptiness() -> None:
    small = render_scene([instance(Ball(), scale=0.5)], [camera()], None, ["mask"])["mask"]
    large = render_scene([instance(Ball())], [camera()], None, ["mask"])["mask"]
    assert 0.2 < float(small.sum(dtype=np.float64)) / float(large.sum(dtype=np.float64)) < 0.35
    empty = render_scene([], [camera()], sky(), list(PASS_CHANNELS))
    assert all(not image.any() for image in empty.values())
    behind = render_scene([instance(Ball(), (0, -5, 0))], [camera()], None, list(PASS_CHANNELS))
    assert all(not image.any() for image in behind.values())


def test_what_does_not_fit_is_refused() -> None:
    ball = instance(Ball())
    with pytest.raises(EffigyError, match="did you mean 'combined'"):
        render_scene([ball], [camera()], None, ["combine"])
    with pytest.raises(EffigyError, match="quality"):
        render_scene([ball], [camera()], None, ["combined"], quality="best")
    with pytest.raises(EffigyError, match="sub-frames"):
        render_scene([ball], [camera(), camera()], None, ["combined"])
    with pytest.raises(EffigyError, match="no camera"):
        render_scene([ball], [], None, ["combined"])
    for scale, match in (((1, 1, 2), "uneven"), ((-1, 1, 1), "mirrored"), ((0, 0, 0), "uneven")):
        matrix = np.diag([*scale, 1.0])[None]
        odd = SceneInstance(ball.avatar, matrix, ball.rotations, ball.translations, ball.expressions)
        with pytest.raises(EffigyError, match=match):
            render_scene([odd], [camera()], None, ["combined"])


@pytest.mark.cuda
@pytest.mark.skipif(bool(why_unavailable()), reason=f"gsplat: {why_unavailable()}")
def test_the_gpu_renders_the_same_picture() -> None:
    ball = Ball((0.8, 0.5, 0.2), captured_irradiance=environment_irradiance(sky(turn_rad=1.0)))
    scene = [instance(ball, (0.1, 0, 0), (0.2, 0, 0)), instance(Ball(), (-0.2, 0.4, 0), (-0.2, 0.5, 0))]
    cameras = [camera(), camera()]
    K = np.array([[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]])
    parallel = [replace(camera(), K=K, orthographic=True)] * 2
    for light, lenses, hole in ((None, cameras, False), (sky(), cameras, True), (sky(), parallel, False)):
        scene[1] = replace(scene[1], holdout=hole)
        on_cpu = render_scene(scene, lenses, light, list(PASS_CHANNELS))
        on_gpu = render_scene(scene, lenses, light, list(PASS_CHANNELS), device="cuda")
        for name in PASS_CHANNELS:
            found, wanted = (
                # Bits, not numbers: its colours are compared, its depth is the depth pass.
                unpack(images[name], lenses[0].near_m, lenses[0].far_m)[0] if name == "packed" else images[name]
                for images in (on_gpu, on_cpu)
            )
            off = np.abs(found.astype(np.float32) - wanted.astype(np.float32))
            assert float(off.mean()) < 2e-3, name


@pytest.mark.parametrize("lit", [False, True])
def test_packed_is_combined_and_depth_in_one(lit: bool) -> None:
    environment = Environment(np.full((4, 8, 3), 0.4, np.float32)) if lit else None
    lens = replace(camera(), near_m=0.5, far_m=4.0)
    ball = Ball(colour=(0.8, 0.4, 0.2))
    images = render_scene([instance(ball)], [lens], environment, ("combined", "depth", "packed"))
    alone = render_scene([instance(ball)], [lens], environment, ("packed",))
    np.testing.assert_array_equal(alone["packed"], images["packed"])
    colour, depth = unpack(images["packed"], 0.5, 4.0)
    there = colour[..., 3] > 0
    assert there.any()
    np.testing.assert_allclose(colour[there], images["combined"][there], atol=0.01)
    np.testing.assert_allclose(depth[there], images["depth"][there], rtol=1e-4)
