"""The MMLPHuman model: frozen Gaussians on a body, moved by control points and coloured by private bases (method A)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body import cpu_express, cuda_express
from avatars.mlp_body.band_colours import BandColours
from avatars.mlp_body.express import CHANNELS, Expressed, Places, Tables, blended, express, turns_of
from avatars.mlp_body.neighbours import Mixing, mix
from avatars.mlp_body.network import PrivateNetworks
from avatars.mlp_body.pose_range import PoseRange
from avatars.mlp_body.skeleton import Canonical, DrivingPose
from avatars.mlp_body.sources import Sources


@dataclass(frozen=True, eq=False)
class Points:
    """Where everything sits in the big pose, frozen. xyz [N, 3], controls [C, 3], anchors [F, 3] m; normals [N, 3].

    weights [N, J] skinning; expression_rows [M]: Gaussians that expressions move, expression_dirs [E, M, 3] m.
    gaussian_anchors, control_anchors, gaussian_controls: who takes from whom. control_pairs [C, s]: control points near
    each, itself first. anchor_sees [F, D]: which numbers of the driving pose each anchor sees, 1 or 0.
    """

    xyz: Tensor
    normals: Tensor
    controls: Tensor
    anchors: Tensor
    weights: Tensor
    expression_rows: Tensor
    expression_dirs: Tensor
    gaussian_anchors: Mixing
    control_anchors: Mixing
    gaussian_controls: Mixing
    control_pairs: Tensor
    anchor_sees: Tensor

    def to(self, device: str | torch.device) -> Points:
        """The same on another device."""
        return Points(*(getattr(self, entry.name).to(device) for entry in fields(self)))


class Drive(NamedTuple):
    """One or more poses as the model takes them: network input [U, D], and the posed body."""

    theta: Tensor
    places: Places


class MlpBody(nn.Module):
    """N Gaussians, C control points and F anchors with private networks. Parameters are raw.

    basis, control_basis: how many coefficients the networks give to Gaussians and to control points. widths: hidden
    layers. rest_pose [J, 3] rad: how the person was captured, to be shown first. range: of the training poses, None
    where novel poses are not held back.
    """

    method = "mlp_body"

    def __init__(
        self,
        canonical: Canonical,
        points: Points,
        driving: DrivingPose,
        *,
        basis: int,
        control_basis: int,
        widths: tuple[int, ...],
        wiggle_m: float,
        view_dependent: bool,
        pose_range: PoseRange | None,
        rest_pose: NDArray[np.float32],
        captured_irradiance: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.canonical, self.points, self.driving = canonical, points, driving
        self.basis, self.control_basis, self.widths = basis, control_basis, tuple(widths)
        self.wiggle_m, self.view_dependent, self.pose_range = wiggle_m, view_dependent, pose_range
        self.rest_pose = np.asarray(rest_pose, np.float32)
        self.captured_irradiance = captured_irradiance
        self.weights_by_joint = points.weights.T.contiguous()
        self.xyz_rows = points.xyz.T.contiguous()
        self.driving_joints, self.driving_expressions = driving.rows(canonical.arrays)
        count, controls = len(points.xyz), len(points.controls)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape))

        self.neutral = parameter(CHANNELS, count)
        self.bases = parameter(basis, CHANNELS, count)
        self.sh1, self.sh1_bases = parameter(9, count), parameter(basis, 9, count)
        self.wiggle = parameter(3, count)
        self.control_offsets = parameter(controls, 3)
        self.control_bases = parameter(control_basis, controls, 3)
        self.networks = PrivateNetworks(len(points.anchors), (driving.size(), *widths, basis + control_basis))

    def __len__(self) -> int:
        return len(self.points.xyz)

    def moved_to(self, device: str | torch.device) -> MlpBody:
        """This body with everything it holds on `device`."""
        self.to(device)
        self.points = self.points.to(device)
        self.weights_by_joint = self.weights_by_joint.to(device)
        self.xyz_rows = self.xyz_rows.to(device)
        self.driving_joints = self.driving_joints.to(device)
        self.driving_expressions = self.driving_expressions.to(device)
        skeleton = self.canonical.skeleton.to(device)
        self.canonical = Canonical(
            self.canonical.arrays, self.canonical.reference, self.canonical.vertices, self.canonical.weights, skeleton
        )
        if self.pose_range is not None:
            self.pose_range = self.pose_range.to(device)
        if self.captured_irradiance is not None:
            self.captured_irradiance = self.captured_irradiance.to(device)
        return self

    def tables(self) -> Tables:
        """The parameters that Gaussians own."""
        return Tables(self.neutral, self.bases, self.sh1, self.sh1_bases, self.wiggle, self.wiggle_m)

    def theta(self, rotations: Tensor, expressions: Tensor) -> Tensor:
        """What drives the networks [U, D], not clamped."""
        # Tables on the device: a graph that is being recorded cannot be sent lists of numbers.
        turned = rotations.index_select(1, self.driving_joints).flatten(1)
        return torch.cat((turned, expressions.index_select(1, self.driving_expressions)), 1)

    def clamped(self, theta: Tensor) -> Tensor:
        """The same held inside the training poses."""
        return theta if self.pose_range is None else self.pose_range.clamped(theta)

    def placed(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Places:
        """The posed body for rotations [U, J, 3] rad, translations [U, 3] m, expressions [U, E]."""
        return self.placed_by(self.canonical.skeleton.skinning(rotations, translations, expressions), expressions)

    def placed_by(self, skinning: Tensor, expressions: Tensor) -> Places:
        """The body posed by joints' matrices [U, J, 3, 4] from the big pose, and expressions [U, E].

        Differentiable by `skinning` through positions, not through the Gaussians' own turning.
        """
        points = self.points
        transforms = blended(skinning, self.weights_by_joint)
        turns = None
        if not cuda_express.usable(self.neutral):  # whose kernel finds them
            with torch.no_grad():
                linear = transforms.detach().unflatten(1, (3, 4))[:, :, :3].permute(0, 3, 1, 2)
                turns = turns_of(linear).transpose(1, 2).contiguous()
        rest = self.xyz_rows.expand(len(skinning), -1, -1)
        if len(points.expression_rows) and expressions.shape[1]:
            moved = torch.einsum("ue,emc->ucm", expressions, points.expression_dirs)
            rest = rest.index_add(2, points.expression_rows, moved)
        return Places(rest, transforms, turns)

    def coefficients(self, theta: Tensor) -> Tensor:
        """What the anchors say [F, U, basis + control_basis] of driving poses [U, D]."""
        return self.networks(self.points.anchor_sees[:, None] * theta)

    def control_moves(self, coefficients: Tensor | None, batch: int) -> Tensor:
        """Offsets [U, C, 3] m of the control points; coefficients as of `coefficients`, or None for neutral ones."""
        neutral = self.control_offsets.expand(batch, -1, -1)
        if coefficients is None:
            return neutral.clone()  # no view of the parameter: a recorded graph gives it out
        own = _mixed(coefficients[..., self.basis :], self.points.control_anchors)
        return neutral + torch.einsum("uck,kcx->ucx", own, self.control_bases)

    def forward(self, drive: Drive, *, active: bool, view_dependent: bool) -> tuple[Expressed, Tensor]:
        """Gaussians of poses [U] and the control points' offsets [U, C, 3]. active: networks and bases take part."""
        batch = len(drive.theta)
        said = self.coefficients(drive.theta) if active else None
        controls = self.control_moves(said, batch)
        places, tint = drive.places, view_dependent
        if not (cuda_express.usable(self.neutral) or cpu_express.usable(self.neutral)):
            own = None if said is None else _mixed(said[..., : self.basis], self.points.gaussian_anchors)
            moved = _mixed(controls.transpose(0, 1), self.points.gaussian_controls)
            return express(self.tables(), own, moved, places, view_dependent=tint), controls
        tables = (self.neutral, self.bases, self.sh1, self.sh1_bases, self.wiggle)
        points = self.points
        sources = Sources(points.gaussian_anchors, points.gaussian_controls, self.wiggle_m, self.basis)
        given = (tables, sources, said, controls, places.rest, places.transforms)
        if places.turns is None:
            *found, coloured = cuda_express.express(*given, tinted=tint)
        else:
            *found, coloured = cpu_express.express(*given, places.turns, tinted=tint)
        return Expressed(*found, coloured if tint else None), controls

    def pose(
        self,
        rotations: Tensor,
        translations: Tensor,
        expressions: Tensor,
        *,
        clamped: bool = True,
        normals: bool = False,
    ) -> PosedGaussians:
        """World Gaussians for rotations [U, J, 3] rad, translations [U, 3] m, expressions [U, E].

        clamped: hold the networks' input inside the training poses; skinning never is.
        """
        theta = self.theta(rotations, expressions)
        places = self.placed(rotations, translations, expressions)
        drive = Drive(self.clamped(theta) if clamped else theta, places)
        found, _ = self(drive, active=True, view_dependent=self.view_dependent)
        return posed_gaussians(found, self.normals(places) if normals else None)

    def normals(self, places: Places) -> Tensor:
        """Unit normals [U, N, 3] of the template's surface under the Gaussians."""
        rows = places.transforms.unflatten(1, (3, 4))[:, :, :3]
        turned = (rows * self.points.normals.T[None, None]).sum(2).transpose(1, 2)
        return torch.nn.functional.normalize(turned, dim=-1)


def _mixed(values: Tensor, mixing: Mixing) -> Tensor:
    """Values [M, U, C] at other points, [U, N, C]."""
    sources, batch, columns = values.shape
    found = mix(values.reshape(sources, batch * columns), mixing)
    return found.unflatten(1, (batch, columns)).transpose(0, 1)


def posed_gaussians(expressed: Expressed, normals: Tensor | None = None) -> PosedGaussians:
    """As every renderer takes them."""
    view = None if expressed.tint is None else BandColours(expressed.base, expressed.tint)
    colours = expressed.base.clamp_min(0)
    return PosedGaussians(
        expressed.means, expressed.quats, expressed.scales, expressed.opacities, colours, normals, view
    )
