"""A teacher's folder NAME.teacher: teacher.json, weights.safetensors, mesh.ply, environment.exr, preview.png."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from avatars.captures.capture import Capture
from avatars.files import save_tensors, sha256_of, write_folder_atomically
from avatars.lighting.environment_files import write_exr
from avatars.relit_body.teacher import TeacherImages, TeacherPoints
from avatars.relit_field.corrected_poses import CorrectedPoses
from avatars.relit_field.light import KnownLight, environment_of
from avatars.relit_field.model import TeacherModel
from avatars.relit_field.picture import picture
from avatars.relit_field.settings import TeacherConfig, check_teacher
from avatars.relit_field.surface import field_mesh
from avatars.rendering.cameras import CameraBatch
from avatars.templates.opening import TemplateReference
from avatars.training.typed import from_mapping
from shared.errors import BadAvatar, BadConfig, EffigyError
from shared.types import Environment

FORMAT, VERSION = "effigy-teacher", 1
DESCRIPTION, WEIGHTS, MESH, LIGHT, PREVIEW = (
    "teacher.json",
    "weights.safetensors",
    "mesh.ply",
    "environment.exr",
    "preview.png",
)
POINTS_AT_ONCE = 1 << 17
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True)
class AboutTeacher:
    """What is stored beside the numbers. step: how far it was trained; size_px: longest side it was measured at.

    recording, joints: digest of the recording and names of the joints whose poses were corrected, both empty if none.
    """

    name: str
    licence: str
    step: int
    size_px: int
    training: Mapping[str, Any]
    provenance: Mapping[str, Any]
    recording: str = ""
    joints: tuple[str, ...] = ()


class FieldTeacher:
    """A trained field as a `Teacher`. shaded: pictures are physically based where it was trained for that.

    samples: light directions a pixel, 0 for as many as in training. light: another light than the learned one. poses:
    of its recording, where it corrected them.
    """

    def __init__(
        self,
        model: TeacherModel,
        about: AboutTeacher,
        *,
        samples: int = 0,
        light: Environment | None = None,
        poses: CorrectedPoses | None = None,
    ) -> None:
        self.model, self.about, self.samples, self.poses = model, about, samples, poses
        self.canonical_rotations: Tensor = model.person.body.rotations
        self.levels = model.person.fields.shape_grid.open_levels(about.step)
        self.shaded = about.step > model.config.light.starts_at or light is not None
        self.light = model.light if light is None else KnownLight(light).to(model.device)

    def template(self) -> TemplateReference:
        """The template its poses are of, with preset and shape."""
        return self.model.reference

    def recorded(self, capture: Capture) -> Capture:
        """The capture in the poses this teacher corrected it to; as it is where it did not."""
        return capture if self.poses is None else self.poses.of(capture)

    def environment(self) -> Environment:
        """The light as a picture, world axes."""
        return environment_of(self.light)

    def mesh(self) -> tuple[Tensor, Tensor]:
        """Its canonical surface: vertices [V, 3] m and triangles [F, 3] int64."""
        person = self.model.person
        vertices, faces = field_mesh(person.fields, person.body, self.model.config.mesh_resolution, self.levels)
        return torch.from_numpy(vertices).to(self.model.device), torch.from_numpy(faces).to(self.model.device)

    def query(self, points: Tensor) -> TeacherPoints:
        """Shape and materials at canonical points [P, 3] m, without gradients."""
        fields = self.model.person.fields
        parts = []
        with torch.no_grad():
            for some in points.to(self.model.device).split(POINTS_AT_ONCE):
                geometry = fields.geometry(some, self.levels)
                found = fields.materials(some, geometry.features, self.levels)
                normals = normalize(geometry.gradient, dim=-1, eps=1e-6)
                row = (geometry.distance_m[:, None], normals, found.albedo, found.roughness, found.metallic)
                parts.append(torch.cat(row, -1))
        whole = torch.cat(parts) if parts else torch.zeros(0, 9, device=self.model.device)
        return TeacherPoints(whole[:, 0], whole[:, 1:4], whole[:, 4:7], whole[:, 7], whole[:, 8])

    def images(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, cameras: CameraBatch
    ) -> TeacherImages:
        """Pictures of poses [B, J, 3] rad, [B, 3] m through B cameras; expressions are not modelled."""
        found = [
            picture(
                self.model.person,
                self.model.person.body.posed(rotations[row], translations[row]),
                cameras.one(row),
                self.model.config,
                light=self.light if self.shaded else None,
                levels=self.levels,
                samples=self.samples,
            )
            for row in range(len(rotations))
        ]
        names = [field.name for field in dataclasses.fields(TeacherImages)]
        return TeacherImages(*(torch.cat([getattr(image, name) for image in found]) for name in names))


def save_teacher(
    folder: Path, model: TeacherModel, about: AboutTeacher, preview: np.ndarray, poses: CorrectedPoses | None = None
) -> None:
    """Write a teacher's folder, whole or not at all. preview: [H, W, 4] uint8. Raises EnvironmentFailed."""
    import trimesh

    person, tensors = model.person, model.tensors()
    if poses is not None:
        about = dataclasses.replace(about, recording=poses.digest, joints=poses.joints)
        tensors |= {name: torch.from_numpy(value) for name, value in poses.tensors().items()}
    levels = person.fields.shape_grid.open_levels(about.step)

    def fill(place: Path) -> None:
        save_tensors({name: value.cpu().contiguous() for name, value in tensors.items()}, place / WEIGHTS)
        try:
            vertices, faces = field_mesh(person.fields, person.body, model.config.mesh_resolution, levels)
            trimesh.Trimesh(vertices, faces, process=False).export(str(place / MESH))
        except EffigyError:  # a field without a surface is still worth keeping: it may be trained on
            pass
        write_exr(place / LIGHT, environment_of(model.light).radiance)
        Image.fromarray(preview).save(place / PREVIEW)
        document = {
            "format": FORMAT,
            "version": VERSION,
            **dataclasses.asdict(about),
            "template": model.reference.as_json(),
            "config": dataclasses.asdict(model.config),
            "sha256": sha256_of(place / WEIGHTS),
        }
        (place / DESCRIPTION).write_text(json.dumps(document, indent=1), encoding="utf-8")

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(folder, fill)


