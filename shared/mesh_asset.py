"""A person as an ordinary rigged and textured mesh: the folder `backend mesh` writes and Blender reads.

    mesh.json    format, version, name, avatar_id, digest, joint and expression names, textures, provenance
    mesh.npz     numbers (ARRAYS)
    colour.png   base colour, sRGB          orm.png   red 1, green roughness, blue metallic, linear
    normal.png   tangent space, y up, MikkTSpace        each of them optional

The mesh lies in a canonical pose (`canonical`), which is the armature's rest pose: skinned from there, vertices are
where the model itself has them. Metres, z up, facing -y.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadAvatar, EffigyError
from .npz import read_npz
from .template import joint_transforms
from .types import ProxyMesh, Rig, frozen_array

FORMAT, VERSION = "effigy-mesh", 1
DESCRIPTION, NUMBERS = "mesh.json", "mesh.npz"
TEXTURES = ("colour", "normal", "orm")
MAX_JSON_BYTES, MAX_NPZ_BYTES, MAX_UNPACKED_BYTES = 1 << 20, 1 << 30, 2 << 30
ARRAYS = (
    *("vertices", "faces", "uv", "joints", "weights", "colour", "expression_vertices", "expression_offsets"),
    *("parents", "rest_joints", "shape", "expression_ranges", "canonical", "rest_pose"),
)


@dataclass(frozen=True, eq=False)
class MeshAsset:
    """A rigged mesh. mesh: canonical vertices, triangles (last index repeated), weights, vertex colours, expressions.

    rig: joints at the template's rest. canonical: [J, 3] rad, the pose the vertices lie in. rest_pose: [J, 3] rad, how
    the person was captured. uv: [F, 3, 2] of each face's corners, (0, 0) bottom left. textures: name -> file name.
    """

    name: str
    avatar_id: str
    digest: str
    rig: Rig
    mesh: ProxyMesh
    canonical: NDArray[np.float32]
    rest_pose: NDArray[np.float32]
    uv: NDArray[np.float32]
    textures: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.rig.joint_names)
        for name, shape in {
            "canonical": (count, 3),
            "rest_pose": (count, 3),
            "uv": (len(self.mesh.faces), 3, 2),
        }.items():
            object.__setattr__(self, name, frozen_array(getattr(self, name), np.float32, shape, f"MeshAsset.{name}"))

    def canonical_joints(self) -> NDArray[np.float64]:
        """Where the joints are in the canonical pose, [J, 3] m."""
        _, placed = joint_transforms(self.canonical, self.rig.rest_joints.astype(np.float64), self.rig.parents)
        found: NDArray[np.float64] = placed[:, :3, 3]
        return found

    def posed(self, rotations: NDArray[np.floating], translation: NDArray[np.floating]) -> NDArray[np.float64]:
        """Vertices [V, 3] m in a pose of the template, rotations [J, 3] rad and translation [3] m: the reference."""
        joints = self.rig.rest_joints.astype(np.float64)
        moved, _ = joint_transforms(rotations, joints, self.rig.parents, translation)
        canonical, _ = joint_transforms(self.canonical, joints, self.rig.parents)
        bones = moved @ np.linalg.inv(canonical)
        blended = np.einsum("vk,vkab->vab", self.mesh.weights.astype(np.float64), bones[self.mesh.joints])
        found: NDArray[np.float64] = (blended[:, :3, :3] @ self.mesh.vertices[..., None])[..., 0] + blended[:, :3, 3]
        return found


def write_mesh_files(folder: Path, asset: MeshAsset) -> None:
    """Write mesh.json and mesh.npz into a folder that is there; textures are the caller's."""
    ranges = asset.rig.expression_ranges
    mesh, rig = asset.mesh, asset.rig
    arrays = {name: getattr(mesh, name) for name in ARRAYS[:8] if name != "uv"}
    arrays |= {"uv": asset.uv, "parents": rig.parents, "rest_joints": rig.rest_joints, "shape": rig.shape}
    arrays |= {"canonical": asset.canonical, "rest_pose": asset.rest_pose}
    arrays["expression_ranges"] = np.zeros((0, 2), np.float32) if ranges is None else ranges
    np.savez_compressed(folder / NUMBERS, **arrays)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": asset.name,
        "avatar_id": asset.avatar_id,
        "digest": asset.digest,
        "template": {"id": rig.template_id, "digest": rig.template_digest},
        "joints": list(rig.joint_names),
        "expressions": list(rig.expression_names),
        "textures": dict(asset.textures),
        "provenance": dict(asset.provenance),
    }
    (folder / DESCRIPTION).write_text(json.dumps(document, indent=1), encoding="utf-8")


def is_mesh_folder(folder: Path) -> bool:
    """Whether a folder looks like one `backend mesh` wrote."""
    return (folder / DESCRIPTION).is_file() and (folder / NUMBERS).is_file()


def read_mesh(folder: Path) -> MeshAsset:
    """The asset in a folder, checked. Raises BadAvatar with one sentence."""
    folder = Path(folder)
    try:
        if (folder / DESCRIPTION).stat().st_size > MAX_JSON_BYTES or (folder / NUMBERS).stat().st_size > MAX_NPZ_BYTES:
            raise BadAvatar(f"the mesh in {folder.name} is too large")
        document = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        content = (folder / NUMBERS).read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise BadAvatar(
            f"there is no mesh in {folder}", found=str(error)[:100], expected=f"{DESCRIPTION} and {NUMBERS}"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise BadAvatar(f"{folder.name} holds no mesh of this version", expected=f"{FORMAT} {VERSION}")
    a = read_npz(content, f"{folder.name}/{NUMBERS}", BadAvatar, max_unpacked_bytes=MAX_UNPACKED_BYTES, only=ARRAYS)
    try:
        textures = {str(key): str(value) for key, value in document["textures"].items()}
        if not all(key in TEXTURES and Path(value).name == value for key, value in textures.items()):
            raise ValueError("a texture outside the folder")
        ranges = a["expression_ranges"] if len(a["expression_ranges"]) else None
        named = document["template"]["id"], document["template"]["digest"], tuple(document["joints"])
        rig = Rig(*named, a["parents"], a["rest_joints"], tuple(document["expressions"]), a["shape"], ranges)
        faces = a["faces"]
        mesh = ProxyMesh(
            *(a["vertices"], faces, np.zeros(len(faces), np.int32), ("skin",), a["joints"], a["weights"], a["colour"]),
            *(a["expression_vertices"], a["expression_offsets"]),
        )
        if mesh.joints.size and not 0 <= mesh.joints.min() <= mesh.joints.max() < len(rig.joint_names):
            raise ValueError("weights of joints that are not there")
        name, avatar_id, digest = (str(document[key]) for key in ("name", "avatar_id", "digest"))
        return MeshAsset(
            name,
            avatar_id,
            digest,
            rig,
            mesh,
            a["canonical"],
            a["rest_pose"],
            a["uv"],
            textures,
            dict(document.get("provenance", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError, EffigyError) as error:
        raise BadAvatar(f"the mesh in {folder.name} is damaged", found=str(error)[:120], do="Make it again") from error
