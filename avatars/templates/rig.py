"""The rig that a person on a template is driven by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from shared.template import TemplateArrays
from shared.types import Rig


def rig_of(arrays: TemplateArrays, joints: Tensor, shape: Sequence[float]) -> Rig:
    """Joint names, parents and rest joints [J, 3] m of one person's shape (standard deviations) of a template."""
    return Rig(
        template_id=arrays.template_id,
        template_digest=arrays.digest,
        joint_names=arrays.joint_names,
        parents=arrays.parents,
        rest_joints=joints.cpu().numpy(),
        expression_names=arrays.expression_names,
        shape=np.asarray(shape, np.float32),
        expression_ranges=arrays.expression_ranges,
    )
