"""How much each Gaussian may follow an edit: by region, by painted weights, by what of it can be seen.

A gate scales a Gaussian's step, not only its gradient: Adam divides gradients by their own size, so that a Gaussian
whose gradient is always small would move as fast as all others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.skinning.closest_points import closest_points
from avatars.text_edit.config import EditConfig
from avatars.text_edit.editors.vocabulary import PART_OF, REGION_NAMES
from avatars.text_edit.surface import REGIONS, Surface
from shared.errors import BadConfig, nearest
from shared.npz import read_npy, read_npz

FREE_SHARE = 0.2
"""A Gaussian that shows this much of what it would cover alone steps freely: skin seen from ahead has this median."""
SEEN_SHARE = 0.02
EVERYTHING = "everything"
MAX_FILE_BYTES = 64 << 20


def region_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list of regions; () for everywhere. Raises BadConfig naming the nearest."""
    names = tuple(name for name in (part.strip().lower() for part in text.split(",")) if name)
    known = tuple(dict.fromkeys((*REGION_NAMES, *REGIONS, EVERYTHING)))
    for name in names:
        if name not in known:
            raise BadConfig(f"there is no region {name!r}{nearest(name, known)}", expected=", ".join(known))
    return () if EVERYTHING in names else names


def region_gate(surface: Surface, text: str) -> Tensor:
    """How much each Gaussian belongs to the listed regions, [N]; 1 for an empty list. Parts take their whole region."""
    names = region_names(text)
    if not names:
        return torch.ones_like(surface.weights[:, 0])
    wholes = {PART_OF.get(name, name) for name in names}
    return sum((surface.region(name) for name in wholes if name in REGIONS), torch.zeros_like(surface.weights[:, 0]))


def painted_gate(avatar: Avatar, surface: Surface, weights: NDArray[np.float32]) -> Tensor:
    """Weights [V] of the vertices of the avatar's proxy mesh at its Gaussians, [N] in 0..1. Raises BadConfig."""
    proxy = avatar.proxy()
    if weights.shape != (len(proxy.vertices),) or not np.isfinite(weights).all():
        raise BadConfig(
            "the painted weights do not fit the avatar's mesh",
            found=f"{list(weights.shape)}",
            expected=f"[{len(proxy.vertices)}] finite numbers, one a vertex",
        )
    faces = proxy.faces
    quads = faces[faces[:, 2] != faces[:, 3]]
    triangles = np.concatenate((faces[:, :3], quads[:, [0, 2, 3]]))
    near = closest_points(surface.positions.cpu().numpy(), proxy.vertices, triangles)
    found = (weights[triangles[near.face]] * near.barycentrics).sum(1)
    return torch.from_numpy(found.clip(0, 1).astype(np.float32)).to(surface.weights.device)


def read_weights(path: Path) -> NDArray[np.float32]:
    """A weight for each vertex from a .npy file, or the only array of an .npz. Raises BadConfig."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadConfig(f"{path.name} is too large for a weight of each vertex", expected=f"{MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
        if content.startswith(b"PK"):
            found = read_npz(content, path.name, BadConfig, max_unpacked_bytes=MAX_FILE_BYTES)
            if len(found) != 1:
                raise BadConfig(f"{path.name} holds several arrays", found=", ".join(found), expected="one")
            return np.asarray(next(iter(found.values())), np.float32).reshape(-1)
        return np.asarray(read_npy(content, path.name, BadConfig), np.float32).reshape(-1)
    except (OSError, ValueError, TypeError) as error:
        raise BadConfig(
            f"the painted weights in {path} cannot be read", found=str(error), expected="a .npy or .npz file"
        ) from error


def static_gate(
    avatar: Avatar, surface: Surface, config: EditConfig, weights: NDArray[np.float32] | None, named: str = ""
) -> Tensor:
    """The gate of a whole run, [N] in 0..1: region times painted weights, without the mouth's inside if it is kept.

    named: regions that the prompt names, which count where the settings name none.
    """
    gate = region_gate(surface, config.settings.region or named)
    if weights is not None:
        gate = gate * painted_gate(avatar, surface, weights)
    if config.gate == "off":
        gate = torch.ones_like(gate)
    elif config.gate == "hard":
        gate = (gate > 0.5).to(gate)
    if config.keep_mouth and "mouth" not in region_names(config.settings.region or named):
        gate = gate * (1 - surface.region("mouth"))
    return gate.clamp(0, 1)


def visible_gate(shares: Tensor, mode: str, beta: float) -> Tensor:
    """What visibility lets through, [N], of the shares [B, N] seen in B pictures; the best of them counts.

    'exact': in proportion; 'mask': exp(-beta (1 - T)) of the mean transmittance, as GaussianAvatar-Editor weighs;
    'hard_mask': all or nothing; 'off': 1.
    """
    if mode == "off":
        return torch.ones_like(shares[0])
    seen = shares.amax(0)
    free = (seen / FREE_SHARE).clamp(0, 1)
    if mode == "mask":
        return torch.exp(-beta * (1 - free))
    return (seen > SEEN_SHARE).to(seen) if mode == "hard_mask" else free
