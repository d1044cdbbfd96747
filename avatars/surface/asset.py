"""From a canonical surface to the folder Blender imports: made lighter, unwrapped, painted, rigged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avatars.files import write_folder_atomically
from avatars.surface.bake import Textures, bake
from avatars.surface.sources import MeshSource
from avatars.surface.unwrap import decimated, unwrapped
from shared.errors import BadConfig
from shared.mesh_asset import MeshAsset, write_mesh_files
from shared.types import ProxyMesh

TEXTURE_PX = (64, 8192)
USUAL_PX = {"gaussians": 1024}
"""Kind of source -> side of its textures; what Gaussians hold is coarser than what a field does."""
Tell = Callable[[str, int, int], None]
"""(what is done, how much of it, of how much)."""


@dataclass(frozen=True)
class MeshSettings:
    """faces: at most about so many triangles, 0 for as they come. texture_px: side of the textures, 0 as is usual."""

    faces: int = 60_000
    texture_px: int = 0


def check_mesh_settings(settings: MeshSettings) -> None:
    """Raises BadConfig for numbers that make no mesh."""
    low, high = TEXTURE_PX
    if settings.texture_px and not low <= settings.texture_px <= high:
        raise BadConfig("texture_px is out of range", found=str(settings.texture_px), expected=f"{low} to {high}")
    if settings.faces and settings.faces < 100:
        raise BadConfig("too few faces for a person", found=str(settings.faces), expected="at least 100, or 0 for all")


def make_mesh(
    source: MeshSource,
    settings: MeshSettings,
    name: str,
    avatar_id: str = "",
    digest: str = "",
    provenance: Mapping[str, Any] | None = None,
    tell: Tell = lambda what, done, of: None,
) -> tuple[MeshAsset, Textures]:
    """The rigged mesh and its textures. Raises BadConfig."""
    check_mesh_settings(settings)
    texture_px = settings.texture_px or USUAL_PX.get(source.kind, 2048)
    tell("Decimating", 0, 1)
    vertices, faces = source.vertices, source.faces
    if settings.faces:
        vertices, faces = decimated(vertices, faces, settings.faces)
    look_at = source.look_at
    if len(faces) < len(source.faces) and source.look_lighter is not None:
        look_at = source.look_lighter
    tell("Unwrapping", 0, 1)
    atlas = unwrapped(vertices, faces, texture_px)
    faces = atlas.source[atlas.faces]  # xatlas keeps the order of faces; these are the mesh's own vertices again
    textures = bake(atlas, vertices, faces, look_at, texture_px, lambda done, of: tell("Painting", done, of))
    tell("Rigging", 0, 1)
    followed = source.follow(vertices)
    seen = source.look_at(vertices, np.zeros_like(vertices))
    linear = np.where(seen.colour <= 0.04045, seen.colour / 12.92, ((seen.colour + 0.055) / 1.055) ** 2.4)
    mesh = ProxyMesh(
        vertices=vertices,
        faces=np.concatenate((faces, faces[:, 2:]), 1),
        group=np.zeros(len(faces), np.int32),
        group_names=("skin",),
        joints=followed.joints,
        weights=followed.weights,
        colour=linear,
        expression_vertices=followed.expression_vertices,
        expression_offsets=followed.expression_offsets,
    )
    known = {"colour": "colour.png"}
    known |= {key: f"{key}.png" for key in ("normal", "orm") if getattr(textures, key) is not None}
    made = {"from": source.kind, "faces": len(faces), "texture_px": texture_px, **(provenance or {})}
    asset = MeshAsset(
        name,
        avatar_id,
        digest,
        source.rig,
        mesh,
        source.canonical,
        source.rest_pose,
        atlas.corner_uv(),
        known,
        made,
    )
    return asset, textures


def save_mesh(folder: Path, asset: MeshAsset, textures: Textures) -> None:
    """Write the folder, whole or not at all. Raises EnvironmentFailed."""

    def fill(place: Path) -> None:
        write_mesh_files(place, asset)
        for key, file in asset.textures.items():
            Image.fromarray(getattr(textures, key)).save(place / file, optimize=False)

    write_folder_atomically(folder, fill)
