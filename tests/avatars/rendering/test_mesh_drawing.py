"""Differentiable mesh drawing against its plain form, against areas known in closed form, and by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.rendering import CameraBatch, mesh_reference
from avatars.rendering.has_triton import available
from avatars.rendering.mesh_drawing import MeshDrawing, draw_mesh
from avatars.rendering.mesh_edges import MeshEdges
from shared.errors import EffigyError

OCTAHEDRON = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]


def ball(rounds: int, radius: float = 0.5) -> tuple[Tensor, Tensor]:
    """A triangulated sphere, float64, faces outwards."""
    points = [[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    faces = OCTAHEDRON
    for _ in range(rounds):
        middle: dict[tuple[int, int], int] = {}

        def between(a: int, b: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(a, b), max(a, b))
            if key not in middle:
                points.append([(x + y) / 2 for x, y in zip(points[a], points[b], strict=True)])
                middle[key] = len(points) - 1
            return middle[key]

        finer = []
        for a, b, c in faces:
            ab, bc, ca = between(a, b), between(b, c), between(c, a)
            finer += [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
        faces = finer
    places = torch.tensor(points, dtype=torch.float64)
    turned = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.3, 0.2], [-0.3, 0, 0.4], [-0.2, -0.4, 0]]).double())
    return places / places.norm(dim=1, keepdim=True) * radius @ turned, torch.tensor(faces)


def lens(frames: int, width: int, height: int, focal: float, away_m: float = 2.0) -> CameraBatch:
    """Cameras that look along +z at the origin from a little apart."""
    K = torch.tensor([[focal, 0, width / 2 + 0.3], [0, focal, height / 2 - 0.2], [0, 0, 1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    pose[:, 2, 3] = away_m
    pose[:, 0, 3] = 0.05 * torch.arange(frames)
    return CameraBatch(K.repeat(frames, 1, 1), pose, width, height)


def two_balls() -> tuple[Tensor, Tensor]:
    """One ball partly before another."""
    vertices, faces = ball(1)
    front = 0.5 * vertices + torch.tensor([0.35, 0.1, -0.8], dtype=torch.float64)
    return torch.cat((vertices, front)), torch.cat((faces, faces + len(vertices)))


def drawn(vertices: Tensor, faces: Tensor, cameras: CameraBatch, **options: str) -> MeshDrawing:
    return draw_mesh(vertices.expand(cameras.frames, -1, -1), faces, cameras, **options)  # type: ignore[arg-type]


def test_the_nearest_face_of_each_pixel_as_by_brute_force() -> None:
    vertices, faces = two_balls()
    cameras = lens(2, 31, 24, 40.0)
    fast, plain = (drawn(vertices, faces, cameras, implementation=name) for name in ("cpu", "reference"))
    assert torch.equal(fast.face_id, plain.face_id)
    assert 0.2 < float((fast.face_id >= 0).double().mean()) < 0.9


def test_what_vertices_carry_is_seen_in_perspective() -> None:
    vertices, faces = two_balls()
    cameras = lens(2, 31, 24, 40.0)
    picture = drawn(vertices, faces, cameras)
    places = picture.interpolated(vertices[None])
    pose = cameras.camera_from_world[picture.frames]
    seen = (pose[:, :3, :3] @ places[..., None])[..., 0] + pose[:, :3, 3]
    at = (cameras.K[picture.frames] @ seen[..., None])[..., 0]
    column, row = picture.shown % 31, picture.shown // 31 % 24
    # Centres within a face by rounded places only have weights clamped to it: up to 1/256 px.
    assert torch.allclose(at[:, 0] / at[:, 2], column.double() + 0.5, atol=5e-3)
    assert torch.allclose(at[:, 1] / at[:, 2], row.double() + 0.5, atol=5e-3)
    assert torch.allclose(picture.depth_m, seen[:, 2], atol=1e-9)
    again = picture.interpolated(vertices.expand(2, -1, -1))
    assert torch.equal(again, places)


def test_gradients_of_values_and_places() -> None:
    vertices, faces = ball(0)
    cameras = lens(1, 9, 8, 12.0)
    face_id = drawn(vertices, faces, cameras).face_id

    def picture(places: Tensor, values: Tensor) -> Tensor:
        found = drawn(places, faces, cameras)
        assert torch.equal(found.face_id, face_id)
        return torch.cat((found.picture(found.interpolated(values)).flatten(), found.depth_m))

    values = torch.rand(1, len(vertices), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = (vertices[None].clone().requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-7, atol=1e-5)


def _two(vertices: Tensor, faces: Tensor, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
    """A picture with blended outlines, and the same by the plain form."""
    edges, found = MeshEdges.of(faces), drawn(vertices, faces, cameras)
    colours = torch.rand(len(faces), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    values = torch.cat((colours[found.face_id.flatten()[found.shown]], torch.ones(len(found.shown), 1)), -1)
    image = found.picture(values.double())
    plain = mesh_reference.antialiased(
        image, found.face_id, found.depth_picture(), found.places_px, found.depths_m, edges, faces,
        1 / cameras.K[:, 0, 0],
    )  # fmt: skip
    return found.antialiased(image, edges), plain


def test_outlines_as_by_brute_force() -> None:
    vertices, faces = two_balls()
    for cameras in (lens(1, 13, 11, 14.0), lens(1, 12, 12, 5.0)):  # the second: triangles thinner than pixels
        at = vertices.clone().requires_grad_()
        fast, plain = _two(at, faces, cameras)
        assert torch.allclose(fast, plain, atol=1e-12)
        weights = torch.rand(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        gradients = [torch.autograd.grad((image * weights).sum(), at, retain_graph=True)[0] for image in (fast, plain)]
        assert torch.allclose(*gradients, atol=1e-10)
        assert float(gradients[0].abs().max()) > 0.01


def test_gradients_of_outlines() -> None:
    vertices, faces = ball(0)
    cameras, edges = lens(1, 9, 8, 9.0), MeshEdges.of(faces)

    def picture(places: Tensor, colours: Tensor) -> Tensor:
        found = drawn(places, faces, cameras)
        image = found.picture(torch.cat((found.interpolated(colours), found.depth_m[:, None].detach() * 0 + 1), -1))
        return found.antialiased(image, edges)

    colours = torch.rand(1, len(vertices), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    inputs = (vertices[None].clone().requires_grad_(), colours.requires_grad_())
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-7, atol=1e-5)


def test_coverage_is_the_outline_s_area() -> None:
    """The sum of coverage and its gradient are those of the triangle's area in pixels, known in closed form."""
    place = torch.tensor([[-0.61, -0.42, 0.0], [0.57, -0.31, 0.0], [0.02, 0.49, 0.0]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])
    cameras, edges = lens(1, 64, 64, 90.0), MeshEdges.of(faces)

    def covered(points: Tensor) -> Tensor:
        found = drawn(points, faces, cameras)
        return found.antialiased(found.picture(torch.ones(len(found.shown), 1).double()), edges).sum()

    at = place.clone().requires_grad_()
    px = at[:, :2] / 2 * 90.0
    one, two = px[1] - px[0], px[2] - px[0]
    area = (one[0] * two[1] - one[1] * two[0]).abs() / 2
    found = covered(at)
    assert float(found) == pytest.approx(float(area), rel=5e-3)
    ours, true = torch.autograd.grad(found, at)[0], torch.autograd.grad(area, at)[0]
    assert torch.allclose(ours[:, :2], true[:, :2], rtol=0.1, atol=0.05 * float(true[:, :2].abs().max()))


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_ball_is_pulled_to_where_it_should_be(rounds: int) -> None:
    """From a wrong place and size, coverage alone brings the ball back, with triangles wide and thinner than pixels."""
    vertices, faces = ball(rounds)
    cameras, edges = lens(1, 40, 40, 40.0), MeshEdges.of(faces)

    def coverage(points: Tensor) -> Tensor:
        found = drawn(points, faces, cameras)
        return found.antialiased(found.picture(torch.ones(len(found.shown), 1).double()), edges)

    wanted = coverage(vertices)
    numbers = torch.tensor([0.08, -0.05, 1.15], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([numbers], 0.01)
    for _ in range(60):
        shift = torch.cat((numbers[:2], torch.zeros(1, dtype=torch.float64)))
        loss = (coverage(vertices * numbers[2] + shift) - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert np.allclose(numbers.detach().numpy(), [0, 0, 1], atol=0.012)


def test_broken_meshes_are_left_out() -> None:
    vertices, faces = ball(1)
    cameras, edges = lens(1, 16, 16, 20.0), MeshEdges.of(faces)
    broken = vertices.clone()
    broken[0] = torch.nan
    broken[1] = torch.tensor([0.0, 0, -5])  # behind the camera
    broken[2] = broken[6]  # faces without area
    at = broken.requires_grad_()
    found = drawn(at, faces, cameras)
    image = found.picture(torch.cat((found.interpolated(at[None].nan_to_num()), torch.ones(len(found.shown), 1)), -1))
    image = found.antialiased(image, edges)
    image.sum().backward()
    assert bool(torch.isfinite(image).all())
    assert at.grad is not None
    assert bool(torch.isfinite(at.grad).all())
    assert not bool(torch.isin(found.face_id, torch.nonzero((faces < 2).any(1))[:, 0]).any())


@pytest.mark.parametrize("away_m", [-2.0, 500.0])
def test_nothing_in_sight(away_m: float) -> None:
    vertices, faces = ball(0, 1e-4)
    cameras = lens(2, 8, 6, 10.0, away_m)
    found = drawn(vertices, faces, cameras)
    image = found.antialiased(found.picture(found.interpolated(vertices[None])), MeshEdges.of(faces))
    assert image.shape == (2, 6, 8, 3)
    assert image.abs().max() == 0
    nothing = draw_mesh(vertices[None, :0].expand(2, -1, -1), faces[:0], cameras)
    assert bool((nothing.face_id < 0).all())
    assert nothing.antialiased(image, MeshEdges.of(faces[:0])).shape == image.shape


def test_wrong_shapes_are_refused() -> None:
    vertices, faces = ball(0)
    cameras = lens(2, 8, 6, 10.0)
    with pytest.raises(EffigyError, match="do not fit the cameras"):
        draw_mesh(vertices[None], faces, cameras)
    with pytest.raises(EffigyError, match="faces have the wrong shape"):
        draw_mesh(vertices.expand(2, -1, -1), faces.int(), cameras)
    with pytest.raises(EffigyError, match="values do not fit"):
        drawn(vertices, faces, cameras).interpolated(vertices[None, :3])
    with pytest.raises(EffigyError, match="unknown rasteriser"):
        drawn(vertices, faces, cameras, implementation="soft")


def test_edges_are_there_once_with_both_faces() -> None:
    edges = MeshEdges.of(torch.tensor([[0, 1, 2], [2, 1, 3], [1, 2, 4]]))
    ends = [tuple(pair) for pair in edges.ends.tolist()]
    assert len(set(ends)) == len(ends) == 7
    row = ends.index((1, 2))
    assert edges.faces[row].tolist() == [0, 1]  # a third face on an edge does not count
    assert int(edges.third[row]) == 0
    assert int((edges.faces[:, 1] < 0).sum()) == 6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available() or not available(), reason="needs CUDA and Triton")
@pytest.mark.parametrize("implementation", ["triton", "nvdiffrast"])
def test_cuda_shows_what_the_cpu_shows(implementation: str) -> None:
    if implementation == "nvdiffrast":
        pytest.importorskip("nvdiffrast")
    vertices, faces = ball(4)
    cameras = lens(2, 203, 151, 220.0)
    weights = torch.rand(2, 151, 203, 4, generator=torch.Generator().manual_seed(5))
    found = {}
    for device in ("cpu", "cuda"):
        at = vertices.float().to(device).requires_grad_()
        view = CameraBatch(cameras.K.float().to(device), cameras.camera_from_world.float().to(device), 203, 151)
        picture = drawn(at, faces.to(device), view, implementation="cpu" if device == "cpu" else implementation)
        values = torch.cat((picture.interpolated(at[None]), torch.ones(len(picture.shown), 1, device=device)), -1)
        image = picture.antialiased(picture.picture(values), MeshEdges.of(faces.to(device)))
        gradient = torch.autograd.grad((image * weights.to(device)).sum(), at)[0]
        found[device] = [part.detach().cpu() for part in (picture.face_id, image, gradient)]
    differ = found["cpu"][0] != found["cuda"][0]
    assert float(differ.float().mean()) < (1e-4 if implementation == "triton" else 1e-2)
    assert float((found["cpu"][1] - found["cuda"][1]).abs().mean()) < 1e-3
    cosine = torch.nn.functional.cosine_similarity(found["cpu"][2].flatten(), found["cuda"][2].flatten(), dim=0)
    assert float(cosine) > 0.999
