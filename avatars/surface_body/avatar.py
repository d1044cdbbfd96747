"""A signed-distance body as the rest of Effigy sees it: its trained mesh with Gaussians on its faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.colour import linear_from_srgb
from avatars.relit_body.person import Person
from avatars.rgb_head.storage import take_tensor
from avatars.surface.sources import MeshSource, gaussian_look
from avatars.surface.unwrap import decimated
from avatars.surface_body.export import Colours, Finer, followed_by, solid_colours, surface_source
from avatars.surface_body.faces import PARAMETERS, FaceGaussians, on_faces
from avatars.surface_body.mesh_state import MeshState, blended
from avatars.surface_body.posing import PosedMesh, RecordedPose, posed_gaussians, posed_surface
from avatars.surface_body.solid_texture import solid_from
from avatars.templates.opening import TemplateReference
from avatars.templates.rig import rig_of
from shared.errors import BadAvatar
from shared.types import ProxyMesh, Rig

PROXY_FACES = 40_000
"""More faces than that would make Blender's own playback slow; its stand-in is then a lighter mesh of the person."""
TOUCHED_M = 1e-6


class SurfaceAvatar:
    """An `avatars.avatar.Avatar`. person, mesh and gaussians on its faces share a device.

    field and field_description: the distances the mesh was taken from, as `avatars.surface_body.storage` reads them;
    empty where they were not kept. repainted: its Gaussians were given other colours, which the mesh then takes. sharp:
    they were trained as such. On CUDA single frames are posed by a recorded graph, made at the first one.
    """

    method = "surface_body"

    def __init__(
        self,
        person: Person,
        mesh: MeshState,
        gaussians: FaceGaussians,
        rest_pose: NDArray[np.float32],
        *,
        field: Mapping[str, Tensor] | None = None,
        field_description: Mapping[str, Any] | None = None,
        captured_irradiance: Tensor | None = None,
        repainted: bool = False,
        sharp: bool = False,
    ) -> None:
        self.person, self.mesh, self.gaussians = person, mesh, gaussians.requires_grad_(False)
        self.rest_pose: NDArray[np.float32] = np.asarray(rest_pose, np.float32)
        self.field, self.field_description = dict(field or {}), dict(field_description or {})
        self.captured_irradiance: Tensor | None = captured_irradiance
        self.repainted, self.sharp = repainted, sharp
        self.posed_mesh = PosedMesh(person, mesh, gaussians.face)
        shaped = (gaussians.offsets, gaussians.turns, gaussians.scales)
        self.places = on_faces(*shaped, self.posed_mesh.canonical_corners)
        self._recorded: dict[bool, RecordedPose] = {}

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        return rig_of(self.person.arrays, self.person.joints, self.person.reference.shape)

    def proxy(self) -> ProxyMesh:
        """Its own mesh in the template's rest pose, where Blender's skinning takes it from there.

        Skinning cannot be undone for all poses at once: the mesh is put where it comes out best at rest and as
        captured; blended regions such as hips are then a little off elsewhere. `mesh_source` gives it in its own pose.
        """
        vertices, faces = (part.cpu().numpy() for part in (self.mesh.vertices, self.mesh.faces))
        vertices, faces = decimated(vertices, faces, PROXY_FACES)
        found = followed_by(self.mesh, vertices)
        rest, turns = self._at_rest(vertices, found.joints, found.weights)
        offsets = np.einsum("mij,emj->emi", turns[found.expression_vertices], found.expression_offsets)
        colour = linear_from_srgb(torch.from_numpy(self._colours()(vertices)).float()).numpy()
        return ProxyMesh(
            vertices=rest.astype(np.float32),
            faces=np.concatenate((faces, faces[:, 2:]), 1),
            group=np.zeros(len(faces), np.int32),
            group_names=("skin",),
            joints=found.joints,
            weights=found.weights,
            colour=colour,
            expression_vertices=found.expression_vertices,
            expression_offsets=offsets,
        )

    def _at_rest(
        self, vertices: NDArray[np.floating], joints: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rest places [V, 3] m of canonical vertices [V, 3], and what turns their offsets there, [V, 3, 3].

        Least squares over both poses between where the mesh is and where skinning from rest would have it.
        """
        person = self.person.to("cpu")
        poses = torch.from_numpy(np.stack((np.zeros_like(self.rest_pose), self.rest_pose)))
        still = torch.zeros(2, 3), torch.zeros(2, len(person.arrays.expression_names))
        moved = person.moved(poses, *still)
        follow = torch.from_numpy(joints).long(), torch.from_numpy(weights)
        ours = blended(moved, *follow).double().numpy()
        theirs = blended(moved @ person.canonical_from_rest, *follow).double().numpy()
        goals = (ours[..., :3] @ vertices[:, :, None])[..., 0] + ours[..., 3] - theirs[..., 3]
        back = theirs[..., :3].swapaxes(-1, -2)
        normal = np.linalg.inv((back @ theirs[..., :3]).sum(0))
        rest = (normal @ (back @ goals[..., None]).sum(0))[..., 0]
        return rest, ours[0, ..., :3]

    def mesh_source(self, finer: Finer | None = None) -> MeshSource:
        """The trained mesh, its texture and its trained weights, for export. finer: whose normals are painted on it."""
        return surface_source(self.person, self.mesh, self.rig(), self.rest_pose, self._colours(), finer)

    def _colours(self) -> Colours:
        """Colours of places on the mesh: of its texture, or of Gaussians that say more than it."""
        if not self.repainted:
            return solid_colours(self.mesh)
        canonical = self.person.canonical_rotations[None].to(self.mesh.vertices)
        still = canonical.new_zeros(1, 3), canonical.new_zeros(1, len(self.person.arrays.expression_names))
        look = gaussian_look(self.pose(canonical, *still))
        return lambda points: look(points, points).colour

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        with torch.no_grad():
            if len(rotations) > 1 or not rotations.is_cuda:
                return self._posed(rotations, translations, expressions, normals=normals)
            if normals not in self._recorded:
                self._recorded[normals] = RecordedPose(partial(self._posed, normals=normals))
            return self._recorded[normals](rotations, translations, expressions)

    def posed(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """As `pose`, differentiable by the Gaussians where they are trained."""
        model = self.gaussians
        places = on_faces(model.offsets, model.turns, model.scales, self.posed_mesh.canonical_corners)
        with torch.no_grad():
            surface = posed_surface(self.posed_mesh, rotations, translations, expressions, normals=normals)
        posed = posed_gaussians(surface, places, model.opacities, model.colours, model.tints)
        return replace(posed, sharp=self.sharp)

    def _posed(self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool) -> PosedGaussians:
        model = self.gaussians
        surface = posed_surface(self.posed_mesh, rotations, translations, expressions, normals=normals)
        posed = posed_gaussians(surface, self.places, model.opacities, model.colours, model.tints)
        return replace(posed, sharp=self.sharp)

    def vertices(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """The mesh's vertices [B, V, 3] m in poses as `pose` takes them."""
        with torch.no_grad():
            transforms = self.posed_mesh.blended(rotations, translations, expressions)
            return self.posed_mesh.vertices(transforms, expressions)

    def with_gaussians(self, gaussians: FaceGaussians) -> SurfaceAvatar:
        """The same person with Gaussians of other colours on its faces."""
        return SurfaceAvatar(
            self.person,
            self.mesh,
            gaussians,
            self.rest_pose,
            field=self.field,
            field_description=self.field_description,
            captured_irradiance=self.captured_irradiance,
            repainted=True,
            sharp=self.sharp,
        )

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.person.reference

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""
        mesh = self.mesh
        found: dict[str, Tensor] = {name: getattr(self.gaussians, name) for name in PARAMETERS}
        found["tints"] = self.gaussians.tints.half()
        found["face"] = self.gaussians.face.int()
        found |= {"mesh.vertices": mesh.vertices, "mesh.faces": mesh.faces.int()}
        found |= {"mesh.joints": mesh.joints.to(torch.int32), "mesh.weights": mesh.weights}
        touched = _touched(mesh.expression_dirs)
        found["mesh.expression_vertices"] = touched.int()
        found["mesh.expression_dirs"] = mesh.expression_dirs[:, touched].half()
        found |= {f"solid.{name}": value for name, value in mesh.solid.tensors().items()}
        found |= {f"field.{name}": value for name, value in self.field.items()}
        found["rest_pose"] = torch.from_numpy(self.rest_pose.copy())
        if self.captured_irradiance is not None:
            found["captured_irradiance"] = self.captured_irradiance
        return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        return {
            "gaussians": len(self.gaussians),
            "vertices": len(self.mesh.vertices),
            "faces": len(self.mesh.faces),
            **self.person.as_json(),
            "solid": self.mesh.solid.description(),
            "field": self.field_description,
            "repainted": self.repainted,
            "sharp": self.sharp,
        }


def _touched(expression_dirs: Tensor) -> Tensor:
    """Rows [M] of vertices that some expression moves."""
    if not len(expression_dirs):
        return torch.zeros(0, dtype=torch.int64, device=expression_dirs.device)
    return (expression_dirs.abs().amax((0, 2)) > TOUCHED_M).nonzero()[:, 0]


def load_surface_body(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> SurfaceAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    try:
        count, faces, vertices = (int(description[name]) for name in ("gaussians", "faces", "vertices"))
        canonical = torch.tensor(description["canonical_rotations"], dtype=torch.float32)
        solid_description, field_description = dict(description["solid"]), dict(description["field"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAvatar("avatar.json does not describe a signed-distance body", found=str(error)) from error
    person = Person(reference, canonical)
    widths = {"offsets": (2,), "turns": (), "scales": (2,), "opacities": (), "colours": (3,)}
    values = {name: take_tensor(tensors, name, torch.float32, (count, *last)) for name, last in widths.items()}
    values["tints"] = take_tensor(tensors, "tints", torch.float16, (count, 3, 3)).float()
    face = take_tensor(tensors, "face", torch.int32, (count,)).long()
    _check_rows("Gaussians", face, faces)
    mesh = _mesh_from(person, tensors, vertices, faces, solid_description)
    rest_pose = take_tensor(tensors, "rest_pose", torch.float32, (len(person.arrays.joint_names), 3)).numpy()
    light = None
    if "captured_irradiance" in tensors:
        light = take_tensor(tensors, "captured_irradiance", torch.float32, (9, 3)).to(device)
    return SurfaceAvatar(
        person.to(device),
        mesh.to(device),
        FaceGaussians(values, face).to(device),
        rest_pose,
        field=_within(tensors, "field."),
        field_description=field_description,
        captured_irradiance=light,
        repainted=description.get("repainted") is True,
        sharp=description.get("sharp") is True,
    )


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _mesh_from(
    person: Person, tensors: Mapping[str, Tensor], vertices: int, faces: int, solid: Mapping[str, Any]
) -> MeshState:
    joints = take_tensor(tensors, "mesh.joints", torch.int32, (vertices, 8)).long()
    triangles = take_tensor(tensors, "mesh.faces", torch.int32, (faces, 3)).long()
    touched = take_tensor(tensors, "mesh.expression_vertices", torch.int32, (None,)).long()
    expressions = len(person.arrays.expression_names)
    dirs = take_tensor(tensors, "mesh.expression_dirs", torch.float16, (expressions, len(touched), 3)).float()
    _check_rows("joints", joints, len(person.arrays.joint_names))
    _check_rows("faces", triangles, vertices)
    _check_rows("expressions", touched, vertices)
    whole = torch.zeros(expressions, vertices, 3)
    whole[:, touched] = dirs
    return MeshState(
        take_tensor(tensors, "mesh.vertices", torch.float32, (vertices, 3)),
        triangles,
        joints,
        take_tensor(tensors, "mesh.weights", torch.float32, (vertices, 8)),
        whole,
        solid_from(_within(tensors, "solid."), solid),
    )


def _check_rows(name: str, index: Tensor, most: int) -> None:
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < most:
        raise BadAvatar(f"the avatar's {name} point outside it", found=f"{int(index.min())} to {int(index.max())}")
