"""Flat Gaussians on the faces of a mesh, riding on them as they turn and stretch (method page 12.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatars.gaussians.posed import PosedGaussians, quaternion_from_matrix
from avatars.mlp_body.band_colours import BandColours
from avatars.skinning.closest_points import closest_points
from avatars.surface.unwrap import decimated
from shared.errors import EffigyError

PARAMETERS = ("offsets", "turns", "scales", "opacities", "colours", "tints")
THIN = 0.1
"""Third scale, of the smaller of the other two: next to nothing, but still as wide as a Gaussian from its edge."""
LEAST_M = 1e-7
LEAST_SHARE = 0.02
"""Of each corner where a Gaussian is put: logits would hardly learn at an edge."""
MOST_CUTS = 3
CUTS = torch.tensor(
    (
        ((1, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5)),
        ((0.5, 0.5, 0), (0, 1, 0), (0, 0.5, 0.5)),
        ((0.5, 0, 0.5), (0, 0.5, 0.5), (0, 0, 1)),
        ((0.5, 0.5, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)),
    )
)
"""Corners of a triangle's four parts, as shares of its own corners."""
COVERING = 0.8
"""Scales at the start, of the standard deviations of a face's corners: neighbours then leave no gaps."""


@dataclass(frozen=True, eq=False)
class OnFaces:
    """Where Gaussians lie in their faces, whatever shape these take. shares [N, 3]: barycentrics of the centre.

    axes [N, 2, 2]: both axes, times their standard deviations, as parts of the face's first and second edge.
    """

    shares: Tensor
    axes: Tensor


@dataclass(frozen=True, eq=False)
class FaceFrames:
    """Posed flat Gaussians. means [B, N, 3] m; turned [B, N, 3, 3]: columns both axes and the face's normal;
    scales [B, N, 3] m.
    """

    means: Tensor
    turned: Tensor
    scales: Tensor


class FaceGaussians(nn.Module):
    """N of them. face [N] int64: the face each lies on; offsets [N, 2]: logits of the second and third corner's share
    beside the first's 0; turns [N] rad of the first axis from the face's first edge; scales [N, 2] log m; opacities [N]
    logit; colours [N, 3] sRGB; tints [N, 3 channels, 3]: what is added along the axes, by the direction of the view.
    """

    offsets: nn.Parameter
    turns: nn.Parameter
    scales: nn.Parameter
    opacities: nn.Parameter
    colours: nn.Parameter
    tints: nn.Parameter
    face: Tensor

    def __init__(self, values: dict[str, Tensor], face: Tensor) -> None:
        super().__init__()
        self.register_buffer("face", face.clone())
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(values[name].detach().float().clone()))

    def __len__(self) -> int:
        return len(self.offsets)

    def kept(self, rows: Tensor | slice) -> FaceGaussians:
        """Those `rows` alone, as a model of their own."""
        return FaceGaussians({name: getattr(self, name)[rows] for name in PARAMETERS}, self.face[rows])


