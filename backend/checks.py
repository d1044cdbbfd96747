"""What a Hello must fulfil, and a RenderRequest before a worker sees it: counts, shapes, finite numbers, sizes."""

from __future__ import annotations

import hmac
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadMessage, NotAllowed, VersionMismatch, nearest
from shared.messages import PROTOCOL_VERSION, AvatarInstance, Hello, PoseGaussians, RenderRequest
from shared.render_messages import KEPT_ENVIRONMENTS, environments_of
from shared.types import PASS_CHANNELS
from shared.wire import FROM_SERVER

MAX_SUB_FRAMES = 64
MAX_SIDE_PX = 16_384
MAX_NAME = 80
BYTES_PER_CHANNEL = 4
QUALITIES = ("draft", "final")


def check_hello(hello: Hello, key: str) -> None:
    """Raises VersionMismatch, NotAllowed. key: the backend's, empty where it asks for none."""
    if hello.protocol != PROTOCOL_VERSION:
        raise VersionMismatch(
            "The add-on and the backend speak different versions of the protocol",
            found=f"version {hello.protocol}",
            expected=f"version {PROTOCOL_VERSION}",
            do="Install the same release of both",
        )
    if not hmac.compare_digest(hello.key.encode(), key.encode()):
        raise NotAllowed("The backend's key is missing or wrong", do="Give the key that the backend was started with")


def check_drawing(message: RenderRequest | PoseGaussians) -> tuple[str, ...]:
    """Check what is to be drawn or posed; the ids of who is in it. Whether they exist, the worker finds while it
    renders. Raises BadMessage."""
    if isinstance(message, PoseGaussians):
        check_pose_request(message)
        return (message.instance.avatar_id,)
    check_render_request(message)
    return tuple(one.avatar_id for one in message.instances)


def check_render_request(request: RenderRequest) -> None:
    """Raises BadMessage with what is wrong. Whether avatars and environment exist is asked elsewhere."""
    if not 1 <= len(request.view) <= MAX_NAME:
        raise BadMessage("A view's name is empty or too long", found=f"{len(request.view)} letters")
    if not (1 <= request.width_px <= MAX_SIDE_PX and 1 <= request.height_px <= MAX_SIDE_PX):
        raise BadMessage(
            "The picture's size is out of range",
            found=f"{request.width_px}x{request.height_px}",
            expected=f"1 to {MAX_SIDE_PX} px a side",
        )
    for name in request.passes:
        if name not in PASS_CHANNELS:
            raise BadMessage(
                f"There is no pass {name!r}{nearest(name, PASS_CHANNELS)}", expected=", ".join(PASS_CHANNELS)
            )
    if not request.passes or len(set(request.passes)) != len(request.passes):
        raise BadMessage(
            "A picture needs at least one pass, each named once", found=", ".join(request.passes) or "none"
        )
    channels = sum(PASS_CHANNELS[name] or len(request.instances) for name in request.passes)
    size = request.width_px * request.height_px * channels * BYTES_PER_CHANNEL
    if size > FROM_SERVER.total_bytes:
        raise BadMessage(
            "The picture is too large to be sent",
            found=f"{size >> 20} MiB",
            expected=f"<= {FROM_SERVER.total_bytes >> 20} MiB",
            do="Ask for fewer passes or a smaller picture",
        )
    if request.quality not in QUALITIES:
        raise BadMessage(f"There is no quality {request.quality!r}", expected=" or ".join(QUALITIES))
    if not 0 < request.near_m < request.far_m:
        raise BadMessage("Near and far planes are out of order", found=f"near {request.near_m}, far {request.far_m}")
    if not request.instances:
        raise BadMessage("The picture has no avatar in it", do="Add one")
    frames = request.K.shape[0] if request.K.ndim == 3 else 0
    if not 1 <= frames <= MAX_SUB_FRAMES:
        raise BadMessage(
            "A picture has a wrong number of sub-frames", found=str(frames), expected=f"1 to {MAX_SUB_FRAMES}"
        )
    _array(request.K, (frames, 3, 3), "K")
    _array(request.world_from_camera, (frames, 4, 4), "world_from_camera")
    if len(environments_of(request)) > KEPT_ENVIRONMENTS:
        raise BadMessage("A picture has too many lights of avatars' own", expected=f"<= {KEPT_ENVIRONMENTS} HDRIs")
    for instance in request.instances:
        _check_instance(instance, frames)


def check_pose_request(request: PoseGaussians) -> None:
    """Raises BadMessage with what is wrong, as check_render_request."""
    if not 1 <= len(request.view) <= MAX_NAME:
        raise BadMessage("A view's name is empty or too long", found=f"{len(request.view)} letters")
    _check_instance(request.instance, 1)


def _check_instance(instance: AvatarInstance, frames: int) -> None:
    where = f"of avatar {instance.avatar_id[:MAX_NAME]!r}"
    _array(instance.world_from_avatar, (frames, 4, 4), f"world_from_avatar {where}")
    _check_similarity(instance.world_from_avatar, f"world_from_avatar {where}")
    _array(instance.rotations, (frames, None, 3), f"rotations {where}")
    _array(instance.translations, (frames, 3), f"translations {where}")
    _array(instance.expressions, (frames, None), f"expressions {where}")


def _check_similarity(matrices: NDArray[Any], name: str) -> None:
    """Rotation, uniform scale and shift are all that Gaussians can follow."""
    linear = matrices[:, :3, :3].astype(np.float64)
    scale = np.cbrt(np.linalg.det(linear))
    gram = linear @ linear.transpose(0, 2, 1)
    uneven = np.abs(gram - (scale**2)[:, None, None] * np.eye(3)).max(axis=(1, 2))
    if (scale < 1e-6).any() or (uneven > 1e-3 * scale**2).any() or (matrices[:, 3] != (0, 0, 0, 1)).any():
        raise BadMessage(
            f"{name} is not a turn, a uniform scale and a shift",
            do="Apply the armature's scale, or make it the same along all axes and not mirrored",
        )


def _array(array: NDArray[Any], shape: tuple[int | None, ...], name: str) -> None:
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape))
    if not fits or array.dtype.kind != "f":
        wanted = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
        raise BadMessage(
            f"{name} is not a float array of the right shape", found=str(list(array.shape)), expected=wanted
        )
    if not np.isfinite(array).all():
        raise BadMessage(f"{name} holds numbers that are not finite")
