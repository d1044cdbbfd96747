"""What of the person each Gaussian shows: place and normal in the rest pose, and how much it belongs to each region.

Everything is found from the template (face groups, expressions, joints) and from the avatar's own colours, so that any
method's avatar has it: hair and clothes are rarely drawn in a template. Memberships are soft, so that borders are, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.avatar import Avatar
from avatars.gaussians.posed import PosedGaussians
from avatars.gaussians.regions import EYE_JOINTS, HEAD_JOINTS, PARTS, patch_triangles
from avatars.lighting.colour import LUMINANCE, linear_from_srgb
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import rasterise
from avatars.skinning.closest_points import closest_points
from avatars.templates.template import triangles_of
from avatars.text_edit.generated import bounds, distance_to_hold, orbit_camera
from shared.template import TemplateArrays

Floats = NDArray[np.float64]
REGIONS = ("skin", "hair", "brows", "lips", "eyes", "mouth", "lashes", "clothes")
GROUPS = {
    "eye": "eyes",
    "teeth": "mouth",
    "tongue": "mouth",
    "lash": "lashes",
    "haircap": "hair",
    "tights": "clothes",
    "skirt": "clothes",
    "cloth": "clothes",
}
"""How a face group's name begins -> its region; all other groups are split into parts."""
LIP_EXPRESSIONS = ("mouthRollLower", "mouthRollUpper")
"""They roll the red of the lips inwards and move little else."""
SCALP_REACH_M, LIPS_REACH_M, LIPS_CORE = 0.03, 0.013, 0.7
ROUNDS_OF_SMOOTHING = 4
SEEN_PX = 72
CLOTH_NEIGHBOURS = 24


@dataclass(frozen=True, eq=False)
class Face:
    """Where the face is in the rest pose, m: middle of the eyes, half their distance, middle of the mouth.

    floor_m: height of the lowest Gaussian, which says how much of the person there is.
    """

    eyes: tuple[float, float, float]
    half_eyes_m: float
    mouth: tuple[float, float, float]
    floor_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Surface:
    """Of N Gaussians in the template's rest pose: positions [N, 3] m, normals [N, 3], region weights [N, R].

    weights: rows in the order of REGIONS, sum to 1. face: None where the template has no eyes. colours: [R, 3]
    display-encoded sRGB, the middle one of what is seen of each region; not a number where nothing is.
    """

    positions: Tensor
    normals: Tensor
    weights: Tensor
    face: Face | None
    colours: Tensor = field(default_factory=lambda: torch.full((len(REGIONS), 3), float("nan")))

    def region(self, name: str) -> Tensor:
        """How much each Gaussian belongs to one of REGIONS, [N]."""
        return self.weights[:, REGIONS.index(name)]

    def to(self, device: torch.device | str) -> Surface:
        """The same on another device."""
        names = ("positions", "normals", "weights", "colours")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def surface_of(avatar: Avatar, device: torch.device | str = "cpu") -> Surface:
    """Look at an avatar in its template's rest pose. Takes some seconds on a CPU. Raises BadTemplate."""
    rig = avatar.rig()
    joints, expressions = len(rig.joint_names), len(rig.expression_names)
    still = (torch.zeros(1, joints, 3), torch.zeros(1, 3), torch.zeros(1, expressions))
    posed = avatar.pose(*(part.to(device) for part in still))
    posed = posed.seen_from(posed.means.new_tensor([[0.0, -3.0, float(posed.means[0, :, 2].max())]]))
    arrays = avatar.template().open()
    vertices = rest_vertices(avatar, arrays)
    face = face_of(arrays, vertices)
    means = posed.means[0].double().cpu().numpy()
    weights = gaussian_regions(arrays, vertices, posed, face)
    if face is not None:
        face = replace(face, floor_m=float(np.quantile(means[:, 2], 0.002)))
    found = torch.from_numpy(weights.astype(np.float32)).to(device)
    return Surface(
        posed.means[0].float().to(device),
        _normals(posed, means).to(device),
        found,
        face,
        region_colours(posed, found),
    )