def open_teacher(
    folder: Path, device: str = "cpu", *, samples: int = 0, light: Environment | None = None
) -> FieldTeacher:
    """The teacher in a folder, checked. Raises BadAvatar, BadTemplate where its template is not at hand."""
    folder = Path(folder)
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BadAvatar(f"{DESCRIPTION} of {folder.name} is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadAvatar(f"there is no teacher in {folder}", found=str(error)[:120], do="Check the path") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise BadAvatar(f"{folder.name} is no teacher of this version", expected=f"{FORMAT} {VERSION}")
    try:
        config = from_mapping(TeacherConfig, document["config"], DESCRIPTION)
        check_teacher(config)
        about = _about(document)
        reference = TemplateReference.from_json(document["template"])
        if sha256_of(folder / WEIGHTS) != document["sha256"]:
            raise ValueError("the digest of its weights is another")
        model = TeacherModel(_without_start(config), reference, torch.device(device))
        tensors = load_file(str(folder / WEIGHTS))
        model.restore(tensors)
        poses = CorrectedPoses.stored(about.recording, about.joints, tensors)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError, BadConfig) as error:
        raise BadAvatar(f"teacher {folder.name} is damaged", found=str(error)[:160], do="Train it again") from error
    return FieldTeacher(model, about, samples=samples, light=light, poses=poses)


def _about(document: Mapping[str, Any]) -> AboutTeacher:
    """Teachers of before poses were kept have none. Raises KeyError, and ValueError for entries of another kind."""
    given = {"recording": "", "joints": (), **document}
    found = {field.name: given[field.name] for field in dataclasses.fields(AboutTeacher)}
    found["joints"] = tuple(str(name) for name in found["joints"])
    kinds = {"name": str, "licence": str, "recording": str, "step": int, "size_px": int, "training": dict}
    for name, kind in {**kinds, "provenance": dict}.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} is no {kind.__name__}")
    return AboutTeacher(**found)


def _without_start(config: TeacherConfig) -> TeacherConfig:
    """The same, without the work of fitting a start that the stored numbers replace."""
    return dataclasses.replace(config, fields=dataclasses.replace(config.fields, start="sphere"))
