"""Messages of rendering: light, pictures and posed Gaussians. Part of `shared.messages`, which has the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from .lamps import no_lamps, no_suns

Array = NDArray[Any]

KEPT_ENVIRONMENTS = 8
"""How many maps a backend keeps, so how many one picture can name."""


@dataclass(frozen=True, eq=False)
class PutEnvironment:
    """Hand over an environment map once; render requests name it by digest (sha-256 of the float16 bytes).

    radiance: [H, W, 3] float16 linear, axes as in shared.types.Environment.
    """

    digest: str
    radiance: Array


@dataclass(frozen=True, eq=False)
class InstanceLight:
    """Light of one avatar's own in a picture. environment: digest of a PutEnvironment, empty keeps the light it was
    captured in; else the picture's lights and lamps shine beside it, lamps_strength times as bright.
    """

    environment: str = ""
    rotation_rad: float = 0.0
    strength: float = 1.0
    lamps_strength: float = 1.0


@dataclass(frozen=True, eq=False)
class AvatarInstance:
    """One avatar in a picture, posed at S sub-frame instants (S = 1 without motion blur).

    digest pins the avatar's content, empty accepts any. world_from_avatar: [S, 4, 4] float64, a rigid transform with
    uniform scale. rotations: [S, J, 3] rad; translations: [S, 3] m; expressions: [S, E]. holdout: it hides what is
    behind it and leaves a hole where it is seen, in every pass. light: None is the picture's.
    """

    avatar_id: str
    digest: str
    world_from_avatar: Array
    rotations: Array
    translations: Array
    expressions: Array
    holdout: bool = False
    light: InstanceLight | None = None


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """Ask for a picture. Newer requests of the same (client, view) replace older ones that were not begun.

    K: [S, 3, 3] px; world_from_camera: [S, 4, 4] OpenCV axes. environment: digest of a PutEnvironment, empty keeps the
    light the avatars were captured in; else environment_lights [N, 7] and environment_lamps [M, 13] shine beside it
    (see shared.types.Environment), at most shared.lamps.MOST_LIGHTS together. quality: 'draft' or 'final'. S sub-frames
    are averaged; depth is the nearest. shared_memory: the client can read pixels from memory of a process on its own
    machine. orthographic: parallel rays; K then maps metres to pixels, as in shared.types.Camera.
    """

    view: str
    instances: tuple[AvatarInstance, ...]
    width_px: int
    height_px: int
    K: Array
    world_from_camera: Array
    near_m: float
    far_m: float
    passes: tuple[str, ...] = ("combined",)
    environment: str = ""
    environment_rotation_rad: float = 0.0
    environment_strength: float = 1.0
    quality: str = "final"
    shared_memory: bool = False
    orthographic: bool = False
    environment_lights: Array = field(default_factory=no_suns)
    environment_lamps: Array = field(default_factory=no_lamps)


@dataclass(frozen=True, eq=False)
class PixelMemory:
    """Where a reply's pixels lie in memory its sender shares (shared.pixel_memory): file, place, and what they are.

    token and stamp say which file and which picture, so that a reader notices when either was replaced meanwhile.
    """

    process: int
    descriptor: int
    token: str
    file_bytes: int
    offset: int
    stamp: int
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class FrameReply:
    """Answer to RenderRequest: one array per pass in pass_names, [H, W, C], row 0 at the top.

    combined float16 premultiplied linear RGBA; depth float32 m, 0 where nothing is; mask float16; id int32; coverage
    float16, a channel for each instance.
    memory: where the images are instead, for a client that said it can read them there; images is empty then.
    """

    view: str
    pass_names: tuple[str, ...]
    images: tuple[Array, ...]
    render_ms: float
    memory: PixelMemory | None = None


@dataclass(frozen=True, eq=False)
class Superseded:
    """Answer to a RenderRequest that a newer one of the same view replaced."""

    view: str


@dataclass(frozen=True, eq=False)
class PoseGaussians:
    """Ask for an avatar's posed Gaussians themselves, for a renderer of the client's own.

    instance: one instant (S = 1); its world_from_avatar only tells how the avatar stands in the light. environment and
    what follows: as in RenderRequest. Newer requests of the same (client, view) replace older ones not begun.
    """

    view: str
    instance: AvatarInstance
    environment: str = ""
    environment_rotation_rad: float = 0.0
    environment_strength: float = 1.0
    environment_lights: Array = field(default_factory=no_suns)
    environment_lamps: Array = field(default_factory=no_lamps)


def environments_of(request: RenderRequest | PoseGaussians) -> tuple[str, ...]:
    """Digests of all environment maps a request names, each once, in an order of its own."""
    instances = request.instances if isinstance(request, RenderRequest) else (request.instance,)
    named = (request.environment, *(item.light.environment for item in instances if item.light is not None))
    return tuple(dict.fromkeys(filter(None, named)))


@dataclass(frozen=True, eq=False)
class GaussianCloud:
    """Answer to PoseGaussians: N Gaussians in the avatar's own axes, those that cannot be seen left out.

    means: [N, 3] m; quats: [N, 4] wxyz, unit; scales: [N, 3] m, standard deviations; opacities: [N] in 0..1;
    harmonics: [N, (degree + 1)², 3] coefficients of display-encoded sRGB as in 3D Gaussian splatting (a colour is 0.5 +
    their sum), in the avatar's axes. All float32.
    """

    view: str
    means: Array
    quats: Array
    scales: Array
    opacities: Array
    harmonics: Array