def region_colours(posed: PosedGaussians, weights: Tensor) -> Tensor:
    """The middle colour [R, 3] of what is seen of each region from four sides; not a number where nothing is.

    An editor goes by these in all views: the middle of one picture would differ from that of the next.
    """
    with torch.no_grad():
        low, high = bounds(posed.means[0])
        centre, half_m = (low + high) / 2, float(np.abs(high - low).max()) / 2
        rows = []
        for turn in range(4):
            camera = orbit_camera(centre, distance_to_hold(half_m), 90.0 * turn, 5.0, SEEN_PX)
            batch = CameraBatch.from_cameras([camera], posed.means.device)
            features = torch.cat((posed.colours[0], weights.to(posed.colours)), 1)[None]
            drawn = rasterise(posed, batch, features)
            solid = drawn.alpha[0] > 0.9
            rows.append(drawn.features[0][solid] / drawn.alpha[0][solid][:, None])
        seen = torch.cat(rows)
        colours = weights.new_full((weights.shape[1], 3), float("nan"))
        for index in range(weights.shape[1]):
            chosen = seen[:, :3][seen[:, 3 + index] > 0.6]
            if len(chosen):
                light = linear_from_srgb(chosen.clamp(0, 1)) @ chosen.new_tensor(LUMINANCE)
                near = (light - light.median()).abs()
                colours[index] = chosen[near <= near.quantile(0.2)].mean(0).to(colours)
        return colours


def rest_vertices(avatar: Avatar, arrays: TemplateArrays) -> Floats:
    """The template's vertices [V, 3] m with the person's own shape, where its proxy shows them."""
    person = getattr(getattr(avatar, "surfels", None), "person", None)
    if person is not None:  # its proxy is one group of all that can be seen
        found: Floats = person.rest_vertices.double().cpu().numpy()
        return found
    proxy = avatar.proxy()
    used = np.unique(np.concatenate([arrays.faces[name] for name in proxy.group_names]))
    vertices = np.asarray(arrays.vertices, np.float64).copy()
    vertices[used] = proxy.vertices
    return vertices


def face_of(arrays: TemplateArrays, vertices: Floats) -> Face | None:
    """The face of a person with rest vertices [V, 3] m, None for a template without two eyes."""
    joints = [arrays.joint_names.index(name) for name in EYE_JOINTS if name in arrays.joint_names]
    if len(joints) != 2:
        return None
    balls = [arrays.weights[:, joint] > 0.5 for joint in joints]
    if not all(ball.any() for ball in balls):
        return None
    left, right = (vertices[ball].mean(0) for ball in balls)
    middle, half = (left + right) / 2, float(np.linalg.norm(left - right) / 2)
    lips = np.flatnonzero(lip_weights(arrays) > 0.5)
    mouth = vertices[lips].mean(0) if len(lips) else middle - [0.0, 0.3 * half, 2.1 * half]
    x, y, z = (float(value) for value in middle)
    return Face((x, y, z), half, (float(mouth[0]), float(mouth[1]), float(mouth[2])))


def lip_weights(arrays: TemplateArrays) -> Floats:
    """How much each vertex is the red of the lips, [V] in 0..1."""
    found = np.zeros(len(arrays.vertices))
    names = [name for name in LIP_EXPRESSIONS if name in arrays.expression_names]
    for name in names:
        moved = np.linalg.norm(arrays.expression_dirs[arrays.expression_names.index(name)], axis=1)
        share = moved / max(float(moved.max()), 1e-9)
        np.maximum.at(found, arrays.expression_vertices, share)
    core = np.flatnonzero(found > LIPS_CORE)
    if len(core):  # folds above and below roll with them, the corners less
        off_m = np.abs(arrays.vertices[:, 2] - np.median(arrays.vertices[core, 2]))
        found = np.clip((found - 0.25) / 0.2, 0, 1) * _smooth((LIPS_REACH_M - off_m) / 0.004)
    if not names:
        for group in _split_groups(arrays):
            found[np.unique(patch_triangles(arrays, f"{group}/lips")[0])] = 1
    return found


