"""From a RenderRequest to a FrameReply: avatars loaded once and kept by digest, environments by theirs."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np

from avatars.avatar_folder import avatar_digest, load_avatar, load_preview
from avatars.rgb_head.reenact import pinned
from backend.devices import one_torch_thread, out_of_memory, release_memory
from backend.library import Library
from backend.render_desk import RecentEnvironments
from shared.errors import BadAvatar, BadMessage
from shared.lamps import INTENSITY, IRRADIANCE, MOST_LIGHTS
from shared.messages import (
    AvatarDetail,
    AvatarInstance,
    FrameReply,
    GaussianCloud,
    InstanceLight,
    PoseGaussians,
    PutEnvironment,
    RenderRequest,
)
from shared.render_messages import KEPT_ENVIRONMENTS
from shared.types import CAPTURED, Camera, Captured, Environment

KEPT_AVATARS = 8
"""In memory after a picture; as many more as the last picture showed, or a crowd would be read anew for each frame."""


class Studio:
    """Renders requests on one device. Reads torch's side of `avatars` on first use only."""

    def __init__(self, library: Library, device: str) -> None:
        self.library, self.device = library, device
        self._avatars: OrderedDict[str, Any] = OrderedDict()
        self._kept = KEPT_AVATARS
        self._environments = RecentEnvironments()
        self._lights: OrderedDict[tuple[Any, ...], Environment] = OrderedDict()

    def put_environment(self, message: PutEnvironment) -> None:
        """Keep an environment map under its digest; as one array, by which filtered maps are remembered."""
        self._environments.put(message.digest, Environment(message.radiance).radiance)

    def avatar(self, avatar_id: str, digest: str = "") -> Any:
        """A loaded avatar, from memory where its content is unchanged. Raises NotFound, BadAvatar."""
        folder = self.library.path(avatar_id)
        found = avatar_digest(folder)
        if digest and found != digest:
            raise BadAvatar(
                f"Avatar {avatar_id} is not the one that was asked for",
                found=f"digest {found[:12]}",
                expected=f"digest {digest[:12]}",
                do="Link the avatar again, or put the earlier one back into the library",
            )
        if found not in self._avatars:
            with one_torch_thread():
                self._avatars[found] = pinned(load_avatar(folder, self.device))  # artists move heads anywhere
        self._avatars.move_to_end(found)
        while len(self._avatars) > self._kept:
            self._avatars.popitem(last=False)
        return self._avatars[found]

    @property
    def loaded(self) -> list[str]:
        """Digests of the avatars in memory, that used last at the end."""
        return list(self._avatars)

    def detail(self, avatar_id: str) -> AvatarDetail:
        """What Blender makes an armature and a proxy of. Raises NotFound, BadAvatar."""
        folder = self.library.path(avatar_id)
        avatar = self.avatar(avatar_id)
        return AvatarDetail(
            summary=self.library.summary(avatar_id),
            rig=avatar.rig(),
            proxy=avatar.proxy(),
            rest_pose=np.asarray(avatar.rest_pose, np.float32),
            preview=load_preview(folder),
        )

    def render(self, request: RenderRequest) -> FrameReply:
        """The picture. Raises what loading and posing an avatar can raise, and BadMessage for the wrong rig.

        Where the device's memory is full, which others may share, what is kept for later is let go and it is drawn
        once more.
        """
        try:
            return self._draw(request)
        except Exception as error:
            if not out_of_memory(error):
                raise
        self._let_go()
        return self._draw(request)

    def _let_go(self) -> None:
        """Give back the memory of avatars and lights that are not in use now."""
        self._avatars.clear()
        self._lights.clear()
        release_memory(self.device)

    def _draw(self, request: RenderRequest) -> FrameReply:
        from avatars.scene import render_scene

        start = time.perf_counter()
        environment = self._environment(request)
        self._kept = max(KEPT_AVATARS, len({item.avatar_id for item in request.instances}))
        instances = [
            replace(self._instance(item), light=None if item.light is None else self._own_light(item.light, request))
            for item in request.instances
        ]
        cameras = [
            Camera(
                request.width_px,
                request.height_px,
                K,
                world_from_camera,
                request.near_m,
                request.far_m,
                request.orthographic,
            )
            for K, world_from_camera in zip(request.K, request.world_from_camera, strict=True)
        ]
        with one_torch_thread():
            images = render_scene(
                instances, cameras, environment, request.passes, quality=request.quality, device=self.device
            )
        return FrameReply(
            request.view,
            request.passes,
            tuple(images[name] for name in request.passes),
            (time.perf_counter() - start) * 1000,
        )

    def cloud(self, request: PoseGaussians) -> GaussianCloud:
        """The posed Gaussians themselves. Raises what `render` raises."""
        from avatars.gaussian_cloud import gaussian_cloud

        own = request.instance.light
        light = self._environment(request) if own is None else self._own_light(own, request)
        light = None if light == CAPTURED else light
        with one_torch_thread():
            cloud = gaussian_cloud(self._instance(request.instance), light, self.device)
        return GaussianCloud(request.view, cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.harmonics)

    def _environment(self, request: RenderRequest | PoseGaussians) -> Environment | None:
        """The request's light, None for that of the capture. Raises BadMessage, NotFound."""
        beside = (request.environment_lights, request.environment_lamps)
        count = sum(len(rows) for rows in beside)
        if count > MOST_LIGHTS:
            raise BadMessage("There are too many lights", found=str(count), expected=f"at most {MOST_LIGHTS}")
        if not request.environment:
            return None
        return self._light(request.environment, request.environment_rotation_rad, request.environment_strength, beside)

    def _own_light(self, own: InstanceLight, request: RenderRequest | PoseGaussians) -> Environment | Captured:
        """An avatar's own light, with the request's lamps beside it."""
        if not own.environment:
            return CAPTURED
        suns, near = request.environment_lights.copy(), request.environment_lamps.copy()
        suns[:, IRRADIANCE] *= own.lamps_strength
        near[:, INTENSITY] *= own.lamps_strength
        beside = (suns, near) if own.lamps_strength > 0 else (suns[:0], near[:0])
        return self._light(own.environment, own.rotation_rad, own.strength, beside)

    def _light(self, digest: str, rotation_rad: float, strength: float, beside: Any) -> Environment:
        """The same object as before where it is the same, since reading a map takes a while."""
        radiance = self._environments.use(digest)
        key = (digest, rotation_rad, strength, *(rows.tobytes() for rows in beside))
        if key not in self._lights or self._lights[key].radiance is not radiance:
            self._lights[key] = Environment(radiance, rotation_rad, strength, *beside)
        self._lights.move_to_end(key)
        while len(self._lights) > KEPT_ENVIRONMENTS:
            self._lights.popitem(last=False)
        return self._lights[key]

    def _instance(self, item: AvatarInstance) -> Any:
        from avatars.scene import SceneInstance

        avatar = self.avatar(item.avatar_id, item.digest)
        rig = avatar.rig()
        for what, found, names in (
            ("joints", item.rotations.shape[1], rig.joint_names),
            ("expressions", item.expressions.shape[1], rig.expression_names),
        ):
            if found != len(names):
                raise BadMessage(
                    f"The pose of {item.avatar_id} has the wrong number of {what}",
                    found=str(found),
                    expected=str(len(names)),
                    do="Link the avatar again: its rig changed",
                )
        poses = (item.world_from_avatar, item.rotations, item.translations, item.expressions)
        return SceneInstance(avatar, *poses, holdout=item.holdout)
