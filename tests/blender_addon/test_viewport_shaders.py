"""The viewport's shaders on a real graphics context against the numpy reference: exact, hidden by depth, moved."""

from __future__ import annotations

from dataclasses import replace

import gpu
import numpy as np
import pytest
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix

from blender_addon.logic import view_maths
from blender_addon.viewport import shaders
from blender_addon.viewport.frames import Picture, Wish
from blender_addon.viewport.painter import Painter
from shared.packed import pack, unpack

from .gpu_engine import read_back, with_gpu

WIDTH, HEIGHT = 192, 128
BALL_M, RADIUS_M = np.array([0.0, 0.0, 0.0]), 0.5


@pytest.fixture(autouse=True)
def fresh_shaders():
    """Each test has a context of its own, so none may keep the last one's shaders."""
    shaders.forget()
    yield
    shaders.forget()


def window_matrix(orthographic: bool = False) -> np.ndarray:
    """Blender's clip from view for a view of WIDTH x HEIGHT."""
    near, far = 0.1, 100.0
    if orthographic:
        return np.diag([1 / 1.5, WIDTH / HEIGHT / 1.5, -2 / (far - near), 1.0]) + np.array(
            [[0, 0, 0, 0.1], [0, 0, 0, -0.05], [0, 0, 0, -(far + near) / (far - near)], [0, 0, 0, 0]]
        )
    return np.array(
        [
            [2.0, 0, 0.05, 0],
            [0, 2.0 * WIDTH / HEIGHT, -0.1, 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )


def view_matrix(turn_rad: float = 0.0) -> np.ndarray:
    """View from world of an eye at y = -3 turned around the ball about z."""
    world_from_view = np.array([[1, 0, 0, 0], [0, 0, -1, -3], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return np.linalg.inv(turn @ world_from_view)


def view(turn_rad: float = 0.0, orthographic: bool = False, scale: float = 1.0) -> view_maths.ViewCamera:
    size = round(WIDTH * scale), round(HEIGHT * scale)
    return view_maths.view_camera(view_matrix(turn_rad), window_matrix(orthographic), size, [BALL_M], [1.0])


def ball(camera: view_maths.ViewCamera, centre: tuple[float, ...] = (0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied linear RGBA and depth of a ball whose colour is its place, as the backend would send it."""
    x, y = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(camera.height_px) + 0.5)
    fx, fy, cx, cy = camera.lens
    across = np.stack([(x - cx) / fx, (y - cy) / fy, np.zeros_like(x)], -1)
    ahead = np.array([0.0, 0.0, 1.0])
    start, way = (across, np.broadcast_to(ahead, across.shape)) if camera.orthographic else (across * 0, across + ahead)
    matrix = camera.world_from_camera
    start, way = start @ matrix[:3, :3].T + matrix[:3, 3], way @ matrix[:3, :3].T
    a, b, c = (way**2).sum(-1), (way * (start - centre)).sum(-1), ((start - centre) ** 2).sum(-1) - RADIUS_M**2
    inside = b * b - a * c
    depth = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    place = start + way * depth[..., None]
    colour = np.where(inside[..., None] > 0, 0.5 + 0.45 * np.sin(4 * (place - centre) / RADIUS_M), 0)
    return np.concatenate([colour, (inside > 0)[..., None]], -1).astype(np.float32), depth[..., None].astype(np.float32)


def picture(camera: view_maths.ViewCamera, rgba: np.ndarray, depth: np.ndarray) -> Picture:
    packed = pack(rgba, depth, camera.near_m, camera.far_m)
    part, corner = view_maths.cropped(packed)
    return Picture(Wish("v", "s", (), camera, None), part, corner, 1, 0.0)


def draw(shown: Picture, turn_rad: float = 0.0, orthographic: bool = False, before=None, **options) -> np.ndarray:
    """What a view's framebuffer holds after the picture was drawn over what before() drew."""

    def inside() -> np.ndarray:
        off = gpu.types.GPUOffScreen(WIDTH, HEIGHT, format="RGBA32F")
        with off.bind():
            framebuffer = gpu.state.active_framebuffer_get()
            framebuffer.clear(color=(0, 0, 0, 0), depth=1.0)
            if before is not None:
                before()
            matrices = view_matrix(turn_rad), window_matrix(orthographic)
            Painter().draw(shown, *matrices, (WIDTH, HEIGHT), **options)
            seen = read_back(framebuffer, WIDTH, HEIGHT)
        off.free()
        return seen

    return with_gpu(inside)


def test_a_picture_comes_out_bit_for_bit() -> None:
    random = np.random.default_rng(0)
    camera = view()
    rgba = random.random((HEIGHT, WIDTH, 4)).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:]
    rgba[:, :5] = 0
    shown = picture(camera, rgba, random.uniform(camera.near_m, camera.far_m, (HEIGHT, WIDTH, 1)))
    assert shown.corner_px == (4, 0), "the empty columns are not sent to the graphics card"
    whole = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    whole[:, 4:] = shown.packed
    expected, _ = unpack(whole, camera.near_m, camera.far_m)
    np.testing.assert_allclose(draw(shown), expected, atol=2e-6)
    encoded = draw(shown, encode=True, test_depth=False)
    there = expected[..., 3] > 0
    linear = expected[there][:, :3] / expected[there][:, 3:]
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(encoded[there][:, :3], curve * expected[there][:, 3:], atol=1e-5)
    np.testing.assert_allclose(draw(shown, gain=2.0)[..., :3], 2 * expected[..., :3], atol=4e-6)
    np.testing.assert_allclose(draw(shown, fade=0.5), 0.5 * expected, atol=2e-6)


@pytest.mark.parametrize("orthographic", [False, True])
def test_the_scenes_depth_hides_what_is_behind_it(orthographic: bool) -> None:
    camera = view(orthographic=orthographic)
    rgba, depth = ball(camera)
    middle = (
        3.0  # m from the eye to the ball's centre; the plane stands 0.3 m before it, so the ball's front pierces it
    )

    def plane() -> None:
        shader = gpu.shader.from_builtin("UNIFORM_COLOR")
        corners = ((-9, -0.3, -9), (0, -0.3, -9), (-9, -0.3, 9), (0, -0.3, 9))
        batch = batch_for_shader(shader, "TRIS", {"pos": corners}, indices=((0, 1, 2), (1, 3, 2)))
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.depth_mask_set(True)
        with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
            gpu.matrix.load_matrix(Matrix(view_matrix().tolist()))
            gpu.matrix.load_projection_matrix(Matrix(window_matrix(orthographic).tolist()))
            shader.bind()
            shader.uniform_float("color", (1, 0, 1, 1))
            batch.draw(shader)

    seen = draw(picture(camera, rgba, depth), orthographic=orthographic, before=plane)
    # How far a pixel of the ball is from the eye along y, whatever the projection.
    away = depth[..., 0] - (camera.view_from_world[2, 3] * -1 - middle)
    x, _ = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    left = x < camera.lens[2] - 1
    covered = rgba[..., 3] > 0
    hidden = covered & left & (away > middle - 0.3 + 1e-2)
    pierces = covered & left & (away < middle - 0.3 - 1e-2)
    free = covered & (x > camera.lens[2] + 1)
    assert min(hidden.sum(), pierces.sum(), free.sum()) > 20
    np.testing.assert_allclose(seen[hidden], np.broadcast_to((1, 0, 1, 1), seen[hidden].shape), atol=1e-3)
    np.testing.assert_allclose(seen[pierces][:, :3], rgba[pierces][:, :3], atol=0.02)
    np.testing.assert_allclose(seen[free][:, :3], rgba[free][:, :3], atol=0.02)
    through = draw(picture(camera, rgba, depth), orthographic=orthographic, before=plane, test_depth=False)
    np.testing.assert_allclose(through[hidden][:, :3], rgba[hidden][:, :3], atol=0.02)


@pytest.mark.parametrize("orthographic", [False, True])
def test_a_late_picture_is_moved_to_where_its_avatar_is_seen_now(orthographic: bool) -> None:
    turn = np.radians(12)
    place = (0.4, -0.5, 0.1)  # beside the axis the eye turns about
    late, due = ball(view(0.0, orthographic), place), ball(view(turn, orthographic), place)[0]
    shown = picture(view(0.0, orthographic), *late)
    moved = draw(shown, turn, orthographic)
    stale = late[0]

    def error(image: np.ndarray) -> float:
        return float(((image - due) ** 2).mean())

    def overlap(image: np.ndarray) -> float:
        both = (image[..., 3] > 0.5) & (due[..., 3] > 0.5)
        return both.sum() / ((image[..., 3] > 0.5) | (due[..., 3] > 0.5)).sum()

    print(f"psnr stale {-10 * np.log10(error(stale)):.1f} dB, moved {-10 * np.log10(error(moved)):.1f} dB; ", end="")
    print(f"overlap stale {overlap(stale):.3f}, moved {overlap(moved):.3f}")
    assert error(moved) < 0.5 * error(stale), "the ball's colours are fixed to it, so they move with it"
    assert overlap(moved) > 0.9, "what the late picture did not show cannot be there"


def test_a_hardly_moved_picture_is_hardly_changed() -> None:
    camera = view()
    rgba, depth = ball(camera)
    shown = picture(camera, rgba, depth)
    assert view_maths.same_view(camera, view_matrix(), window_matrix())
    assert not view_maths.same_view(camera, view_matrix(0.003), window_matrix())
    moved = draw(shown, 0.003)
    inner = rgba[..., 3] > 0
    inner[1:-1, 1:-1] &= inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]
    np.testing.assert_allclose(moved[inner], rgba[inner], atol=0.06)


def test_a_smaller_picture_fills_the_view() -> None:
    small, whole = view(scale=0.5), view()
    seen = draw(picture(small, *ball(small)))
    rgba, _ = ball(whole)
    both = (seen[..., 3] > 0.99) & (rgba[..., 3] > 0)
    assert both.sum() > 0.8 * rgba[..., 3].sum()
    assert np.abs(seen[both] - rgba[both]).mean() < 0.01
    assert np.abs(seen[both] - rgba[both]).max() < 0.15, "only beside the rim"


def test_an_empty_picture_draws_nothing() -> None:
    nothing = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    assert not draw(picture(view(), np.repeat(nothing, 4, -1), nothing)).any()


def test_all_behind_the_eye_is_no_camera() -> None:
    assert view_maths.view_camera(view_matrix(), window_matrix(), (8, 8), [(0, -9, 0)], [1.0]) is None
    inside = view_maths.view_camera(view_matrix(), window_matrix(), (8, 8), [(0, -3, 0)], [1.0])
    assert inside.near_m == view_maths.NEAREST_M
    assert replace(inside, width_px=9).width_px == 9
