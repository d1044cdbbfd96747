"""Extracted surfaces as files: OBJ or PLY with colours, and the arrays HF-Avatar's script leaves beside each frame."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.overlay import projected
from avatars.files import write_atomically
from avatars.rendering.mesh import rasterise_mesh
from avatars.surface.unwrap import unit
from avatars.surface_body.inference import FieldMesh
from shared.template import rotation_matrices
from shared.types import Camera, Pose

Floats = NDArray[np.float64]


def write_mesh_file(path: Path, vertices: Floats, faces: NDArray[np.int64], colours: Floats) -> None:
    """An .obj or .ply by its ending, with a colour [V, 3] 0..1 for each vertex."""
    import trimesh

    bytes_of = np.clip(colours * 255 + 0.5, 0, 255).astype(np.uint8)
    mesh: Any = trimesh.Trimesh(vertices, faces, vertex_colors=bytes_of, process=False)
    content = mesh.export(file_type=path.suffix[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.encode() if isinstance(content, str) else content)


def write_posed_frame(
    stem: Path,
    world: Floats,
    surface: FieldMesh,
    pose: Pose,
    rest_root: NDArray[np.floating],
    camera: Camera,
    ending: str,
) -> None:
    """`stem`.obj or .ply, .npz and _normal.png of one frame. world: posed vertices [V, 3] m.

    As in the original, vertices of the files are in the body's own axes, without its turn and place in the world: world
    = rh.T @ v + th, the body turned about the origin of its model. E takes them to the camera, camera_e the world.
    rest_root: [3] m, the pelvis at rest.
    """
    turn = rotation_matrices(pose.rotations[0])
    pelvis = np.asarray(rest_root, np.float64)
    place = pelvis + np.asarray(pose.translation, np.float64) - turn @ pelvis
    own = (world - place) @ turn
    world_to_camera = camera.camera_from_world()
    from_body = np.eye(4)
    from_body[:3, :3], from_body[:3, 3] = turn, place
    pixels = projected(world, world_to_camera, camera.K)
    face, _, _ = rasterise_mesh(pixels, surface.faces, camera.width_px, camera.height_px)
    write_mesh_file(stem.with_suffix(f".{ending}"), own, surface.faces, surface.colours)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        vertices=own.astype(np.float32),
        triangles=surface.faces.astype(np.int32),
        E=world_to_camera @ from_body,
        K=camera.K,
        camera_e=world_to_camera,
        rh=turn.T,
        th=place,
        hit_mask=face >= 0,
        alpha_mask=face >= 0,
        H=np.array(camera.height_px),
        W=np.array(camera.width_px),
    )
    write_atomically(stem.with_suffix(".npz"), content.getvalue())
    Image.fromarray(_flat_normals(world, surface.faces, face, world_to_camera)).save(f"{stem}_normal.png")


def _flat_normals(
    vertices: Floats, faces: NDArray[np.int64], face: NDArray[np.int32], world_to_camera: Floats
) -> NDArray[np.uint8]:
    """Normals of faces in OpenCV's camera axes, -1..1 as 0..255, RGBA."""
    corners = vertices[faces]
    normals = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])) @ world_to_camera[:3, :3].T
    covered = (face >= 0)[..., None]
    drawn = np.where(covered, normals[np.maximum(face, 0)] * 0.5 + 0.5, 0)
    found: NDArray[np.uint8] = (np.concatenate((drawn, covered), -1) * 255 + 0.5).astype(np.uint8)
    return found