def vertex_regions(arrays: TemplateArrays) -> tuple[Floats, NDArray[np.bool_]]:
    """Soft memberships [V, R] of the template's vertices, and which of them are on the head [V].

    Hair is the scalp here and clothes only what the template draws as such; `gaussian_regions` looks at colours.
    """
    count = len(arrays.vertices)
    hard = np.zeros((count, len(REGIONS)))
    edges = []
    for group in arrays.faces:
        faces = triangles_of(arrays.faces[group], arrays.uv_faces[group])[0]
        edges.append(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]))
        region = region_of_group(group)
        if region:
            hard[np.unique(faces), REGIONS.index(region)] = 1
            continue
        for part in PARTS:
            rows = np.unique(patch_triangles(arrays, f"{group}/{part}")[0])
            hard[rows, REGIONS.index("hair" if part == "scalp" else "skin")] += 1
    lips = lip_weights(arrays)
    hard = hard / np.maximum(hard.sum(1, keepdims=True), 1)
    hard[hard.sum(1) == 0, 0] = 1
    skin = hard[:, 0].copy()
    hard[:, REGIONS.index("lips")] = lips * skin
    hard[:, 0] = skin * (1 - lips)
    pairs = np.unique(np.sort(np.concatenate(edges), 1), axis=0)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    degree = np.bincount(both[:, 0], minlength=count)[:, None]
    soft = hard
    for _ in range(ROUNDS_OF_SMOOTHING - 2):
        total = np.stack([np.bincount(both[:, 0], column[both[:, 1]], count) for column in soft.T], 1)
        soft = 0.5 * soft + 0.5 * np.where(degree > 0, total / np.maximum(degree, 1), soft)
    on_head = [arrays.joint_names.index(name) for name in HEAD_JOINTS if name in arrays.joint_names]
    return soft / soft.sum(1, keepdims=True), arrays.weights[:, on_head].sum(1) > 0.5


def region_of_group(group: str) -> str:
    """The region a whole face group belongs to, "" for one that is split into parts."""
    return next((region for start, region in GROUPS.items() if group.startswith(start)), "")


def _split_groups(arrays: TemplateArrays) -> list[str]:
    return [group for group in arrays.faces if not region_of_group(group)]


def gaussian_regions(arrays: TemplateArrays, vertices: Floats, posed: PosedGaussians, face: Face | None) -> Floats:
    """Memberships [N, R] of Gaussians in the rest pose, from where they are and what colour they have."""
    means = posed.means[0].double().cpu().numpy()
    triangles = np.concatenate([triangles_of(arrays.faces[g], arrays.uv_faces[g])[0] for g in arrays.faces])
    at_vertices, head_vertices = vertex_regions(arrays)
    near = closest_points(means, vertices, triangles)
    corners = triangles[near.face]
    weights = (at_vertices[corners] * near.barycentrics[..., None]).sum(1)
    on_head = head_vertices[corners].mean(1) > 0.5
    colours = _lightness_and_tint(posed)
    visible = posed.opacities[0].cpu().numpy() > 0.05
    if face is None or not visible.any():
        return weights
    eyes = np.asarray(face.eyes)
    in_face = (means - eyes) / face.half_eyes_m  # x left, y back, z up, in half distances of the eyes
    cheeks = on_head & visible & (np.abs(in_face[:, 0]) < 1.6) & (in_face[:, 1] < 1.5) & (weights[:, 0] > 0.9)
    cheeks &= (in_face[:, 2] < -0.4) & (in_face[:, 2] > -2.2)
    skin = np.median(colours[cheeks], 0) if cheeks.sum() > 10 else np.median(colours[visible & on_head], 0)
    tree = cKDTree(means)
    _hair(weights, means, near.distance_m, on_head, colours, skin, in_face, vertices, at_vertices, tree)
    _brows(weights, in_face, colours, skin, on_head)
    _clothes(weights, colours, skin, on_head, tree, in_face)
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)


def _lightness_and_tint(posed: PosedGaussians) -> Floats:
    """Colours [N, 3] whose distances say how unlike they look: half the lightness, and two tints free of it."""
    colours = posed.colours[0].clamp(0, 1).double().cpu()
    light = linear_from_srgb(colours) @ colours.new_tensor([0.2126, 0.7152, 0.0722])
    total = colours.sum(1).clamp_min(0.15)
    tint = torch.stack((colours[:, 0] / total, colours[:, 2] / total), 1) - 1 / 3
    return torch.cat((0.5 * light.clamp_min(1e-4).pow(1 / 3)[:, None], 1.6 * tint), 1).numpy()


def _smooth(share: Floats) -> Floats:
    share = np.clip(share, 0, 1)
    curve: Floats = share * share * (3 - 2 * share)
    return curve


def _averaged(values: Floats, tree: cKDTree, neighbours: int, rounds: int = 2) -> Floats:
    rows = np.atleast_2d(tree.query(tree.data, k=min(neighbours, len(values)))[1].reshape(len(values), -1))
    for _ in range(rounds):
        values = values[rows].mean(1)
    return values


