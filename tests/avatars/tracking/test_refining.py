"""What colours and masks say of a face: values, derivatives, nothing to see, and what a clip gains by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template
from avatars.tracking.calibrating import true_view
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.fitting import ClipFitter, FitSettings
from avatars.tracking.landmark_model import FrameState, LandmarkModel
from avatars.tracking.photometric import colour_equations, lit, mean_texture, sampled
from avatars.tracking.refining import Framing, RefineSettings, refine_clip
from avatars.tracking.silhouette import FAR_PX, inside_equations, outside_distance
from avatars.tracking.surface_points import SurfacePoints

SIZE_PX = 256


def test_a_picture_is_sampled_with_its_slope() -> None:
    random = np.random.default_rng(0)
    picture = random.random((6, 7, 2)).astype(np.float32)
    middles = np.array([[2.5, 1.5], [6.5, 5.5], [0.5, 0.5]])
    np.testing.assert_allclose(sampled(picture, middles)[0], picture[[1, 5, 0], [2, 6, 0]], atol=1e-6)
    places = random.uniform(1, 5, (20, 2))
    _, slope = sampled(picture, places)
    step = 1e-3
    for axis in range(2):
        moved = np.eye(2)[axis] * step
        inside = np.floor(places + moved - 0.5) == np.floor(places - moved - 0.5)
        rows = inside.all(1)
        differences = (sampled(picture, places + moved)[0] - sampled(picture, places - moved)[0]) / (2 * step)
        np.testing.assert_allclose(slope[rows][..., axis], differences[rows], atol=2e-3)
    beyond = sampled(picture, np.array([[-9.0, 99.0]]))[0]
    np.testing.assert_allclose(beyond[0], picture[5, 0], atol=1e-6)


def test_a_texture_is_found_under_changing_light() -> None:
    random = np.random.default_rng(1)
    colours = random.uniform(0.2, 0.9, (80, 3)).astype(np.float32)
    normals = random.standard_normal((12, 80, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    light = random.uniform(-0.2, 0.2, (12, 3, 3))
    gains = 1 + np.einsum("fpk,fkc->fpc", normals, light).astype(np.float32)
    values = gains * colours
    weight = np.ones((12, 80), np.float32)
    weight[:, 5] = 0
    values[3, 20:24] = 0  # something dark before the face in one picture
    texture = mean_texture(values, normals, weight, 0.03)
    there = np.arange(80) != 5
    ratio = texture.colours[there] / colours[there]
    assert (ratio.std(0) / ratio.mean(0) < 0.03).all()  # how bright a texture is and its light cannot be told apart
    assert texture.colours[5].max() == 0
    assert texture.spread[5].min() == 1
    expected = texture.expected(values[3], normals[3], weight[3], 0.03)
    usual = np.setdiff1d(np.flatnonzero(there), np.arange(20, 24))
    assert np.abs(expected - values[3])[usual].mean() < 0.02
    assert (expected[20:24] > 0.1).all()
    exact = lit(colours, gains[0] * colours, normals[0], np.ones((80, 3), np.float32))
    assert np.abs(exact - gains[0])[there].max() < 0.02
    nothing = lit(colours, colours, normals[0], np.zeros((80, 3), np.float32))
    assert np.isfinite(nothing).all()


def test_colours_pull_as_their_cost_falls() -> None:
    random = np.random.default_rng(2)
    derivative, gradient = random.standard_normal((9, 2, 5)), random.standard_normal((9, 3, 2)).astype(np.float32)
    error, weight = random.standard_normal((9, 3)), random.uniform(0.1, 1, (9, 3))
    matrix, right = colour_equations(derivative, gradient, error, weight)
    rows = np.einsum("nci,niu->ncu", gradient, derivative)
    np.testing.assert_allclose(matrix, np.einsum("ncu,nc,ncv->uv", rows, weight, rows), rtol=2e-4, atol=1e-4)

    def cost(unknowns: np.ndarray) -> float:
        return float((weight * (error - rows @ unknowns) ** 2).sum() / 2)

    for place in range(5):
        step = np.eye(5)[place] * 1e-4
        slope = (cost(step) - cost(-step)) / 2e-4
        assert right[place] == pytest.approx(-slope, rel=1e-4, abs=1e-4)
    empty = colour_equations(derivative[:0], gradient[:0], error[:0], weight[:0])
    assert (empty[0].shape, float(np.abs(empty[0]).sum()), float(np.abs(empty[1]).sum())) == ((5, 5), 0.0, 0.0)


def test_a_mask_pulls_only_what_sticks_out() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 255
    distance = outside_distance(mask)
    assert (distance[20, 20], distance[20, 34], distance[5, 20]) == (0, 5, 5)
    assert not outside_distance(np.zeros_like(mask)).any()
    pixels = np.array([[20.5, 20.5], [34.2, 20.6], [30.9, 20.5], [59.5, 20.5]])  # inside, out, nearly in, far away
    derivative = np.tile(np.eye(2), (4, 1, 1))
    away, slope = (part[:, 0] for part in sampled(distance[..., None], pixels))
    matrix, right = inside_equations(derivative, away, slope, 1.5, 0.5)
    beyond = float(away[1]) - 1.5
    np.testing.assert_allclose(right, [-0.5 * beyond, 0], atol=1e-5)  # to the left, by the one that is out
    np.testing.assert_allclose(matrix, [[0.5, 0], [0, 0]], atol=1e-6)
    assert away[3] > FAR_PX

    def cost(shift: float) -> float:
        out = sampled(distance[..., None], pixels[1:2] + [shift, 0])[0][0, 0] - 1.5
        return 0.25 * float(out) ** 2

    assert right[0] == pytest.approx(-(cost(0.01) - cost(-0.01)) / 0.02, rel=1e-3)


@pytest.fixture(scope="module")
def talking() -> tuple[ClipFitter, FrameState, list[np.ndarray]]:
    """A fit whose landmarks show half of every gaze and no brow, with the true state and the pictures."""
    demo, body = open_capture("talking_head"), embedded_template("body")
    pictures = list(range(0, 60, 5))
    views = [true_view(demo, body, index) for index in pictures]
    where, _ = embedded_correspondences()
    model = LandmarkModel(body, where, identity_modes=0)
    motion, frames = demo.motion, [demo.images[index].frame for index in pictures]
    turned = [demo.joint_names.index(name) for name in ("jaw", "left_eye", "right_eye")]
    turns = motion.rotations[frames][:, turned][:, :, [0, 2]].reshape(len(frames), 6).astype(np.float64)
    middle = np.stack([_head_place(view, model) for view in views])
    state = FrameState(
        np.stack([view.rotation for view in views]), middle, turns, np.stack([view.expressions for view in views])
    )
    seen = replace(state, turns=turns * [1, 1, 0.5, 0.5, 0.5, 0.5])
    focal = views[0].focal_px * SIZE_PX / 512
    centre = (SIZE_PX / 2, SIZE_PX / 2)
    landmarks = model.project(seen, np.zeros(0), focal, centre)[0]
    fitter = ClipFitter(model, landmarks, centre, focal, np.array(pictures) / 25, settings=FitSettings())
    fitter.state = seen
    return fitter, state, [demo.rgba(index, (SIZE_PX, SIZE_PX)) for index in pictures]


def _head_place(view: object, model: LandmarkModel) -> np.ndarray:
    """Where the head joint is, by the landmarks that move with the head alone; the person differs from the mean."""
    rigid = model.rigid_weights > 0.999
    points = (view.vertices[model.where.vertices] * model.where.weights[..., None]).sum(1)  # type: ignore[attr-defined]
    return np.median(points[rigid] - model.points[rigid] @ view.rotation.T, axis=0)  # type: ignore[attr-defined]


def test_eyes_follow_the_pictures_and_terms_can_be_left_out(
    talking: tuple[ClipFitter, FrameState, list[np.ndarray]],
) -> None:
    fitter, true, pictures = talking
    rows, before = np.arange(len(pictures)), fitter.state
    heard: list[float] = []

    def refined(settings: RefineSettings) -> FrameState:
        fitter.state = before
        return refine_clip(fitter, rows, lambda row: pictures[row], Framing(0, 0, 1.0), settings, heard.append).state

    def gaze_error(state: FrameState) -> float:
        apart = state.turns[:, 2:] - true.turns[:, 2:]
        return float(np.abs(apart - apart.mean(0)).mean())

    nothing = refined(RefineSettings(photometric=False, silhouette=False))
    np.testing.assert_array_equal(nothing.turns, before.turns)
    assert not heard
    outline = refined(RefineSettings(photometric=False, blur_m=(0.001,)))
    colours = refined(RefineSettings(blur_m=(0.0016, 0.001)))
    assert gaze_error(colours) < 0.85 * gaze_error(outline)
    assert heard[-1] == pytest.approx(1.0)
    fitter.state = before
    few = refine_clip(fitter, rows[:3], lambda row: pictures[row], Framing(0, 0, 1.0))
    np.testing.assert_array_equal(few.state.turns, before.turns)


def test_points_are_seen_only_from_before(talking: tuple[ClipFitter, FrameState, list[np.ndarray]]) -> None:
    fitter, true, _ = talking
    surface = SurfacePoints(fitter.model.arrays, 0)
    state, size = true.at(np.array([0])), (SIZE_PX, SIZE_PX)
    corner = -np.array(fitter.centre_px)
    place, _, cosine = surface.seen(state, np.zeros(0), fitter.focal_px, 1.0, corner, size)
    assert 0.4 < (cosine > 0).mean() < 0.9
    assert 10 < (cosine[surface.eye] > 0).sum() < 0.6 * surface.eye.sum()
    exact = surface.points.project(state, np.zeros(0), fitter.focal_px, fitter.centre_px)[0][0]
    np.testing.assert_allclose(place, exact, atol=0.02)  # a face is flat between its corners
    behind = replace(state, rotation=state.rotation @ np.diag([-1.0, -1.0, 1.0]))
    assert surface.seen(behind, np.zeros(0), fitter.focal_px, 1.0, corner, size)[2].max() == 0
    away = surface.seen(state, np.zeros(0), fitter.focal_px, 1.0, corner + 900, size)[2]
    assert away.max() == 0
