"""The RGBAvatar model: G(θ) = G0 + Σ_k ψ_k(θ) ΔG_k in the frames of the posed template's triangles (method page 2)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatars.gaussians.binding import Anchors, UvBinding, anchors, smooth_normals
from avatars.gaussians.frames import FrameKind
from avatars.gaussians.posed import PosedGaussians, multiply_quaternions
from avatars.rgb_head.cuda_place import FaceRows, face_rows, usable
from avatars.rgb_head.cuda_place import place as place_rows
from avatars.rgb_head.driving import DrivingLayout, DrivingRange
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.rotations import unit_quaternions
from avatars.templates.template import triangles_of

Surface = Anchors | FaceRows
SH0 = 0.28209479177387814
ATTRIBUTES = ("positions", "rotations", "scales", "opacities", "colours")
DELTAS = ("position_deltas", "rotation_deltas", "colour_deltas")
RANGES = ("mean", "sigma", "low", "high")
HIDDEN = 128


class RgbHead(nn.Module):
    """N Gaussians, K deltas of each, and the weight network. Parameters are raw; `pose` applies the activations.

    positions [N, 3] m in the triangle's frame; rotations [N, 4] wxyz; scales [N, 3] log m; opacities [N] logit; colours
    [N, 3] SH degree-0 coefficients of display-encoded sRGB; deltas [K, N, 3 | 4 | 3]. `seen` [N] says which Gaussians
    any training image has shown: the others are hidden.
    """

    method = "rgb_head"

    def __init__(
        self,
        head: HeadTemplate,
        binding: UvBinding,
        layout: DrivingLayout,
        *,
        blendshapes: int,
        frame: FrameKind,
        driving_range: DrivingRange,
        rest_pose: NDArray[np.float32],
        captured_irradiance: Tensor | None = None,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        arrays = head.template.arrays
        layout.check(arrays.joint_names, arrays.expression_names)
        self.head, self.binding, self.layout, self.frame = head, binding, layout, frame
        self.driving_range, self.hidden = driving_range, hidden
        self.rest_pose = np.asarray(rest_pose, np.float32)
        self.captured_irradiance = captured_irradiance
        count = len(binding)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape))

        self.positions, self.rotations = parameter(count, 3), parameter(count, 4)
        self.scales, self.opacities, self.colours = parameter(count, 3), parameter(count), parameter(count, 3)
        self.position_deltas = parameter(blendshapes, count, 3)
        self.rotation_deltas = parameter(blendshapes, count, 4)
        self.colour_deltas = parameter(blendshapes, count, 3)
        self.network = nn.Sequential(
            nn.Linear(layout.size(), hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, blendshapes),
        )
        groups = dict.fromkeys(name.partition("/")[0] for name in binding.group_names)
        triangles = [triangles_of(arrays.faces[name], arrays.uv_faces[name])[0] for name in groups]
        self.skin_triangles: Tensor
        whole = np.concatenate(triangles).astype(np.int64) if triangles else np.zeros((0, 3), np.int64)
        self.register_buffer("skin_triangles", torch.from_numpy(whole), persistent=False)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(count, dtype=torch.bool))
        with torch.no_grad():
            self.rotations[:, 0] = 1

    def __len__(self) -> int:
        return len(self.binding)

    def moved_to(self, device: str) -> RgbHead:
        """This head with everything it holds on `device`."""
        self.to(device)
        self.binding = self.binding.to(device)
        self.driving_range = self.driving_range.to(device)
        self.head = self.head.to(device)
        if self.captured_irradiance is not None:
            self.captured_irradiance = self.captured_irradiance.to(device)
        return self

    def kept(self, chosen: Tensor) -> RgbHead:
        """A copy with only the Gaussians where `chosen` [N] bool is true."""
        smaller = RgbHead(
            self.head,
            self.binding.keep(chosen),
            self.layout,
            blendshapes=self.blendshapes,
            frame=self.frame,
            driving_range=self.driving_range,
            rest_pose=self.rest_pose,
            captured_irradiance=self.captured_irradiance,
            hidden=self.hidden,
        ).to(chosen.device)
        with torch.no_grad():
            for name in ATTRIBUTES:
                getattr(smaller, name).copy_(getattr(self, name)[chosen])
            for name in DELTAS:
                getattr(smaller, name).copy_(getattr(self, name)[:, chosen])
            smaller.network.load_state_dict(self.network.state_dict())
            smaller.seen.copy_(self.seen[chosen])
        return smaller

    @property
    def blendshapes(self) -> int:
        """K."""
        return len(self.position_deltas)

    def theta(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """The driving vector [B, size], not clipped."""
        arrays = self.head.template.arrays
        return self.layout.vector(rotations, translations, expressions, arrays.joint_names, arrays.expression_names)

    def weights(self, theta: Tensor) -> Tensor:
        """ψ [B, K] of θ [B, size], clipped to the training range and standardised by its mean and sigma.

        Standardising is ours: a fixed affine map of the input, without which blinks of small weight move the network
        less than a head turn and need far more images to be learned.
        """
        spread = self.driving_range.sigma.clamp_min(0.05)
        return self.network((self.driving_range.clipped(theta) - self.driving_range.mean) / spread)

    def blended(self, weights: Tensor | None, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Local positions [B, N, 3], raw quaternions [B, N, 4], colour coefficients [B, N, 3] for ψ [B, K] or None."""
        out = []
        for base, deltas in (
            (self.positions, self.position_deltas),
            (self.rotations, self.rotation_deltas),
            (self.colours, self.colour_deltas),
        ):
            if weights is None:
                out.append(base.expand(batch, *base.shape))
            else:
                flat = torch.addmm(base.reshape(1, -1), weights, deltas.flatten(1))
                out.append(flat.view(batch, *base.shape))
        return out[0], out[1], out[2]

    def place(
        self, surface: Surface, weights: Tensor | None, *, hide_unseen: bool, normals: Tensor | None = None
    ) -> PosedGaussians:
        """World Gaussians on a posed surface for ψ [B, K]; ψ None leaves the deltas out. normals [B, N, 3] or none."""
        if isinstance(surface, FaceRows):
            hidden = ~self.seen if hide_unseen else torch.zeros_like(self.seen)
            attributes = (self.positions, self.rotations, self.scales, self.opacities, self.colours)
            deltas = (self.position_deltas, self.rotation_deltas, self.colour_deltas)
            blend = None if weights is None else (weights, *deltas)
            return PosedGaussians(*place_rows(surface, self.binding, attributes, blend, hidden), normals)
        batch = len(surface.points)
        positions, rotations, colours = self.blended(weights, batch)
        means = surface.points + (surface.frames @ positions[..., None])[..., 0]
        quats = unit_quaternions(multiply_quaternions(surface.quats, unit_quaternions(rotations)))
        opacities = torch.sigmoid(self.opacities)
        if hide_unseen:
            opacities = torch.where(self.seen, opacities, torch.zeros_like(opacities))
        return PosedGaussians(
            means=means,
            quats=quats,
            scales=torch.exp(self.scales).expand(batch, -1, -1),
            opacities=opacities.expand(batch, -1),
            colours=(SH0 * colours + 0.5).clamp_min(0),
            normals=normals,
        )

    def surface(self, vertices: Tensor, frames: Tensor | None = None) -> Surface:
        """The posed surface under all Gaussians: of vertices [B, V, 3] m, or of rows `frames` [B] of a longer table.

        On CUDA one row for each triangle, which `place` reads in its kernels; elsewhere anchors of each Gaussian.
        """
        if usable(vertices.device, self.frame):
            every = torch.arange(len(vertices), device=vertices.device) if frames is None else frames
            return face_rows(self.binding, vertices, every, self.frame)
        return anchors(self.binding, vertices if frames is None else vertices[frames], self.frame)

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        vertices = self.head.posed_vertices(rotations, translations, expressions)
        return self.placed(vertices, self.weights(self.theta(rotations, translations, expressions)), normals=normals)

    def placed(self, vertices: Tensor, weights: Tensor, *, normals: bool) -> PosedGaussians:
        """World Gaussians on posed vertices [B, V, 3] m for ψ [B, K], as the avatar shows them."""
        smooth = smooth_normals(self.binding, vertices, self.skin_triangles) if normals else None
        return self.place(self.surface(vertices), weights, hide_unseen=True, normals=smooth)