def _hair(
    weights: Floats,
    means: Floats,
    off_m: Floats,
    on_head: NDArray[np.bool_],
    colours: Floats,
    skin: Floats,
    in_face: Floats,
    vertices: Floats,
    at_vertices: Floats,
    tree: cKDTree,
) -> None:
    """Give hair what lies on or near the scalp, or off the head, and has its colour rather than the skin's."""
    hair, scalp = REGIONS.index("hair"), at_vertices[:, REGIONS.index("hair")] > 0.5
    if not scalp.any():
        return
    reach, _ = cKDTree(vertices[scalp]).query(means)
    prior = _smooth(1.6 - reach / SCALP_REACH_M)
    behind = (in_face[:, 1] > 2.5) & (in_face[:, 2] > -6) | (in_face[:, 2] > -1.5)  # not under the chin or on the face
    prior = np.maximum(prior, _smooth((off_m - 0.006) / 0.01) * behind * on_head)
    prior[(np.abs(in_face[:, 0]) < 1.9) & (in_face[:, 1] < 2.0) & (in_face[:, 2] < 0.2)] = 0
    core = (weights[:, hair] > 0.9) & (in_face[:, 2] > 1.5)
    if core.sum() < 10:
        return
    own = np.median(colours[core], 0)
    if np.linalg.norm(own - skin) < 0.05:
        likely = np.ones(len(means))  # bald, or hair of the skin's colour: the scalp alone must do
        prior = weights[:, hair]
    else:
        to_hair, to_skin = (np.linalg.norm(colours - one, axis=1) for one in (own, skin))
        likely = _smooth(1.5 * (to_skin - to_hair) / np.linalg.norm(own - skin) + 0.40)
    free = weights[:, [REGIONS.index("skin"), hair]].sum(1)
    share = _averaged(prior * np.maximum(likely, 0.85 * (in_face[:, 2] > 2.6) * (reach < 0.004)), tree, 6, 1)
    weights[:, hair] = free * share
    weights[:, 0] = free * (1 - share)


def _brows(weights: Floats, in_face: Floats, colours: Floats, skin: Floats, on_head: NDArray[np.bool_]) -> None:
    """Give brows what lies above the eyes and is darker than the skin."""
    x, y, z = np.abs(in_face[:, 0]), in_face[:, 1], in_face[:, 2]
    box = _smooth((x - 0.15) / 0.2) * _smooth((2.3 - x) / 0.3) * _smooth((z - 0.2) / 0.2) * _smooth((1.3 - z) / 0.2)
    darker = _smooth((skin[0] - colours[:, 0] - 0.03) / 0.07)
    share = box * darker * on_head * (y < 0.9) * weights[:, 0]
    weights[:, REGIONS.index("brows")] = share
    weights[:, 0] -= share


def _clothes(
    weights: Floats, colours: Floats, skin: Floats, on_head: NDArray[np.bool_], tree: cKDTree, in_face: Floats
) -> None:
    """Give clothes what is below the head and unlike the skin, by the vote of each Gaussian's neighbourhood."""
    clothes = REGIONS.index("clothes")
    below = _smooth((-3.0 - in_face[:, 2]) / 1.0) * ~on_head
    # Skin in shadow is darker and warmer, so darkness says nothing and warmth only if there is much more of it.
    colder = ((skin - colours)[:, 1] - (skin - colours)[:, 2]) / np.sqrt(2)
    vote = _averaged(
        np.maximum(_smooth((colder - 0.05) / 0.07), _smooth((-colder - 0.2) / 0.1)), tree, CLOTH_NEIGHBOURS, 3
    )
    least = 0.80 - 0.65 * _smooth((-5.5 - in_face[:, 2]) / 1.5)  # collars lie lower than shadows on the neck
    share = np.maximum(weights[:, clothes] * _smooth((vote - 0.2) / 0.3), below * _smooth((vote - least) / 0.3))
    others = [row for row in range(len(REGIONS)) if row != clothes]
    total = weights[:, others].sum(1)
    weights[total < 1e-6, 0] = 1
    weights[:, others] *= ((1 - share) / np.maximum(weights[:, others].sum(1), 1e-9))[:, None]
    weights[:, clothes] = share


def _normals(posed: PosedGaussians, means: Floats) -> Tensor:
    """Unit normals [N, 3]; where a method brings none, away from the middle of what is near."""
    if posed.normals is not None:
        return torch.nn.functional.normalize(posed.normals[0].float(), dim=-1)
    rows = cKDTree(means).query(means, k=min(32, len(means)))[1].reshape(len(means), -1)
    away = means - means[rows].mean(1) + 1e-3 * (means - means.mean(0))
    return torch.from_numpy((away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)).astype(np.float32))
