"""A mesh and its Gaussians in a pose: all that is needed of a picture before the rasteriser, few and large steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body.band_colours import BandColours
from avatars.recorded import Recorded
from avatars.relit_body.person import Person
from avatars.surface_body.faces import OnFaces, dressed, ride, smooth_on
from avatars.surface_body.mesh_state import MeshState, skinned, with_expressions

log = logging.getLogger("effigy.rendering")


class PosedMesh:
    """A mesh that does not change any more, with what every pose needs of it. mesh and person share a device.

    face [N] int64: the faces whose corners are asked for.
    """

    def __init__(self, person: Person, mesh: MeshState, face: Tensor) -> None:
        self.person, self.mesh = person, mesh
        count = len(person.arrays.joint_names)
        self.table = mesh.weights.new_zeros(len(mesh.joints), count).scatter_add(1, mesh.joints, mesh.weights)
        self.normals = mesh.normals()
        self.corner_rows = mesh.faces[face].flatten()
        self.canonical_corners = self.corners(mesh.vertices[None])[0]

    def corners(self, values: Tensor) -> Tensor:
        """Values [B, V, 3] at the corners of the faces that are asked for, [B, N, 3, 3]."""
        return values.index_select(1, self.corner_rows).view(len(values), -1, 3, 3)

    def blended(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """[B, V, 3, 4] posed from canonical, for rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E]."""
        moved = self.person.moved(rotations, translations, expressions)
        frames, count = moved.shape[:2]
        rows = moved[:, :, :3].reshape(frames, count, 12)
        return (self.table @ rows).view(frames, -1, 3, 4)

    def vertices(self, transforms: Tensor, expressions: Tensor) -> Tensor:
        """Vertices [B, V, 3] m carried by [B, V, 3, 4]."""
        shifted = with_expressions(self.mesh.vertices, self.mesh.expression_dirs, expressions)
        return skinned(shifted, transforms)

    def turned_normals(self, transforms: Tensor) -> Tensor:
        """The canonical normals as skinning turns them, [B, V, 3] unit."""
        found = (transforms[..., :3] * self.normals[:, None]).sum(-1)
        return normalize(found, dim=-1, eps=1e-12)


@dataclass(frozen=True, eq=False)
class PosedSurface:
    """Corners [B, N, 3, 3] m of the faces that carry Gaussians, and normals there, likewise, or None."""

    corners: Tensor
    corner_normals: Tensor | None


def posed_surface(
    posed: PosedMesh, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool
) -> PosedSurface:
    """The surface in poses [B, J, 3] rad, [B, 3] m, [B, E]."""
    transforms = posed.blended(rotations, translations, expressions)
    corners = posed.corners(posed.vertices(transforms, expressions))
    return PosedSurface(corners, posed.corners(posed.turned_normals(transforms)) if normals else None)


def posed_gaussians(
    surface: PosedSurface, places: OnFaces, opacities: Tensor, colours: Tensor, tints: Tensor
) -> PosedGaussians:
    """World Gaussians of a surface; differentiable by everything."""
    smooth = None if surface.corner_normals is None else smooth_on(places.shares, surface.corner_normals)
    return dressed(ride(places, surface.corners), opacities, colours, tints, smooth)


class RecordedPose:
    """Posing of one frame, recorded at the first call. What it returns is a copy."""

    def __init__(self, act: Callable[[Tensor, Tensor, Tensor], PosedGaussians]) -> None:
        self.recorded = Recorded(act, "posing", log)

    def __call__(self, *given: Tensor) -> PosedGaussians:
        """World Gaussians for rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E]."""
        return _copied(self.recorded(*given))


def _copied(posed: PosedGaussians) -> PosedGaussians:
    """What a pose decides, in memory of its own; colours and opacities are the avatar's."""
    view = posed.view_colours
    assert isinstance(view, BandColours)
    return PosedGaussians(
        means=posed.means.clone(),
        quats=posed.quats.clone(),
        scales=posed.scales.clone(),
        opacities=posed.opacities,
        colours=posed.colours,
        normals=None if posed.normals is None else posed.normals.clone(),
        view_colours=BandColours(view.base, view.tint.clone()),
        sharp=posed.sharp,
    )
