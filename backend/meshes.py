"""An avatar or a teacher as an ordinary rigged mesh: the same for the command line and for errands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.home import default_home
from backend.library import SUFFIX, Library, avatar_place
from shared.errors import BadConfig
from shared.mesh_asset import DESCRIPTION, MeshAsset, is_mesh_folder

TEACHER = ".teacher"
INNER = "mesh"
"""Folder inside the avatar's where its mesh is kept unless another place is named."""
Tell = Callable[[str, int, int], None]


def mesh_place(text: str, home: Path | None) -> Path:
    """The folder of what is to become a mesh: NAME.teacher, NAME.avatar or an id of the library. Raises NotFound."""
    if text.rstrip("/\\").endswith(TEACHER):
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise BadConfig(f"there is no teacher in {folder}", do="Check the path")
        return folder
    library, avatar_id = avatar_place(text, (home or default_home()).expanduser() / "library")
    return Library(library).path(avatar_id)


def write_mesh(
    folder: Path,
    output: Path,
    settings: Any,
    device: str,
    tell: Tell = lambda what, done, of: None,
    *,
    field_normals: bool = False,
) -> MeshAsset:
    """Make the mesh of the avatar or teacher in `folder` and write it to `output`; another mesh there is replaced.

    settings: a MeshSettings. field_normals: paint those of the distance field it was made of.
    Raises BadConfig, BadAvatar, BadTemplate, EnvironmentFailed.
    """
    from avatars.surface.asset import check_mesh_settings, make_mesh, save_mesh
    from avatars.surface.sources import avatar_source, teacher_source

    check_mesh_settings(settings)
    if output.exists() and not is_mesh_folder(output) and (not output.is_dir() or any(output.iterdir())):
        raise BadConfig(f"{output} holds something else", expected=f"a new folder, or one with {DESCRIPTION}")
    tell("Opening", 0, 1)
    if folder.name.endswith(TEACHER):
        from avatars.relit_field.storage import open_teacher

        teacher = open_teacher(folder, device)
        source, digest, licence = teacher_source(teacher), "", teacher.about.licence
        name = teacher.about.name or folder.name.removesuffix(TEACHER)
        avatar_id = folder.name.removesuffix(TEACHER)
    else:
        from avatars.avatar_folder import avatar_digest, load_avatar, read_description, shown_name

        document = read_description(folder)
        avatar, digest = load_avatar(folder, device), avatar_digest(folder)
        source = _with_field_normals(avatar, device) if field_normals else avatar_source(avatar)
        name, licence = shown_name(folder, document), str(document.get("licence", ""))
        avatar_id = folder.name.removesuffix(SUFFIX)
    provenance = json.loads(json.dumps({"licence": licence, "made_of": folder.name}))
    asset, textures = make_mesh(source, settings, name, avatar_id, digest, provenance, tell)
    tell("Writing", 0, 1)
    save_mesh(output, asset, textures)
    return asset


def _with_field_normals(avatar: Any, device: str) -> Any:
    from avatars.surface_body.inference import field_normals, field_of

    return avatar.mesh_source(field_normals(field_of(avatar, device)))
