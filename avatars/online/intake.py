"""What happens to a frame before it is learned: posed, looked at, brought to size, or refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatars.online.config import OnlineConfig
from avatars.online.frames import TrackedFrame, fitted
from avatars.online.head_pose import HeadPoints, mask_iou
from avatars.online.sampler import HeadTurn
from avatars.online.store import FrameStore, StoredFrame, StorePlan, plan_store
from avatars.rgb_head.model import RgbHead
from shared.errors import EffigyError

POOR_IOU = "the mesh does not cover what the mask shows"


@dataclass(frozen=True, eq=False)
class Looked:
    """A frame ready to be learned, or why not. turn: of the head to its camera."""

    reason: str = ""
    frame: StoredFrame | None = None
    turn: HeadTurn | None = None


class Intake:
    """Looks at the frames of one stream; the first decides how they are kept. Used by the thread that adds frames."""

    def __init__(self, config: OnlineConfig, model: RgbHead, device: torch.device) -> None:
        self.config, self.device = config, device
        self._head, self._layout = model.head, model.layout
        self._points = HeadPoints(model)
        self._triangles = model.skin_triangles.cpu().numpy()

    def plan(self, first: TrackedFrame) -> StorePlan:
        """How a stream that begins so is kept. Raises BadConfig."""
        height, width = first.rgba.shape[:2]
        mesh = 4 * (self._layout.size() + 3 * len(self._head.vertices) + 25)
        config = self.config
        return plan_store(config.sampler, config.frame_px, config.memory_mb << 20, (width, height), mesh)

    def look(self, frame: TrackedFrame, longest_px: int, store: FrameStore) -> Looked:
        """The frame as it is kept, or the reason against it."""
        try:
            frame = fitted(frame, longest_px)
            theta, vertices = self._posed(frame)
            mesh = vertices.cpu().numpy()
            iou = mask_iou(mesh, self._triangles, frame.camera, frame.rgba[..., 3])
            if iou < self.config.min_mask_iou:
                return Looked(POOR_IOU)
            return Looked("", store.made(frame, theta, vertices), self._points.turn(mesh, frame.camera))
        except EffigyError as error:
            return Looked(error.what)

    def _posed(self, frame: TrackedFrame) -> tuple[Tensor, Tensor]:
        """θ [D] and posed vertices [V, 3] of a frame."""
        pose, arrays = frame.pose, self._head.template.arrays
        rotations, translation, expression = (
            torch.from_numpy(np.array(part))[None].to(self.device)
            for part in (pose.rotations, pose.translation, pose.expression)
        )
        with torch.no_grad():
            theta = self._layout.vector(
                rotations, translation, expression, arrays.joint_names, arrays.expression_names
            )[0]
            if frame.vertices is not None:
                return theta, torch.from_numpy(np.array(frame.vertices)).to(self.device)
            return theta, self._head.posed_vertices(rotations, translation, expression)[0]
