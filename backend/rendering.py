"""From a RenderRequest to a FrameReply: avatars loaded once and kept by digest, environments by theirs."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import numpy as np

from avatars.avatar_folder import avatar_digest, load_avatar, load_preview
from avatars.rgb_head.reenact import pinned
from backend.library import Library
from backend.render_desk import RecentEnvironments
from shared.errors import BadAvatar, BadMessage
from shared.lamps import MOST_LIGHTS
from shared.messages import (
    AvatarDetail,
    AvatarInstance,
    FrameReply,
    GaussianCloud,
    PoseGaussians,
    PutEnvironment,
    RenderRequest,
)
from shared.types import Camera, Environment

KEPT_AVATARS = 8


class Studio:
    """Renders requests on one device. Reads torch's side of `avatars` on first use only."""

    def __init__(self, library: Library, device: str) -> None:
        self.library, self.device = library, device
        self._avatars: OrderedDict[str, Any] = OrderedDict()
        self._environments = RecentEnvironments()
        self._light: tuple[tuple[Any, ...], Environment] | None = None

    def put_environment(self, message: PutEnvironment) -> None:
        """Keep an environment map under its digest."""
        self._environments.put(message.digest, message.radiance)

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
            self._avatars[found] = pinned(load_avatar(folder, self.device))  # artists move heads anywhere
        self._avatars.move_to_end(found)
        while len(self._avatars) > KEPT_AVATARS:
            self._avatars.popitem(last=False)
        return self._avatars[found]

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
        """The picture. Raises what loading and posing an avatar can raise, and BadMessage for the wrong rig."""
        from avatars.scene import render_scene

        start = time.perf_counter()
        instances = [self._instance(item) for item in request.instances]
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
        environment = self._environment(request)
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

        cloud = gaussian_cloud(self._instance(request.instance), self._environment(request), self.device)
        return GaussianCloud(request.view, cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.harmonics)

    def _environment(self, request: RenderRequest | PoseGaussians) -> Environment | None:
        """The request's light, None for that of the capture; the same object as last time where it is the same, since
        reading a map takes a while."""
        if not request.environment:
            return None
        turned = (request.environment_rotation_rad, request.environment_strength)
        beside = (request.environment_lights, request.environment_lamps)
        count = sum(len(rows) for rows in beside)
        if count > MOST_LIGHTS:
            raise BadMessage("There are too many lights", found=str(count), expected=f"at most {MOST_LIGHTS}")
        key = (request.environment, *turned, *(rows.tobytes() for rows in beside))
        if self._light is None or self._light[0] != key:
            kept = self._light[1].radiance if self._light and self._light[0][0] == key[0] else None
            radiance = self._environments.use(request.environment) if kept is None else kept
            self._light = (key, Environment(radiance, *turned, *beside))
        return self._light[1]

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