def on_faces(offsets: Tensor, turns: Tensor, scales: Tensor, corners: Tensor) -> OnFaces:
    """Places of Gaussians (see FaceGaussians) in faces with canonical corners [N, 3, 3] m; differentiable by the first
    three."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    length = first.norm(dim=-1).clamp(min=LEAST_M)
    aside = (first * second).sum(-1) / length
    height = (torch.linalg.cross(first, second).norm(dim=-1) / length).clamp(min=LEAST_M)
    size = scales.exp()
    cosine, sine = turns.cos(), turns.sin()
    rows = []
    for x, y, wide in ((cosine, sine, size[:, 0]), (-sine, cosine, size[:, 1])):
        up = y / height
        rows.append(torch.stack(((x - aside * up) / length, up), -1) * wide[:, None])
    logits = torch.cat((torch.zeros_like(offsets[:, :1]), offsets), -1)
    return OnFaces(torch.softmax(logits, -1), torch.stack(rows, 1))


def ride(found: OnFaces, corners: Tensor) -> FaceFrames:
    """Gaussians on faces whose corners have moved to [B, N, 3, 3] m (frame, face, corner, xyz).

    The first axis keeps its place in the face, the second stands across it and takes up the face's change of area; a
    face without area gives a Gaussian without extent.
    """
    origin = corners[..., 0, :]
    first, second = corners[..., 1, :] - origin, corners[..., 2, :] - origin
    shares, axes = found.shares, found.axes
    across = torch.linalg.cross(first, second)
    area = across.norm(dim=-1)
    normal = across / area.clamp(min=1e-20)[..., None]
    along = axes[:, 0, 0, None] * first + axes[:, 0, 1, None] * second
    wide = along.norm(dim=-1).clamp(min=1e-12)
    along = along / wide[..., None]
    ratio = (axes[:, 0, 0] * axes[:, 1, 1] - axes[:, 0, 1] * axes[:, 1, 0]).abs()
    narrow = ratio * area / wide
    means = origin + shares[:, 1, None] * first + shares[:, 2, None] * second
    thin = THIN * torch.minimum(wide, narrow)
    turned = torch.stack((along, torch.linalg.cross(normal, along), normal), -1)
    return FaceFrames(means, turned, torch.stack((wide, narrow, thin), -1))


def dressed(
    frames: FaceFrames, opacities: Tensor, colours: Tensor, tints: Tensor, normals: Tensor | None
) -> PosedGaussians:
    """Posed Gaussians with opacities [N] logit, colours [N, 3], tints [N, 3, 3]; normals [B, N, 3] or None."""
    batch, count = frames.means.shape[:2]
    base = colours.expand(batch, count, 3)
    tint = (frames.turned[:, :, None] * tints[None, :, :, None]).sum(-1)  # [B, N, channel, xyz]
    return PosedGaussians(
        means=frames.means,
        quats=quaternion_from_matrix(frames.turned),
        scales=frames.scales,
        opacities=torch.sigmoid(opacities).expand(batch, count),
        colours=base.clamp(min=0),
        normals=normals,
        view_colours=BandColours(base, tint),
    )


def first_gaussians(
    vertices: Tensor, faces: Tensor, look: Callable[[Tensor], Tensor], opacity: float, count: int
) -> tuple[FaceGaussians, int]:
    """(As a mesh looks, how many of `count` are in use; the others are spare.) Raises EffigyError without faces.

    vertices [V, 3] m canonical; faces [F, 3]; look: colours [P, 3] sRGB at canonical places [P, 3] m. With room for
    more than one on each face the largest carry 4, 16 or 64; with less, each covers a face of a lighter mesh.
    """
    corners = vertices[faces]
    if len(faces) <= count:
        face, parts = parts_of_faces(corners, count)
        small, shares = parts @ corners[face], parts.mean(1)
    else:
        small, face, shares = _of_a_lighter_mesh(vertices, faces, count)
    values = {name: part.to(corners) for name, part in spare_rows(count).items()}
    used, whole = len(face), corners[face]
    first = whole[:, 1] - whole[:, 0]
    length = first.norm(dim=-1).clamp(min=LEAST_M)
    across = torch.linalg.cross(first, whole[:, 2] - whole[:, 0])
    axes = torch.stack((first, torch.linalg.cross(normalize(across, dim=-1, eps=1e-20), first)), -1)
    flat = (small - small.mean(1, keepdim=True)) @ (axes / length[:, None, None])
    powers, turns = _main_axes(flat.transpose(1, 2) @ flat / 3)
    values["offsets"][:used] = (shares[:, 1:] / shares[:, :1]).log()
    values["turns"][:used] = turns
    values["scales"][:used] = (COVERING * powers.clamp(min=LEAST_M**2).sqrt()).log()
    values["opacities"][:used] = float(torch.logit(torch.tensor(opacity)))
    values["colours"][:used] = look((whole * shares[..., None]).sum(1))
    rows = torch.zeros(count, dtype=torch.int64, device=corners.device)
    rows[:used] = face
    return FaceGaussians(values, rows), used


def _main_axes(spread: Tensor) -> tuple[Tensor, Tensor]:
    """Of symmetric [P, 2, 2]: eigenvalues [P, 2], the larger first, and the angle [P] rad of the larger one's axis.

    In closed form: torch.linalg.eigh of so many matrices fails on CUDA.
    """
    along, across, mixed = spread[:, 0, 0], spread[:, 1, 1], spread[:, 0, 1]
    middle, half = (along + across) / 2, torch.hypot((along - across) / 2, mixed)
    return torch.stack((middle + half, middle - half), -1), 0.5 * torch.atan2(2 * mixed, along - across)


def _of_a_lighter_mesh(vertices: Tensor, faces: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Corners [P, 3, 3] m of at most `count` larger faces, and the face [P] and barycentrics [P, 3] each is nearest."""
    places, triangles = vertices.cpu().double().numpy(), faces.cpu().numpy()
    lighter, kept = decimated(places, triangles, count)
    small = lighter[kept][:count]
    near = closest_points(small.mean(1), places, triangles)
    inner = torch.from_numpy(near.barycentrics).to(vertices).clamp(min=LEAST_SHARE)
    return (
        torch.from_numpy(small).to(vertices),
        torch.from_numpy(near.face).to(faces.device),
        inner / inner.sum(1, keepdim=True),
    )


def parts_of_faces(corners: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` parts of faces [F, 3, 3] m: the largest faces cut into 4, 16, 64 alike. Raises EffigyError.

    Returns face [P] int64 and parts [P, 3, 3]: barycentrics of each part's corners.
    """
    faces = len(corners)
    if not 0 < faces <= count:
        raise EffigyError("faces do not fit the Gaussians", found=f"{faces} faces", expected=f"1 to {count}")
    edges = corners[:, 1:] - corners[:, :1]
    order = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=-1).argsort(descending=True, stable=True)
    level = torch.zeros(faces, dtype=torch.int64, device=corners.device)
    left, largest = count - faces, faces
    for depth in range(MOST_CUTS):
        largest = min(largest, left // (3 * 4**depth))
        level[order[:largest]] += 1
        left -= largest * 3 * 4**depth
    found_face, found_parts = [], []
    parts = torch.eye(3, device=corners.device)[None]
    for depth in range(MOST_CUTS + 1):
        rows = (level == depth).nonzero()[:, 0]
        found_face.append(rows.repeat_interleave(len(parts)))
        found_parts.append(parts.repeat(len(rows), 1, 1))
        parts = torch.cat([cut @ parts for cut in CUTS.to(corners.device)[:, None]])
    return torch.cat(found_face), torch.cat(found_parts)


def spare_rows(count: int) -> dict[str, Tensor]:
    """Values of `count` Gaussians that are not in use."""
    return {
        "offsets": torch.zeros(count, 2),
        "turns": torch.zeros(count),
        "scales": torch.full((count, 2), -6.0),
        "opacities": torch.full((count,), -20.0),
        "colours": torch.full((count, 3), 0.5),
        "tints": torch.zeros(count, 3, 3),
    }


def smooth_on(shares: Tensor, corner_normals: Tensor) -> Tensor:
    """Unit normals [B, N, 3] mixed from those at the corners [B, N, 3 corners, 3]."""
    return normalize((corner_normals * shares[..., None]).sum(-2), dim=-1, eps=1e-12)
